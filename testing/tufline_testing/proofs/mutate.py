"""Puts small mistakes into the code, one at a time, and runs the tests that must detect them: ``make mutate ONLY="NAME …"``.

The mistakes are listed in ``tests/mutations/*.toml``, by invariant of docs/explanation/guarantees.md. Each is an exact piece of a source
file and its replacement. A piece that does not occur exactly once is an error, so the list stays true to the code. The mistake is made in a
copy of the work tree, where its tests are run. A mistake that no test detects has survived: the program prints its name and ends with exit
code 1, unless the list gives a reason why it may.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tufline_testing.checkout import ROOT

LISTS: Final = ROOT / "tests" / "mutations"
GIT: Final = shutil.which("git") or "git"
MEMORY: Final = Path("/dev/shm")

TEST_SECONDS: Final = 300.0
"""How long the tests of one mistake may run, in seconds: a mistake that makes them hang counts as detected."""

ALL_TESTS_SECONDS: Final = 3_600.0
"""How long the tests of all mistakes may run without any mistake, in seconds."""

TESTS_FAILED: Final = 1
"""Pytest's exit code if tests ran and some failed; any other code tells nothing about the mistake."""


class Mutation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mistake.

    Attributes:
        name: identifies the mistake on the command line.
        invariant: number of the broken invariant in docs/explanation/guarantees.md.
        file: path of the source file, relative to the repository's root.
        before: a piece of the file that occurs exactly once.
        after: the replacement.
        tests: files or ids of tests, at least one of which must fail.
        survives: why no test needs to detect it; empty if one must.
        slow: whether to run the tests marked as slow, which start servers, instead of the others.
    """

    name: str
    invariant: int
    file: str
    before: str
    after: str
    tests: list[str]
    survives: str = ""
    slow: bool = False


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutation: list[Mutation]


def mutations(directory: Path = LISTS) -> list[Mutation]:
    """Read all lists.

    Args:
        directory: directory of the lists.

    Returns:
        The mistakes, in the order of their files.

    Raises:
        ValueError: if two mistakes have the same name.
    """
    found = [one for path in sorted(directory.glob("*.toml")) for one in msgspec.toml.decode(path.read_bytes(), type=_List).mutation]
    if doubled := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise ValueError(f"two mutations have the name {doubled[0]}")
    return found


def mutate(tree: Path, mutation: Mutation) -> None:
    """Make a mistake in a tree.

    Args:
        tree: the repository's root.
        mutation: the mistake to make.

    Raises:
        ValueError: if the piece does not occur in the file exactly once.
    """
    path = tree / mutation.file
    source = path.read_text()
    if (count := source.count(mutation.before)) != 1:
        raise ValueError(f"{mutation.name}: the piece occurs {count} times in {mutation.file}, but must occur exactly once: adapt the list")
    path.write_text(source.replace(mutation.before, mutation.after))


def copy_tree(to: Path) -> None:
    """Copy the files that git tracks, with their contents in the work tree.

    Args:
        to: a new directory.
    """
    names = subprocess.run([GIT, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def run_tests(tree: Path, tests: Sequence[str], seconds: float = TEST_SECONDS, *, slow: bool = False) -> tuple[int, str]:
    """Run tests in a tree, up to the first failure.

    Args:
        tree: the repository's root.
        tests: files or ids.
        seconds: how long they may run.
        slow: whether to run only the tests marked as slow, or only the others.

    Returns:
        Pytest's exit code (``TESTS_FAILED`` also if they hang), and the end of its output.
    """
    places = [tree, tree / "cli", tree / "testing", *(tree / "services").iterdir()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "slow" if slow else "not slow", *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return TESTS_FAILED, "the tests hang"
    return done.returncode, done.stdout[-2000:]


def try_mutation(tree: Path, mutation: Mutation) -> bool:
    """Make a mistake, run its tests, and restore the file.

    Args:
        tree: a copy of the repository.
        mutation: the mistake to try.

    Returns:
        Whether a test detected it.

    Raises:
        RuntimeError: if the tests could not run at all.
    """
    path = tree / mutation.file
    source = path.read_text()
    try:
        mutate(tree, mutation)
        code, output = run_tests(tree, mutation.tests, slow=mutation.slow)
    finally:
        path.write_text(source)
    if code not in {0, TESTS_FAILED}:
        raise RuntimeError(f"{mutation.name}: pytest ended with exit code {code}, so the result is unknown:\n{output}")
    return code == TESTS_FAILED


def main() -> None:
    """Try the mistakes named on the command line, or all."""
    listed = mutations()
    if unknown := sorted(set(sys.argv[1:]) - {one.name for one in listed}):
        sys.exit(f"unknown mutation {', '.join(unknown)}")
    chosen = [one for one in listed if one.name in sys.argv[1:]] or listed
    survived, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        tree = Path(directory)
        copy_tree(tree)
        for slow in sorted({one.slow for one in chosen}):
            tests = sorted({test for one in chosen if one.slow is slow for test in one.tests})
            code, output = run_tests(tree, tests, ALL_TESTS_SECONDS, slow=slow)
            if code != 0:
                sys.exit(f"The tests fail without any mistake, so they prove nothing:\n{output}")
        for one in chosen:
            seen = try_mutation(tree, one)
            survives = f"survives: {one.survives}" if one.survives else "SURVIVED"
            print(f"{one.name}: {'seen' if seen else survives}", flush=True)
            survived += [one.name] if not seen and not one.survives else []
    print(f"{len(chosen)} mistakes, {len(survived)} survived, {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
