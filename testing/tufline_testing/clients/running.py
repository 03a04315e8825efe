"""TUF clients in three languages behind one interface: python-tuf, tuf-js and go-tuf, as released.

Each runs a ``Job``: refresh from a trusted root, then look up and download some target paths. The clients in other languages are programs
in ``tests/interop`` that read many jobs as lines of JSON. The fixture ``conftest.clients`` provides all three.
"""

import hashlib
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

import urllib3
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

from tufline_testing.clients import builds

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


class PythonTuf:
    """python-tuf's ngclient."""

    name = "python-tuf"

    def run(self, job: Job) -> Result:
        job.directory.mkdir(parents=True, exist_ok=True)
        known = (job.directory / "root.json").exists()
        try:
            updater = Updater(
                str(job.directory),
                job.metadata_url,
                target_dir=str(job.directory),
                target_base_url=job.targets_url,
                config=UpdaterConfig(prefix_targets_with_hash=job.prefix_hash),
                bootstrap=None if known else job.root.read_bytes(),
            )
            updater.refresh()
        except (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            return Result(error=f"{type(error).__name__}: {error}")
        return Result([self._download(updater, job, path) for path in job.paths])

    @staticmethod
    def _download(updater: Updater, job: Job, path: str) -> File:
        found = False
        try:
            info = updater.get_targetinfo(path)
            if info is None:
                return File(path)
            found = True
            saved = Path(updater.download_target(info, str(job.directory / "downloaded")))
        except (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            return File(path, found, error=f"{type(error).__name__}: {error}")
        return File(path, found, hashlib.sha256(saved.read_bytes()).hexdigest())


class Program:
    """A client that is a program in ``tests/interop``: it reads jobs and writes results."""

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
        asked: dict[str, Any] = asdict(job) | {"root": str(job.root), "directory": str(job.directory), "paths": list(job.paths)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=JOB_SECONDS)
        assert line, f"{self.name} ended with {self._process.wait()}: see its standard error"
        said = json.loads(line)
        return Result([File(**file) for file in said.get("files") or []], said.get("error", ""))


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
    """Run the three clients.

    Yields:
        The clients, ready for jobs.

    Raises:
        MissingPartError: if a client in another language can't be built.
    """
    with ExitStack() as stack:
        script = str(builds.SOURCES / "tuf_js" / "client.mjs")
        yield [
            PythonTuf(),
            stack.enter_context(_program("tuf-js", ["node", script], TUF_JS_MODULES=str(builds.tuf_js()))),
            stack.enter_context(_program("go-tuf", [str(builds.go_tuf())])),
        ]
