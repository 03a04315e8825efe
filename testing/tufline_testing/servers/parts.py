"""External programs that tests run: fetched or built once, and kept for all checkouts in the user's cache.

Each part is a directory ``NAME-VERSION``. The version is a digest of what determines the part: its lock file or sources, and the platform.
So checkouts that need different versions do not disturb each other. A part is made under a temporary name and renamed when it is
complete; a lock lets one process make it while others wait. ``SHA256SUMS`` in it lists its files: before a process first uses a part it
compares them, and makes a damaged part again. Any part can be deleted while nothing uses it: it is then fetched again.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Final

PARTS: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tufline" / "parts"

SUMS: Final = "SHA256SUMS"
"""The file that lists the files of a part, in the format of ``sha256sum``."""

REWRITTEN: Final = ".pyc"
"""Python may rewrite these at any time, so they are not listed."""

PYTHON: Final = Path("bin") / "python"
"""The path of the interpreter in an environment."""

PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")

_only_look: ContextVar[bool] = ContextVar("_only_look", default=False)

_intact: set[Path] = set()
"""The parts that this process has compared with their sums."""


class MissingPartError(Exception):
    """A part is not available; the message tells what to install."""


def location(name: str, sources: Sequence[Path]) -> Path:
    """Return where a part is, or will be.

    Args:
        name: name of the part.
        sources: files that determine the part's content.

    Returns:
        The directory; it exists if the part has been made.
    """
    contents = [source.read_bytes() for source in sources]
    digest = hashlib.sha256(b"\0".join([*contents, platform.system().encode(), platform.machine().encode()])).hexdigest()
    return PARTS / f"{name}-{digest[:12]}"


@contextlib.contextmanager
def only_look() -> Iterator[None]:
    """Make no parts in this context: a part that the cache does not have is missing, and none is checked for damage."""
    token = _only_look.set(True)
    try:
        yield
    finally:
        _only_look.reset(token)


def kept(name: str, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """Make a part, unless the cache has it undamaged.

    Args:
        name: name of the part.
        sources: files that determine the part's content, such as its lock file.
        make: makes the part in an empty directory, which is renamed afterwards.

    Returns:
        The directory with the part.

    Raises:
        MissingPartError: if ``make`` raises it.
    """
    directory = location(name, sources)
    if _only_look.get():
        if directory.exists():
            return directory
        raise MissingPartError(f"{name} has not been fetched yet")
    if directory in _intact and directory.exists():
        return directory
    PARTS.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        if directory.exists() and (problem := _damage(directory)):
            print(f"{directory} is damaged ({problem}), so it is made again", file=sys.stderr)
            shutil.rmtree(directory)
        if not directory.exists():
            _make(directory, make)
    _intact.add(directory)
    return directory


def wheel(name: str, lock: Path) -> Path:
    """Unpack the wheel of a program, once for each version of its lock file.

    Args:
        name: name of the part.
        lock: the lock file, which names the wheel and its hashes.

    Returns:
        The directory with what the wheel holds.

    Raises:
        MissingPartError: if pip can't get it.
    """

    def make(directory: Path) -> None:
        _install(lock, [*PIP, "install", "--target", str(directory)])

    return kept(name, [lock], make)


def environment(name: str, lock: Path) -> Path:
    """Install Python packages in an environment of their own, once for each version of their lock file and each version of Python.

    Args:
        name: name of the part.
        lock: the lock file.

    Returns:
        The environment's Python.

    Raises:
        MissingPartError: if pip can't get the packages.
    """

    def make(directory: Path) -> None:
        venv.create(directory, symlinks=True)
        _install(lock, [*PIP, "--python", str(directory / PYTHON), "install"])

    return kept(f"{name}-{sys.version_info.major}.{sys.version_info.minor}", [lock], make) / PYTHON


def _install(lock: Path, command: Sequence[str]) -> None:
    done = subprocess.run([*command, "--quiet", "--require-hashes", "-r", str(lock)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingPartError(f"pip can't install {lock.name}:\n{done.stderr[-2000:]}")


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Keep other processes from making the same part; the lock is released when the process ends for any reason."""
    with directory.with_name(f".{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(directory: Path, make: Callable[[Path], None]) -> None:
    for killed in directory.parent.glob(f"{directory.name}.*"):
        shutil.rmtree(killed, ignore_errors=True)
    # A new name each time: a program that a killed process started may still write to the old directory.
    making = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", dir=directory.parent))
    try:
        make(making)
        making.joinpath(SUMS).write_text("".join(f"{_digest(file)}  {file.relative_to(making)}\n" for file in _files(making)))
        making.chmod(0o755)  # every user may read a part, but mkdtemp restricts access
        making.rename(directory)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != REWRITTEN)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _damage(directory: Path) -> str:
    """Return what is wrong with a part; empty if nothing is."""
    sums = directory / SUMS
    if not sums.exists():
        return f"it has no {SUMS}"
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if _digest(file) != digest:
            return f"{name} has changed"
    return ""
