"""A real ``tufline`` process, stopped by its process id."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.ngclient import Updater, UpdaterConfig

from tufline.client.rest import Client

TUFLINE = str(Path(sys.executable).parent / "tufline")
READY_SECONDS = 90.0


def run_tufline(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [TUFLINE, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@dataclass
class Running:
    """A running server that is ready."""

    process: subprocess.Popen[bytes]
    api: str
    metadata: str
    targets: str
    root: Path
    log: Path

    @property
    def client(self) -> Client:
        return Client(self.api)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop the server by SIGTERM, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=20)

    def updater(self, directory: Path) -> Updater:
        """Make a TUF client of this repository."""
        (directory / "files").mkdir(parents=True, exist_ok=True)
        return Updater(
            str(directory),
            self.metadata,
            target_dir=str(directory / "files"),
            target_base_url=self.targets,
            config=UpdaterConfig(prefix_targets_with_hash=False),
            bootstrap=self.root.read_bytes(),
        )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait until a condition of another process holds, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


def start_dev(data: Path, *arguments: str | Path, before: Sequence[str] = ()) -> Running:
    """Start ``tufline dev`` on free ports, optionally wrapped by the command ``before``, and wait until its repository is published."""
    ready, log = data / "ready.json", data.with_name(f"{data.name}.log")
    ready.unlink(missing_ok=True)
    command = [*before, TUFLINE, "dev", "--data", data, "--port", "0", "--web-port", "0", *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, f"no ready.json; see {log}")
        assert process.poll() is None, log.read_text()
        urls = json.loads(ready.read_text())
        return Running(process, urls["api"], urls["metadata"], urls["targets"], Path(urls["root"]), log)
    except BaseException:
        process.kill()
        process.wait()
        raise


@contextmanager
def dev(data: Path, *arguments: str | Path, before: Sequence[str] = ()) -> Iterator[Running]:
    """Run ``tufline dev`` during the block."""
    running = start_dev(data, *arguments, before=before)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def artifact(path: str, number: int) -> dict[str, object]:
    """Make an artifact of a request; the number distinguishes it from others with the same path."""
    return {"path": path, "info": {"length": number, "hashes": {"sha256": f"{number:064x}"}}}


def lengths(running: Running, directory: Path, paths: Sequence[str]) -> dict[str, int]:
    """Ask a TUF client for the lengths of artifacts; artifacts that are not live are omitted."""
    updater = running.updater(directory)
    found = {path: updater.get_targetinfo(path) for path in paths}
    return {path: info.length for path, info in found.items() if info is not None}


@contextmanager
def serve(directory: Path) -> Iterator[Running]:
    """Run ``tufline serve`` in a directory that has its configuration, and the keys that ``tufline init --out keys`` made."""
    log = directory.with_name(f"{directory.name}.log")
    with log.open("ab") as output, subprocess.Popen([TUFLINE, "serve"], cwd=directory, stdout=subprocess.PIPE, stderr=output) as process:
        try:
            assert process.stdout is not None
            api, _, metadata = process.stdout.readline().decode().strip().removeprefix("REST API ").partition("/api/v1/, metadata ")
            assert metadata, log.read_text()
            yield Running(process, api, metadata, "", directory / "keys" / "root.json", log)
        finally:
            process.kill()
