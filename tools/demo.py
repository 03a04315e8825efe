"""Demonstrates the main task on real input: secure Tufline's own dependencies, attack them, and verify with an unmodified TUF client.

Run it with ``make demo``. It needs no server: everything is one process of ``tufline dev`` on loopback. Its files are in ``.demo/``. The
exit code is 0 only if every printed result was verified.
"""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import urllib3
from rich.console import Console
from rich.progress import Progress
from tuf.ngclient import Updater, UpdaterConfig

from tufline.client.rest import Client
from tufline.errors import TuflineError
from tufline_cli.commands.sources import describe_file
from tufline_cli.commands.verify import REFUSALS

HERE: Final = Path(__file__).resolve().parent.parent
WORK: Final = HERE / ".demo"
PACKAGES: Final = WORK / "packages"
DATA: Final = WORK / "data"

BINS: Final = 1024
LEAST_WHEELS: Final = 30
AT_ONCE: Final = 8
SECOND_BATCH: Final = 400
ERROR_WIDTH: Final = 64
"""How many characters of an error are printed, so that it fits into a line."""

READY_SECONDS: Final = 30.0
LIVE_SECONDS: Final = 60.0

console = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """A step of the demo failed."""


def check(condition: object, what: str) -> None:
    """End the demo unless a condition holds."""
    if not condition:
        raise DemoError(what)


def step(number: int, text: str) -> None:
    """Print the heading of a step."""
    console.print(f"[bold]{number}.[/bold] {text}")


def arrange(wheels: Path) -> list[str]:
    """Arrange the wheels as a package index does, and return their target paths."""
    shutil.rmtree(PACKAGES, ignore_errors=True)
    for wheel in wheels.glob("*.whl"):
        project = PACKAGES / wheel.name.split("-")[0].lower().replace("_", "-")
        project.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, project)
    return sorted(path.relative_to(WORK).as_posix() for path in PACKAGES.glob("*/*.whl"))


def progress_bars() -> Progress:
    """Make progress bars, which only a terminal shows."""
    return Progress(console=console, transient=True, disable=not console.is_interactive)


@dataclass
class Server:
    """A running ``tufline dev``."""

    process: subprocess.Popen[bytes]
    api: Client
    metadata: str
    targets: str
    root: bytes


def start() -> Server:
    """Start ``tufline dev``, on free ports, and wait until it is ready."""
    ready = DATA / "ready.json"
    ready.unlink(missing_ok=True)
    command = [str(Path(sys.executable).parent / "tufline"), "dev", "--data", str(DATA), "--bins", str(BINS)]
    log = (WORK / "server.log").open("ab")
    process = subprocess.Popen([*command, "--port", "0", "--web-port", "0", "--targets", str(WORK)], stdout=log, stderr=log, cwd=WORK)
    log.close()
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists():
        check(process.poll() is None, f"tufline dev ended with {process.returncode}; see {WORK / 'server.log'}")
        check(time.monotonic() < deadline, "tufline dev is not ready in time")
        time.sleep(0.02)
    urls = json.loads(ready.read_text())
    server = Server(process, Client(urls["api"]), urls["metadata"], urls["targets"], Path(urls["root"]).read_bytes())
    while server.api.request("GET", "/api/v1/bootstrap/")["data"].get("state") != "finished":
        check(time.monotonic() < deadline, "the first metadata is not published in time")
        time.sleep(0.02)
    return server


def register(server: Server, paths: list[str], label: str, on_accepted: Callable[[], None] = lambda: None) -> tuple[list[str], list[float]]:
    """Register files over REST, one per request as after an upload, and wait until they are live.

    Returns the paths of all accepted requests, and for each request the seconds from acceptance until it was live. If the server dies in
    between, only the requests that it had not answered fail.
    """
    accepted: list[str] = []
    seconds: list[float] = []

    def one(path: str) -> tuple[bool, float | None]:
        body = {"artifacts": [describe_file(WORK / path, path)]}
        try:
            task = server.api.request("POST", "/api/v1/artifacts/", body)["data"]["task_id"]
        except TuflineError:
            return False, None
        began = time.monotonic()
        on_accepted()
        try:
            server.api.request("GET", f"/api/v1/task/?task_id={task}")
            result = server.api.wait_for_task(task, began + LIVE_SECONDS) if server.process.poll() is None else None
        except TuflineError:
            return True, None
        return True, None if result is None or not result["status"] else time.monotonic() - began

    with ThreadPoolExecutor(AT_ONCE) as pool, progress_bars() as bars:
        bar = bars.add_task(label, total=len(paths))
        requests = {pool.submit(one, path): path for path in paths}
        for done in as_completed(requests):
            was_accepted, took = done.result()
            accepted += [requests[done]] if was_accepted else []
            seconds += [took] if took is not None else []
            bars.update(bar, advance=1)
    return accepted, seconds


