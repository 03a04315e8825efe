"""The load of a soak: producers change paths repeatedly, and TUF clients look them up.

Each path has one producer, and each addition of a path is longer than the one before. So if a path gets shorter, an older change has
overwritten a newer one, or was applied twice.
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
"""How many paths each producer changes repeatedly."""

REMOVALS: Final = 0.1
"""Fraction of the changes that are removals."""

FOLLOWED: Final = 10
"""After this many changes a producer waits until the last one is live, so it never runs far ahead."""

CLIENTS: Final = 2
RETRY_SECONDS: Final = 0.2

History = dict[str, list[int | None]]
"""Path to the lengths that were sent for it, in order; None for a removal."""


class Sender(Protocol):
    """How a producer sends changes, and learns their results.

    Attributes:
        kind: the kind of sender, for the report.
    """

    kind: str

    def send(self, path: str, length: int | None) -> Callable[[], bool]:
        """Send a change.

        Args:
            path: path of the artifact.
            length: the artifact's length; None to remove it.

        Returns:
            A function that returns whether the change is live.

        Raises:
            TuflineError: if it is unknown whether the change was accepted; send it again.
        """


class RestSender:
    """Sends to the REST API of any running ingest."""

    kind = "REST"

    def __init__(self, urls: Callable[[], Sequence[str]], first: int) -> None:
        """Create the sender.

        Args:
            urls: returns the URLs of the running ingests.
            first: index of the first ingest to use; after a failure the next one is used.
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
        metadata: URL of the origin, which is served until the process ends.
        history: the changes that the producers sent.
    """

    def __init__(self, origin: Path, root: Path, report: Report, patience_seconds: float) -> None:
        """Serve the origin; producers and clients start later.

        Args:
            origin: directory of the origin.
            root: file with the root that clients trust.
            report: records counts and problems.
            patience_seconds: how long an accepted change may take to become live.
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
        """Produce and refresh during the block; afterwards every started change is accepted, unless the block fails.

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
            self._has_failed = True  # stopped services will never accept the started changes
            raise
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def client(self, directory: str) -> Updater:
        """Make a TUF client.

        Args:
            directory: directory of the client's state.
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
            # It is recorded before it is sent, because a change without an acknowledgement may still become live.
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
                except Exception as error:  # noqa: BLE001 (any error of a client is a finding)
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
