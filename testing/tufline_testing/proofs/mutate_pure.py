"""Changes the expressions of the pure modules one by one, and runs the tests that must detect it: ``make mutate-pure SEED=1``.

Cosmic Ray finds the possible changes (operators, comparisons, numbers, conditions, exceptions, loops), and runs the tests. The modules and
their tests are listed in ``tests/mutations/pure/modules.toml``. A change that no test detects has survived. Each survivor is either killed
by a new test, or listed with a reason in ``tests/mutations/pure/survivors.toml``; any other makes the program end with exit code 1.

All changes together take longer than an hour, so a run tries a share of each module: ``SHARE`` changes, chosen by the seed. Consecutive
seeds try different shares, until every change has been tried. With ``all`` instead of the seed, every change is tried.
"""

import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import TestOutcome

from tufline_testing.checkout import ROOT
from tufline_testing.proofs.mutate import MEMORY, copy_tree
from tufline_testing.proofs.pure_changes import SHARE, Change, choose_share, find_changes

LISTS: Final = ROOT / "tests" / "mutations" / "pure"

SLOWER: Final = 3.0
"""How many times longer than without a change the tests may run: a change that makes them hang counts as detected."""

LEAST_SECONDS: Final = 20.0
"""The shortest time limit for the tests of a change, in seconds: a busy machine does not count as a hang."""

BASELINE_SECONDS: Final = 600.0
"""How long the tests of a module may run without any change, in seconds."""


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module and its tests.

    Attributes:
        file: path of the module, relative to the repository's root.
        tests: files or ids of tests that run in seconds, without servers.
    """

    file: str
    tests: list[str]


class Survivor(Change, frozen=True, forbid_unknown_fields=True):
    """A change that no test needs to detect.

    Attributes:
        reason: why not.
    """

    reason: str

    @property
    def change(self) -> Change:
        """The change itself."""
        return Change(self.file, self.function, self.before, self.after)


class _Modules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    module: list[Module]


class _Survivors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    survivor: list[Survivor] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        tried: number of changes tried.
        unexplained: survivors without a recorded reason.
        gone: recorded survivors that can no longer be made.
        killed: recorded survivors that a test detected.
    """

    tried: int
    unexplained: Sequence[Change]
    gone: Sequence[Change]
    killed: Sequence[Change]


def read_modules(directory: Path = LISTS) -> list[Module]:
    """Read the list of modules.

    Args:
        directory: directory of the lists.

    Returns:
        The modules, in the order of the list.
    """
    return msgspec.toml.decode((directory / "modules.toml").read_bytes(), type=_Modules).module


def read_survivors(directory: Path = LISTS) -> list[Survivor]:
    """Read the list of recorded survivors.

    Args:
        directory: directory of the lists.

    Returns:
        The changes with their reasons.

    Raises:
        ValueError: if one has no reason.
    """
    survivors = msgspec.toml.decode((directory / "survivors.toml").read_bytes(), type=_Survivors).survivor
    if bare := [one for one in survivors if not one.reason.strip()]:
        raise ValueError(f"the survivor {bare[0].after!r} in {bare[0].file} has no reason: explain why no test needs to detect it")
    return survivors


def make_command(tree: Path, tests: Sequence[str], seed: int, *, write_bytecode: bool = False) -> str:
    """Make the command that runs tests in a tree, in a fixed order and up to the first failure.

    Reading bytecode halves the time of a run. It is written once, before any change.

    Args:
        tree: the repository's root.
        tests: files or ids.
        seed: seed of the tests that draw random examples.
        write_bytecode: whether to write bytecode for the following runs.

    Returns:
        The command line.
    """
    places = [tree, tree / "cli", tree / "testing", *sorted((tree / "services").glob("*"))]
    without = [word for plugin in ("cacheprovider", "randomly", "xdist") for word in ("-p", f"no:{plugin}")]
    options = ["-q", "-x", *without, "--hypothesis-profile=mutation", f"--hypothesis-seed={seed}", "-m", "not slow"]
    environment = [f"PYTHONPATH={os.pathsep.join(map(str, places))}", f"PYTHONPYCACHEPREFIX={tree / '.bytecode'}"]
    unset = ["-u", "PYTHONDONTWRITEBYTECODE"] if write_bytecode else []  # Cosmic Ray sets it
    return shlex.join(["env", *unset, *environment, sys.executable, "-m", "pytest", *options, *tests])