class Victim:
    """A TUF client with its own state, as on a user's machine."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._directory = WORK / "clients" / name
        (self._directory / "files").mkdir(parents=True, exist_ok=True)

    def updater(self, metadata: str | None = None, targets: str | None = None) -> Updater:
        """Start a session, as each run of a client does."""
        return Updater(
            str(self._directory),
            metadata or self._server.metadata,
            target_dir=str(self._directory / "files"),
            target_base_url=targets or self._server.targets,
            config=UpdaterConfig(prefix_targets_with_hash=False),
            bootstrap=self._server.root,
        )

    def download(self, path: str, updater: Updater) -> None:
        """Download a file; the client verifies it."""
        info = updater.get_targetinfo(path)
        check(info is not None, f"the client does not find {path}")
        assert info is not None
        updater.download_target(info, str(self._directory / "files" / path.replace("/", "!")))


@dataclass
class Mirror:
    """A compromised mirror, which forwards every request except those that it answers itself."""

    answers: dict[str, bytes] = field(default_factory=dict)
    url: str = ""


@contextmanager
def compromised_mirror(server: Server) -> Iterator[Mirror]:
    """Run a mirror between client and origin that can replace any answer."""
    upstream, pool, mirror = server.metadata.removesuffix("/metadata/"), urllib3.PoolManager(), Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            forged = mirror.answers.get(self.path)
            response = None if forged is not None else pool.request("GET", upstream + self.path)
            status, content = (200, forged) if response is None else (response.status, response.data)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        mirror.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield mirror
        httpd.shutdown()


def get(server: Server, name: str) -> bytes:
    """Fetch a metadata file from the origin."""
    response = urllib3.request("GET", server.metadata + name)
    check(response.status == http.HTTPStatus.OK, f"{name} is not at the origin")
    return response.data


def flip(content: bytes) -> bytes:
    """Change one byte."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def attack(server: Server, path: str, old_timestamp: bytes, old_snapshot: bytes) -> int:
    """Run attacks against a client that knows the repository, and return how many it refused."""
    live = server.api.request("GET", f"/api/v1/artifacts/{path}")
    bin_name = f"{live['role_version']}.{live['role']}.json"
    snapshot_name = f"{live['snapshot_version']}.snapshot.json"
    forged_bin = get(server, bin_name).replace(live["hashes"]["sha256"].encode(), b"0" * 64)
    older_bin = get(server, f"1.{live['role']}.json")
    attacks = {
        "a changed artifact": {f"/targets/{path}": flip((WORK / path).read_bytes())},
        "a changed bin, which vouches for another file": {f"/metadata/{bin_name}": forged_bin},
        "an older timestamp, played back": {"/metadata/timestamp.json": old_timestamp},
        "mixed snapshots: an older one under the new timestamp": {f"/metadata/{snapshot_name}": old_snapshot},
        "mixed snapshots: an older bin under the new snapshot": {f"/metadata/{bin_name}": older_bin},
    }
    refused = 0
    with compromised_mirror(server) as mirror:
        for number, (name, answers) in enumerate(attacks.items()):
            # This client has only seen the newest timestamp: it has to fetch everything else from the mirror.
            victim = Victim(server, f"attacked-{number}")
            victim.updater().refresh()
            for known in ("snapshot.json", f"{live['role']}.json"):
                (WORK / "clients" / f"attacked-{number}" / known).unlink(missing_ok=True)
            mirror.answers = answers
            try:
                victim.download(path, victim.updater(f"{mirror.url}/metadata/", f"{mirror.url}/targets/"))
            except REFUSALS as error:
                refused += 1
                reason = str(error) if len(str(error)) <= ERROR_WIDTH else f"{str(error)[:ERROR_WIDTH]}…"
                console.print(f"   [green]refused[/green] {name}\n      {type(error).__name__}: {reason}")
            else:
                console.print(f"   [red]ACCEPTED[/red] {name}")
    check(refused == len(attacks), "the client accepted an attack")
    return refused


