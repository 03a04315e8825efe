"""Prepares ``make demo``: fetches the packages that Tufline needs, and installs them with this checkout in ``.demo/venv``.

It uses only the standard library, because nothing is installed when it starts. Packages are fetched once, with their hashes checked, and
kept as wheels in the user's cache for all checkouts. They are installed from there, and are what the demo publishes. ``.venv``, the
environment of ``make test``, is not touched.
"""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import PARTS, SUMS, MissingPartError, kept, location

DEMO: Final = ROOT / ".demo"
VENV: Final = DEMO / "venv"
INSTALLED: Final = VENV / ".installed"
WHEELS: Final = DEMO / "wheels"
"""A link to the wheels, for the demo."""

LOCKS: Final = (ROOT / "requirements" / "tufline.lock", ROOT / "requirements" / "build.lock")

MEGABYTES: Final = 20
"""How much is fetched, roughly."""

FETCHING: Final = "15 seconds, longer on a slow network"
INSTALLING: Final = "15 seconds"
PLAYING: Final = "15 seconds"
"""How long each step takes, measured in a fresh clone on two cores."""

LINES_A_LOG: Final = 4
"""How many lines of progress a log shows; a terminal shows one line that changes."""

Report = Callable[[str], None]


class SetupError(Exception):
    """The environment can't be made; the message says why, and what to do."""


def packages() -> list[str]:
    """List what is to be fetched.

    Returns:
        Name and version of each locked package.
    """
    found = (line for lock in LOCKS for line in lock.read_text().splitlines() if "==" in line.partition(";")[0])
    return sorted({line.partition(" ")[0] for line in found})


def plan(count: int, *, is_fetched: bool, is_installed: bool) -> str:
    """Describe what will happen.

    Args:
        count: how many packages the demo needs.
        is_fetched: whether they are in the cache.
        is_installed: whether they are installed.

    Returns:
        What is installed where, and how long it takes.
    """
    if is_installed:
        return f"The demo's packages are installed in .demo/venv. The demo takes {PLAYING}."
    fetching = f"nothing: {_home(PARTS)} has them" if is_fetched else f"{FETCHING}: {MEGABYTES} MB, once, into {_home(PARTS)}"
    return "\n".join(
        [
            f"The demo needs {count} Python packages, and changes nothing else on this machine.",
            f"  to fetch them    {fetching}",
            f"  to install them  {INSTALLING}: in .demo/venv, which make clean removes",
            f"  to play          {PLAYING}",
        ]
    )


def _home(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


@contextlib.contextmanager
def progress(label: str, total: int, out: TextIO = sys.stdout) -> Iterator[Report]:
    """Show the progress of a step.

    Args:
        label: what the step does.
        total: the number of items to process.
        out: where to show it.

    Yields:
        A function to call with the name of each item when its processing starts.
    """
    count = 0

    def report(name: str) -> None:
        nonlocal count
        count += 1
        if out.isatty():
            print(f"\r\033[K{label}: {count} of {total}, {name}", end="", file=out, flush=True)
        elif count == 1 or count % max(1, total // LINES_A_LOG) == 0:
            print(f"{label}: {count} of {total}", file=out, flush=True)

    yield report
    if out.isatty():
        print(f"\r\033[K{label}: {count} of {total}", file=out, flush=True)


def _run(command: Sequence[str | Path], on_line: Report | None = None) -> None:
    """Run a command, and report each line of its output immediately."""
    lines: list[str] = []
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if on_line is not None:
                on_line(line)
    if process.returncode:
        raise SetupError(f"{' '.join(str(part) for part in command[:4])} … failed:\n{''.join(lines[-15:])}")


def wheels(python: Path) -> Path:
    """Fetch the wheels of all locked packages, unless the cache has them.

    Args:
        python: the interpreter for which the wheels are, with pip.

    Returns:
        The directory with the wheels, in the user's cache.

    Raises:
        SetupError: if pip can't get them.
    """

    def make(directory: Path) -> None:
        with progress("fetching packages", len(packages())) as report:

            def on_line(line: str) -> None:
                if found := re.match(r"Collecting (\S+?)==", line):
                    report(found[1])

            # pip wheel and not pip download: a package that has no wheel for this platform is built.
            pip: list[str | Path] = [python, "-m", "pip", "wheel", "--disable-pip-version-check", "--progress-bar", "off", "--no-deps"]
            _run([*pip, "--require-hashes", *(part for lock in LOCKS for part in ("-r", lock)), "-w", directory], on_line)

    return kept(_part(), LOCKS, make)


def _part() -> str:
    return f"demo-wheels-{sys.version_info.major}.{sys.version_info.minor}"


def _make_environment() -> None:
    print("making the environment …", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        _run([sys.executable, "-m", "venv", VENV])
    except SetupError as error:
        raise SetupError(f"{error}On Debian and Ubuntu, venv is a separate package: apt-get install python3-venv") from error
    python = VENV / "bin" / "python"
    source = wheels(python)
    print("installing the packages …", flush=True)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    _run([*pip, *sorted(source.glob("*.whl"))])
    _run([*pip, "--no-build-isolation", "-e", ROOT])
    if WHEELS.is_symlink():
        WHEELS.unlink()
    shutil.rmtree(WHEELS, ignore_errors=True)  # earlier versions had a directory there
    WHEELS.symlink_to(source)


def _stamp() -> str:
    """Return what the environment depends on: a moved checkout, another Python or other packages need a new one."""
    return "\n".join([str(ROOT), sys.executable, str(location(_part(), LOCKS)), (ROOT / "pyproject.toml").read_text()])


def main() -> int:
    """Print what will happen, and do it.

    Returns:
        The exit code: 0 if the demo can start.
    """
    cached = location(_part(), LOCKS)
    is_fetched = (cached / SUMS).exists()
    is_installed = is_fetched and INSTALLED.exists() and INSTALLED.read_text() == _stamp()
    print(plan(len(packages()), is_fetched=is_fetched, is_installed=is_installed), flush=True)
    if not is_installed:
        try:
            _make_environment()
        except (SetupError, MissingPartError) as error:
            print(f"the demo can't be installed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted; make demo installs it again", file=sys.stderr)
            return 130
        INSTALLED.write_text(_stamp())
    return 0


if __name__ == "__main__":
    sys.exit(main())
