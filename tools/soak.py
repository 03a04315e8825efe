"""Breaks everything that runs on Kafka, again and again, while repositories announce files and TUF clients download: ``make soak``.

Three brokers, two of each service. At random moments a process is killed, stopped past its session and woken (a zombie), or told to end,
and started anew; a broker is killed and started anew. All that time producers send and clients refresh. After it every accepted change must
be live, none put back, each role's versions consecutive with one content each, and no client may have failed.
"""

import argparse
import asyncio
import http.server
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tuf.ngclient import Updater, UpdaterConfig

from kafka_cluster import Cluster
from stack import Service, Stack
from tufline import records, topics
from tufline.bus.kafka import open_kafka
from tufline.cli.client import Client
from tufline.cli.exits import Failure
from tufline.cli.kafka import connection
from tufline.config import KafkaConfig

BINS: Final = 16
PARTITIONS: Final = 4
SESSION_SECONDS: Final = 6.0
PATHS: Final = 60
"""How many paths each producer changes over and over."""

PRODUCERS: Final = 3
CLIENTS: Final = 2
SETTLE_SECONDS: Final = 180.0
REPLICAS: Final = {"ingest": 2, "signer": 2, "publisher": 2}


@dataclass
class Report:
    """What a soak saw.

    Attributes:
        faults: kind to how many there were.
        accepted: changes that were acknowledged.
        refreshes: of clients.
        slowest: the longest time from acceptance to live that was seen, in seconds.
        problems: what must not be; empty if all is well.
    """

    faults: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    refreshes: int = 0
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in some lines."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        lines = [
            f"faults      {sum(self.faults.values())}: {faults}",
            f"accepted    {self.accepted} changes, the slowest live after {self.slowest:.1f} s",
            f"clients     {self.refreshes} refreshes",
            *(f"PROBLEM     {problem}" for problem in self.problems),
            "all is well" if not self.problems else f"{len(self.problems)} problems",
        ]
        return "\n".join(lines)