def make_second_batch() -> list[str]:
    """Make small files to publish in the second batch."""
    directory = WORK / "packages" / "second-batch"
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(SECOND_BATCH):
        (directory / f"file-{number:04}.txt").write_text(f"file {number} of the second batch\n")
    return [f"packages/second-batch/file-{number:04}.txt" for number in range(SECOND_BATCH)]


def kill_in_the_middle(server: Server, paths: list[str]) -> list[str]:
    """Register the second batch, kill the process when part of it is accepted, and return the accepted paths."""
    count = 0
    lock = threading.Lock()

    def kill_at_some_point() -> None:
        nonlocal count
        with lock:
            count += 1
            if count == len(paths) // 3:
                os.kill(server.process.pid, signal.SIGKILL)

    accepted, _ = register(server, paths, "second batch", kill_at_some_point)
    server.process.wait()
    check(0 < len(accepted) < len(paths), f"the kill came too late or too early: {len(accepted)} of {len(paths)} were accepted")
    return accepted


def verify_all(victim: Victim, paths: list[str], label: str) -> int:
    """Download files with the TUF client, which verifies each."""
    updater = victim.updater()
    updater.refresh()
    with progress_bars() as bars:
        for path in bars.track(paths, description=label):
            victim.download(path, updater)
    return len(paths)


def wait_until_live(server: Server, paths: list[str]) -> None:
    """Wait until files are live."""
    deadline = time.monotonic() + LIVE_SECONDS
    while server.api.request("GET", "/api/v1/status")["backlog"]:
        check(time.monotonic() < deadline, f"not all of {len(paths)} accepted files are live in time")
        time.sleep(0.05)


def play(source: Path) -> str:
    """Run the demo with the wheels of a directory, and return its last line."""
    step(1, "Real input: the wheels that Tufline was just installed from")
    wheels = arrange(source)
    check(len(wheels) >= LEAST_WHEELS, f"only {len(wheels)} wheels")
    size = sum((WORK / path).stat().st_size for path in wheels)
    console.print(f"   {len(wheels)} wheels, {size / 1e6:.0f} MB, such as {wheels[0]}")
    step(2, f"tufline dev: ingest, signer and publisher in one process; root and targets 2 of 3, {BINS} bins")
    shutil.rmtree(DATA, ignore_errors=True)
    shutil.rmtree(WORK / "clients", ignore_errors=True)
    server = start()
    try:
        console.print(f"   REST API {server.api.url}, metadata {server.metadata}")
        step(3, "Register every wheel over REST, until all are live")
        old_timestamp, old_snapshot = get(server, "timestamp.json"), get(server, "1.snapshot.json")
        accepted, seconds = register(server, wheels, "wheels")
        check(sorted(accepted) == wheels, "not every wheel was accepted")
        check(len(seconds) == len(wheels), "not every request became live")
        console.print(f"   {len(accepted)} live")
        step(4, "Download every one with python-tuf's client, hashes verified")
        verified = verify_all(Victim(server, "honest"), wheels, "downloads")
        console.print(f"   {verified} verified")
        step(5, "Attack: a compromised mirror between the client and the origin")
        refused = attack(server, wheels[0], old_timestamp, old_snapshot)
        step(6, "Kill the process (SIGKILL) in the middle of a second batch, and start it again")
        second = kill_in_the_middle(server, make_second_batch())
        console.print(f"   killed after {len(second)} of {SECOND_BATCH} files were accepted; starting again")
        server = start()
        wait_until_live(server, second)
        verified += verify_all(Victim(server, "honest"), second, "second batch")
        console.print(f"   all {len(second)} accepted files are live and verified")
        step(7, "From accepted to visible")
        figures = f"median {median(seconds) * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms"
        console.print(f"   {figures} ({len(seconds)} requests, {AT_ONCE} at once)")
        return f"demo: {len(wheels) + len(second)} artifacts live, {verified} verified by a TUF client, {refused} attacks refused"
    finally:
        server.process.terminate()
        server.process.wait()


def main(arguments: Sequence[str]) -> int:
    """Run the demo, and print its result; an argument names another directory with wheels."""
    WORK.mkdir(exist_ok=True)
    try:
        line = play(Path(arguments[0]) if arguments else WORK / "wheels")
    except (DemoError, TuflineError, *REFUSALS) as error:
        console.print(f"[red]the demo failed[/red]: {error}")
        return 1
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
