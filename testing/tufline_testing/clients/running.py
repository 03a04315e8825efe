"""TUF clients in three languages behind one interface: python-tuf, tuf-js and go-tuf, as released.

Each runs a ``Job``: refresh from a trusted root, then look up and download some target paths. The clients in other languages are programs
in ``go_tuf`` and ``tuf_js`` that read many jobs as lines of JSON. The fixture ``conftest.clients`` provides the newest version of all
three, ``conftest.every_client`` the oldest supported one too, which ``tufline.metadata.profiles`` names.
"""

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tufline.metadata.profiles import GO_TUF, PYTHON_TUF, TUF_JS
from tufline_testing.clients import builds, python_tuf

JOB_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Job:
    """A client's task.

    Attributes:
        metadata_url: URL of the metadata, with a trailing slash.
        targets_url: URL of the files, with a trailing slash.
        root: file with the root that the client trusts initially.
        directory: the client's state; a client that runs again trusts what it finds there.
        paths: target paths to look up and download.
        prefix_hash: whether the client asks for ``<hash>.<name>``, as consistent snapshots may.
        timeout: timeout of each request, in seconds.
    """

    metadata_url: str
    targets_url: str
    root: Path
    directory: Path
    paths: Sequence[str] = ()
    prefix_hash: bool = False
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class File:
    """The result for one target path.

    Attributes:
        path: the target path.
        found: whether the client found it in the metadata.
        sha256: hex digest of the downloaded and accepted file; empty if there is none.
        error: why the file was not accepted; empty if it was, or was not found.
    """

    path: str
    found: bool = False
    sha256: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a job.

    Attributes:
        files: one result for each path; empty if the client could not refresh.
        error: why the client could not refresh; empty if it could.
    """

    files: list[File] = field(default_factory=list)
    error: str = ""


class Client(Protocol):
    """A TUF client."""

    @property
    def name(self) -> str:
        """Name of the client, in its project's spelling."""
        ...

    def run(self, job: Job) -> Result:
        """Refresh and download; errors of the client are part of the result."""
        ...


def _asked(job: Job) -> dict[str, Any]:
    return asdict(job) | {"root": str(job.root), "directory": str(job.directory), "paths": list(job.paths)}


def _result(said: dict[str, Any]) -> Result:
    return Result([File(**file) for file in said.get("files") or []], said.get("error", ""))


class PythonTuf:
    """python-tuf's ngclient, in this process."""

    name = PYTHON_TUF.name

    def run(self, job: Job) -> Result:
        return _result(python_tuf.run(_asked(job)))


class Program:
    """A client that is a program of its own: it reads jobs and writes results."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def run(self, job: Job) -> Result:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(_asked(job)) + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=JOB_SECONDS)
        assert line, f"{self.name} ended with {self._process.wait()}: see its standard error"
        return _result(json.loads(line))


@contextmanager
def _program(name: str, command: Sequence[str], **env: str) -> Iterator[Program]:
    process = subprocess.Popen(
        command, env={**os.environ, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with process:
        try:
            yield Program(name, process)
        finally:
            process.kill()


@contextmanager
def all_clients() -> Iterator[list[Client]]:
    """Run the newest version of each of the three clients.

    Yields:
        The clients, ready for jobs.

    Raises:
        MissingPartError: if a client in another language can't be built.
    """
    with ExitStack() as stack:
        yield [
            PythonTuf(),
            stack.enter_context(_tuf_js(TUF_JS.name, builds.tuf_js())),
            stack.enter_context(_program(GO_TUF.name, [str(builds.go_tuf())])),
        ]


@contextmanager
def oldest_clients() -> Iterator[list[Client]]:
    """Run the oldest supported version of each client.

    Yields:
        The clients, ready for jobs, in the order of ``all_clients``; each one's name ends with its version.

    Raises:
        MissingPartError: if a client can't be built.
    """
    in_python = [str(builds.oldest_python_tuf()), "-I", python_tuf.__file__]
    with ExitStack() as stack:
        yield [
            stack.enter_context(_program(f"{PYTHON_TUF.name} {PYTHON_TUF.oldest}", in_python)),
            stack.enter_context(_tuf_js(f"{TUF_JS.name} {TUF_JS.oldest}", builds.tuf_js(builds.OLDEST_TUF_JS))),
            stack.enter_context(_program(f"{GO_TUF.name} {GO_TUF.oldest}", [str(builds.oldest_go_tuf())])),
        ]


@contextmanager
def _tuf_js(name: str, modules: Path) -> Iterator[Program]:
    with _program(name, [str(builds.node()), str(builds.TUF_JS / "client.mjs")], TUF_JS_MODULES=str(modules)) as program:
        yield program
