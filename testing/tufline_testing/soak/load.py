"""The work that goes on during a soak: producers change paths over and over, and TUF clients look them up.

Each path has one producer, and each addition of it is longer than the one before: so whoever sees a path get shorter has seen a change that
was put back over a newer one, or applied twice.
"""

import http.server
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from tuf.ngclient import Updater, UpdaterConfig

from tufline.client.rest import Client
from tufline.errors import TuflineError
from tufline_testing.soak.report import Report

PATHS: Final = 60
"""How many paths each producer changes over and over."""

REMOVALS: Final = 0.1
"""Which part of the changes are removals."""

FOLLOWED: Final = 10
"""A producer waits for each so-manieth change until it is live, and so never runs far ahead."""

CLIENTS: Final = 2
RETRY_SECONDS: Final = 0.2

History = dict[str, list[int | None]]
"""Path to the lengths that it was given one after the other; None where it was removed."""


class Sender(Protocol):
    """How a producer hands changes over, and learns what became of them.

    Attributes:
        kind: names the way, for the report.
    """

    kind: str

    def send(self, path: str, length: int | None) -> Callable[[], bool]:
        """Send a change.

        Args:
            path: of the artifact.
            length: that it is given; None to remove it.

        Returns:
            What says whether it is live.

        Raises:
            TuflineError: it may be accepted or not: send it again.
        """


class RestSender:
    """Sends to the REST API of any ingest that runs."""

    kind = "REST"

    def __init__(self, urls: Callable[[], Sequence[str]], first: int) -> None:
        """Begin.

        Args:
            urls: says which ingests run.
            first: which of them to begin with; after a failure it is the next one's turn.
        """
        self._urls = urls
        self._turn = first

    def send(self, path: str, length: int | None) -> Callable[[], bool]:
        """See ``Sender.send``."""
        if length is None:
            task = self._request("POST", "/api/v1/artifacts/delete", {"artifacts": [path]})["task_id"]
        else:
            info = {"length": length, "hashes": {"sha256": f"{length:064x}"}}
            task = self._request("POST", "/api/v1/artifacts/", {"artifacts": [{"path": path, "info": info}]})["task_id"]
        return lambda: bool(self._request("GET", f"/api/v1/task/?task_id={task}")["state"] == "SUCCESS")

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        urls = self._urls()
        try:
            return Client(urls[self._turn % len(urls)]).request(method, path, body)["data"]
        except TuflineError:
            self._turn += 1
            raise


class Load:
    """Producers and clients, each in a thread.

    Attributes:
        metadata: the URL of the origin; it is served as long as the process lives.
        history: what the producers sent.
    """

    def __init__(self, origin: Path, root: Path, report: Report, patience_seconds: float) -> None:
        """Serve the origin; nothing else goes on yet.

        Args:
            origin: its directory.
            root: the file of the root that clients trust.
            report: where it is said what was seen.
            patience_seconds: after so long what was accepted must be live.
        """
        self._root = root
        self._report = report
        self._patience = patience_seconds
        self._stop = threading.Event()
        self._has_failed = False
        self.history: History = {}
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(origin)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.metadata = f"http://127.0.0.1:{server.server_port}/metadata/"

    @contextmanager
    def going_on(self, senders: Sequence[Sender]) -> Iterator[None]:
        """Produce and refresh during the block; after it all that was begun is accepted, unless the block fails.

        Args:
            senders: one for each producer.

        Yields:
            Nothing.
        """
        work = [partial(self._produce, number, sender) for number, sender in enumerate(senders)]
        work += [partial(self._refresh, number, len(senders)) for number in range(CLIENTS)]
        threads = [threading.Thread(target=self._guarded, args=[one]) for one in work]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            self._has_failed = True  # what runs no more will never accept what was begun
            raise
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def client(self, directory: str) -> Updater:
        """Make a TUF client.

        Args:
            directory: where it keeps what it knows.
        """
        config = UpdaterConfig(prefix_targets_with_hash=False)
        return Updater(directory, self.metadata, config=config, bootstrap=self._root.read_bytes())

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (as an executor does)
            self._report.problem(f"a thread of the load ended: {type(error).__name__}: {error}")

    def _produce(self, number: int, sender: Sender) -> None:
        chance = random.Random(number)
        sent = 0
        while not self._stop.is_set():
            sent += 1
            path = f"{number}/{chance.randrange(PATHS)}"
            length = None if chance.random() < REMOVALS else sent
            # Before it is sent: what is not acknowledged may be live all the same.
            self.history.setdefault(path, []).append(length)
            is_live = self._send(sender, path, length)
            if is_live is None:
                return
            with self._report.lock:
                self._report.sent[sender.kind] += 1
            if sent % FOLLOWED == 0:
                self._await(is_live, path)
            time.sleep(chance.uniform(0, 0.1))

    def _send(self, sender: Sender, path: str, length: int | None) -> Callable[[], bool] | None:
        began = time.monotonic()
        while True:
            try:
                return sender.send(path, length)
            except TuflineError as failure:
                if self._has_failed:
                    return None
                if time.monotonic() > began + self._patience:
                    self._report.problem(f"{sender.kind}: a change of {path} is not accepted in {self._patience:g} s: {failure}")
                    return None
                time.sleep(RETRY_SECONDS)

    def _await(self, is_live: Callable[[], bool], path: str) -> None:
        began = time.monotonic()
        while not self._is_true(is_live):
            if self._has_failed:
                return
            if time.monotonic() > began + self._patience:
                self._report.problem(f"a change of {path} is not live {self._patience:g} s after it was accepted")
                return
            time.sleep(RETRY_SECONDS)
        with self._report.lock:
            self._report.slowest = max(self._report.slowest, time.monotonic() - began)

    @staticmethod
    def _is_true(asked: Callable[[], bool]) -> bool:
        with suppress(TuflineError):
            return asked()
        return False

    def _refresh(self, number: int, producers: int) -> None:
        chance = random.Random(-1 - number)
        with tempfile.TemporaryDirectory() as directory:
            seen: dict[str, int] = {}
            while not self._stop.is_set():
                path = f"{chance.randrange(producers)}/{chance.randrange(PATHS)}"
                try:
                    info = self.client(directory).get_targetinfo(path)
                except Exception as error:  # noqa: BLE001 (whatever a client says is a finding)
                    self._report.problem(f"client {number}: {type(error).__name__}: {error}")
                    time.sleep(RETRY_SECONDS)
                    continue
                if info is not None:
                    if info.length < seen.get(path, 0):
                        self._report.problem(f"client {number}: {path} went back from {seen[path]} to {info.length}")
                    seen[path] = info.length
                with self._report.lock:
                    self._report.refreshes += 1
                time.sleep(0.05)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""