class Soak:
    """A soak under way."""

    def __init__(self, directory: Path, seed: int) -> None:
        """Prepare.

        Args:
            directory: of everything.
            seed: of all chance but the operating system's.
        """
        self._chance = random.Random(seed)
        self._cluster = Cluster(directory / "kafka", 3)
        settings = {"TUFLINE_BUS__PARTITIONS": str(PARTITIONS), "TUFLINE_KAFKA__SESSION_TIMEOUT": str(SESSION_SECONDS)}
        self._stack = Stack(directory / "stack", self._cluster, BINS, settings)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._expected: dict[str, int] = {}
        self.report = Report()

    def run(self, faults: int) -> None:
        """Soak.

        Args:
            faults: how many.
        """
        try:
            self._cluster.start()
            self._stack.prepare()
            for name, count in REPLICAS.items():
                for _ in range(count):
                    self._stack.start(name)
            self._stack.bootstrap()
            origin = self._stack.directory / "origin"
            with self._working(origin) as metadata:
                for _ in range(faults):
                    time.sleep(self._chance.uniform(0.5, 6))
                    self._break_something()
                time.sleep(2)
            self._settle()
            self._check(metadata, origin)
        finally:
            self._stop.set()
            for service in self._stack.services:
                service.process.kill()
                service.process.wait()
            self._cluster.stop()

    @contextmanager
    def _working(self, origin: Path) -> Iterator[str]:
        handler = partial(_Quiet, directory=str(origin))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            metadata = f"http://127.0.0.1:{server.server_port}/metadata/"
            threads = [threading.Thread(target=self._guarded, args=(self._produce, number)) for number in range(PRODUCERS)]
            threads += [threading.Thread(target=self._guarded, args=(self._refresh, number, metadata)) for number in range(CLIENTS)]
            for thread in threads:
                thread.start()
            try:
                yield metadata
            finally:
                self._stop.set()
                for thread in threads:
                    thread.join()
                server.shutdown()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 (a thread's end is a finding)
            self._problem(f"{work.__name__} {arguments[0]} ended: {type(error).__name__}: {error}")

    def _problem(self, text: str) -> None:
        with self._lock:
            self.report.problems.append(text)

    def _ingest(self, number: int) -> Client:
        alive = [service for service in self._stack.services if service.name == "ingest" and service.process.poll() is None]
        return Client(alive[number % len(alive)].url)

    def _produce(self, number: int) -> None:
        chance = random.Random(number)
        length = 0
        while not self._stop.is_set():
            path, length = f"{number}/{chance.randrange(PATHS)}", length + 1
            info = {"length": length, "hashes": {"sha256": f"{length:064x}"}}
            body = {"artifacts": [{"path": path, "info": info}]}
            attempt = number
            while True:  # until it is accepted: what was not may be there or not
                try:
                    task = self._ingest(attempt).request("POST", "/api/v1/artifacts/", body)["data"]["task_id"]
                    break
                except Failure:
                    attempt += 1
                    time.sleep(0.2)
            with self._lock:
                self._expected[path] = length
                self.report.accepted += 1
            if length % 10 == 0:
                self._wait_for(task, number)
            time.sleep(chance.uniform(0, 0.1))

    def _wait_for(self, task: str, number: int) -> None:
        began = time.monotonic()
        while True:
            try:
                if self._ingest(number).request("GET", f"/api/v1/task/?task_id={task}")["data"]["state"] == "SUCCESS":
                    break
            except Failure:
                number += 1
                time.sleep(0.2)
            if time.monotonic() > began + SETTLE_SECONDS:
                self._problem(f"a change is not live after {SETTLE_SECONDS} s")
                break
        with self._lock:
            self.report.slowest = max(self.report.slowest, time.monotonic() - began)

    def _refresh(self, number: int, metadata: str) -> None:
        chance = random.Random(-1 - number)
        with tempfile.TemporaryDirectory() as directory:
            seen: dict[str, int] = {}
            while not self._stop.is_set():
                path = f"{chance.randrange(PRODUCERS)}/{chance.randrange(PATHS)}"
                try:
                    info = self._updater(directory, metadata).get_targetinfo(path)
                except Exception as error:  # noqa: BLE001 (no client may fail, whatever it says)
                    self._problem(f"client {number}: {type(error).__name__}: {error}")
                    time.sleep(0.5)
                    continue
                length = info.length if info else 0
                if length < seen.get(path, 0):
                    self._problem(f"client {number}: {path} went back from {seen[path]} to {length}")
                seen[path] = length
                with self._lock:
                    self.report.refreshes += 1
                time.sleep(0.05)

    def _updater(self, directory: str, metadata: str) -> Updater:
        root = (self._stack.keys / "root.json").read_bytes()
        return Updater(directory, metadata, config=UpdaterConfig(prefix_targets_with_hash=False), bootstrap=root)

    def _break_something(self) -> None:
        kind = self._chance.choice(["kill signer"] * 4 + ["freeze signer", "end signer", "kill publisher", "kill ingest", "kill broker"])
        self.report.faults[kind] += 1
        verb, _, what = kind.partition(" ")
        if what == "broker":
            broker = self._chance.choice(self._cluster.brokers)
            broker.kill()
            time.sleep(self._chance.uniform(0, 4))
            broker.start()
            time.sleep(5)  # it joins the replicas in sync again; without it the next broker's death would stop all writing
            return
        victim = self._chance.choice([one for one in self._stack.services if one.name == what and one.process.poll() is None])
        match verb:
            case "kill":
                victim.stop(signal.SIGKILL)
                self._stack.start(what)
            case "end":
                if (code := victim.stop()) != 0:
                    self._problem(f"{what} ended with {code} when it was told to: {victim.log}")
                self._stack.start(what)
            case _:
                victim.process.send_signal(signal.SIGSTOP)
                time.sleep(2 * SESSION_SECONDS)
                victim.process.send_signal(signal.SIGCONT)

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        alive: list[Service] = []
        while time.monotonic() < deadline:
            alive = [service for service in self._stack.services if service.process.poll() is None]
            try:
                if not any(service.problems() for service in alive) and self._ingest(0).request("GET", "/api/v1/status")["backlog"] == 0:
                    return
            except Failure:
                pass
            time.sleep(0.5)
        self._problem(f"it does not settle: {[(service.name, service.problems()) for service in alive]}")

    def _check(self, metadata: str, origin: Path) -> None:
        handler = partial(_Quiet, directory=str(origin))
        with http.server.ThreadingHTTPServer(("127.0.0.1", int(metadata.split(":")[2].split("/", maxsplit=1)[0])), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with tempfile.TemporaryDirectory() as directory:
                updater = self._updater(directory, metadata)
                for path, length in self._expected.items():
                    info = updater.get_targetinfo(path)
                    if info is None or info.length != length:
                        self._problem(f"{path} is {info.length if info else None}, and {length} was accepted last")
            server.shutdown()
        asyncio.run(self._check_log())

    async def _check_log(self) -> None:
        every = topics.topics(PARTITIONS)
        bus = await open_kafka(connection(KafkaConfig(), self._cluster.bootstrap), every, max_pending_bytes=1)
        try:
            reader = bus.reader(topics.METADATA, 0, 0)
            end = await bus.end(topics.METADATA, 0)
            newest: dict[str, int] = {}
            contents: dict[tuple[str, int], bytes] = {}
            while reader.position < end and (batch := await reader.fetch(max_wait=0)):
                for record in batch:
                    version = int(record.headers[records.VERSION_HEADER])
                    known = newest.get(record.key, 0)
                    if contents.setdefault((record.key, version), record.value) != record.value:
                        self._problem(f"{record.key} version {version} has two contents")
                    if version != known + 1 and not (record.key == "timestamp" and version == known) and not record.key.endswith(".root"):
                        self._problem(f"{record.key} goes from version {known} to {version}")
                    newest[record.key] = version
        finally:
            await bus.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def soak(directory: Path, faults: int, seed: int) -> Report:
    """Soak once.

    Args:
        directory: of everything, empty.
        faults: how many.
        seed: of all chance but the operating system's.

    Returns:
        What was seen.
    """
    under_way = Soak(directory, seed)
    under_way.run(faults)
    return under_way.report


def main() -> int:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--directory", type=Path, help="where to keep everything; else it is removed if all is well")
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="soak."))
    print(f"seed {arguments.seed}, in {directory}")
    report = soak(directory, arguments.faults, arguments.seed)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