def show(change: Change) -> str:
    """Format a change for the list of survivors.

    Args:
        change: the change.

    Returns:
        A TOML table, whose reason still has to be written.
    """
    fields = {**msgspec.structs.asdict(change), "reason": ""}
    return "[[survivor]]\n" + "".join(f"{name} = {json.dumps(text)}\n" for name, text in fields.items())


def try_module(tree: Path, module: Module, seed: int | None, allowed: Sequence[Survivor], share: int = SHARE) -> Outcome:
    """Try changes of a module, printing each that survives.

    Args:
        tree: a copy of the repository.
        module: the module to change.
        seed: chooses the changes, as for ``choose_share``.
        allowed: recorded survivors, of any module.
        share: the most changes to try.

    Returns:
        The result.

    Raises:
        RuntimeError: if the tests fail without a change, or a change could not be made.
    """
    changes = find_changes(tree, module.file)
    recorded = {one.change: one for one in allowed if one.file == module.file}
    command = make_command(tree, module.tests, seed or 0)
    with contextlib.chdir(tree):
        os.utime(module.file, (0, 0))  # no change has this time, so this bytecode is never used for a changed file
        began = time.monotonic()
        baseline = mutate_and_test([], make_command(tree, module.tests, seed or 0, write_bytecode=True), BASELINE_SECONDS)
        seconds = time.monotonic() - began
        if baseline.test_outcome is not TestOutcome.SURVIVED:
            raise RuntimeError(f"the tests of {module.file} fail without any change, so they prove nothing:\n{baseline.output}")
        chosen = choose_share(changes, seed, share)
        survived = []
        for change in chosen:
            result = mutate_and_test([changes[change]], command, max(LEAST_SECONDS, seconds * SLOWER))
            if result.test_outcome not in {TestOutcome.SURVIVED, TestOutcome.KILLED}:
                raise RuntimeError(f"{change} could not be tried:\n{result.output}")
            if result.test_outcome is TestOutcome.SURVIVED:
                survived.append(change)
                if change not in recorded:
                    print(f"SURVIVED: kill it by a test, or record it with a reason\n{show(change)}", flush=True)
    unexplained = [one for one in survived if one not in recorded]
    killed = [one for one in chosen if one in recorded and one not in survived]
    gone = [one for one in recorded if one not in changes]
    print(f"{module.file}: {len(chosen)} of {len(changes)} changes, {len(survived)} survived, {time.monotonic() - began:.0f} s", flush=True)
    return Outcome(len(chosen), unexplained, gone, killed)


def main() -> None:
    """Try the modules named on the command line, or all."""
    seed = None if sys.argv[1] == "all" else int(sys.argv[1])
    listed, allowed = read_modules(), read_survivors()
    if unknown := sorted(set(sys.argv[2:]) - {one.file for one in listed}):
        sys.exit(f"unknown module {', '.join(unknown)}; tests/mutations/pure/modules.toml lists {', '.join(one.file for one in listed)}")
    print(f"seed {sys.argv[1]}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        tree = Path(directory)
        copy_tree(tree)
        outcomes = [try_module(tree, one, seed, allowed) for one in listed if one.file in sys.argv[2:] or not sys.argv[2:]]
    unexplained = [change for one in outcomes for change in one.unexplained]
    stale = [(change, "no longer exists") for one in outcomes for change in one.gone]
    stale += [(change, "is killed by a test") for one in outcomes for change in one.killed]
    for change, why in stale:
        print(f"STALE: this recorded survivor {why}; remove it\n{show(change)}", flush=True)
    tried = sum(one.tried for one in outcomes)
    print(
        f"{tried} changes of {len(outcomes)} modules, {len(unexplained)} survived without a reason, {len(stale)} recorded ones are stale, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
