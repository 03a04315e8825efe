"""Breaks everything that runs on Kafka repeatedly, while repositories announce files and TUF clients download: ``make soak``.

There are three brokers, two processes of each service, and the online key in OpenBao. At random moments a process is killed, paused for
longer than its session and woken (a zombie), terminated, or added; a broker is killed, or all are restarted in turn; OpenBao is sealed or
killed (``faults``). Meanwhile producers send and clients refresh (``load``). Afterwards every accepted change must be live, and none
reverted or applied twice; each role's versions must be consecutive with one content each; fenced processes must not have written anything;
and no client may have failed (``checks``).
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tufline.bus import Bus, Record
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.scan import scan
from tufline.checks.audit.verify import verify as verify_audit
from tufline.client.rest import Client
from tufline.config.settings import KafkaConfig
from tufline.errors import TuflineError
from tufline.metadata.bins import BinLayout
from tufline.records import topics
from tufline.runtime.open_bus import connection
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Service, Stack
from tufline_testing.servers.vault_server import VaultServer
from tufline_testing.soak import checks
from tufline_testing.soak.events import inbox_sender
from tufline_testing.soak.faults import Faults, plan
from tufline_testing.soak.load import Load, RestSender, Sender
from tufline_testing.soak.report import Report

BINS: Final = 16
PARTITIONS: Final = 4
SESSION_SECONDS: Final = 6.0
PRODUCERS: Final = 3
SETTLE_SECONDS: Final = 180.0
SHOWN_LOG: Final = 1000
"""How much of a failed service's log is printed, in characters."""

PAUSE_SECONDS: Final = (0.5, 4.0)
"""The shortest and the longest time between two faults, in seconds."""

REPLICAS: Final = {"ingest": 2, "signer": 2, "publisher": 2}


class Soak:
    """A running soak."""

    def __init__(self, directory: Path, seed: int) -> None:
        """Prepare a soak.

        Args:
            directory: directory for all data.
            seed: seed of all random choices; the operating system's timing is not controlled.
        """
        self._chance = random.Random(seed)
        self._cluster = Cluster(directory / "kafka", 3)
        settings = {"TUFLINE_BUS__PARTITIONS": str(PARTITIONS), "TUFLINE_KAFKA__SESSION_TIMEOUT": str(SESSION_SECONDS)}
        self._vault = VaultServer(directory / "vault")
        self._stack = Stack(directory / "stack", self._cluster, BINS, settings, self._vault)
        self.report = Report()

    def run(self, faults: int | Sequence[str]) -> None:
        """Run the soak.

        Args:
            faults: number of faults to draw, or a list of their kinds, which is shuffled.
        """
        try:
            self._cluster.start()
            self._vault.start()
            self._vault.enable()
            with self._stack:
                self._stack.prepare()
                self._stack.begin(REPLICAS)
                origin, root = self._stack.directory / "origin", self._stack.keys / "root.json"
                load = Load(origin, root, self.report, SETTLE_SECONDS)
                breaking = Faults(self._cluster, self._vault, self._stack, self._chance, self.report, SESSION_SECONDS)
                kinds = plan(faults, self._chance) if isinstance(faults, int) else self._chance.sample(faults, len(faults))
                with inbox_sender(self._cluster.bootstrap) as announcing, load.going_on([*self._senders(), announcing]):
                    for kind in kinds:
                        time.sleep(self._chance.uniform(*PAUSE_SECONDS))
                        breaking.do(kind)
                self._settle()
                self._look_for_the_dead()
                self._check(load)
        finally:
            self._vault.stop()
            self._cluster.stop()

    def _senders(self) -> list[Sender]:
        return [RestSender(self._ingests, number) for number in range(PRODUCERS)]

    def _ingests(self) -> list[str]:
        # While an ingest is replaced, it may be that none answers for a moment; after that, any of them can be asked.
        every = [service for service in self._stack.services if service.name == "ingest"]
        return [service.url for service in every if service.process.poll() is None] or [every[-1].url]

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        alive: list[Service] = []
        while time.monotonic() < deadline:
            alive = [service for service in self._stack.services if service.process.poll() is None]
            try:
                status = Client(self._ingests()[0]).request("GET", "/api/v1/status")
                if not any(service.problems() for service in alive) and status["backlog"] == 0:
                    return
            except TuflineError:
                pass
            time.sleep(0.5)
        self.report.problem(f"it does not settle: {[(service.name, service.problems()) for service in alive]}")

    def _look_for_the_dead(self) -> None:
        for service in self._stack.services:
            if service.process.poll() is not None and not service.is_told_to_end:
                self.report.problem(f"{service.name} ended by itself: {service.log.read_text()[-SHOWN_LOG:]}")

    def _check(self, load: Load) -> None:
        with tempfile.TemporaryDirectory() as directory:
            updater = load.client(directory)

            def length_of(path: str) -> int | None:
                info = updater.get_targetinfo(path)
                return info.length if info else None

            self._found(checks.live(length_of, load.history), "paths of a client", len(load.history))
        metadata, heads = asyncio.run(self._read_log())
        self._found(checks.versions(metadata), "metadata files", len(metadata))
        self._found(checks.states(metadata, load.history, BinLayout.of(BINS)), "changes", sum(map(len, load.history.values())))
        by_offset = {record.offset: record for record in metadata}
        for partition, of_partition in enumerate(heads):
            self._found(checks.heads(of_partition, by_offset), "heads", len(of_partition))
            dumped = self._dump(f"{KafkaConfig().prefix}{topics.HEADS}-{partition}")
            self._found(checks.epochs(dumped), "partitions for fenced writers", 1)

    def _found(self, problems: Iterable[str], what: str, count: int) -> None:
        self.report.checked[what] += count
        for problem in problems:
            self.report.problem(problem)

    async def _read_log(self) -> tuple[list[Record], list[list[Record]]]:
        bus = await open_kafka(connection(KafkaConfig(), self._cluster.bootstrap), topics.topics(PARTITIONS), max_pending_bytes=1)
        try:
            for finding in (await verify_audit(bus, [], [])).findings:
                self.report.problem(f"audit: {finding}")
            heads = [await _read_all(bus, topics.HEADS, partition) for partition in range(bus.partitions(topics.HEADS))]
            return await _read_all(bus, topics.METADATA, 0), heads
        finally:
            await bus.close()

    def _dump(self, place: str) -> str:
        files = sorted((self._cluster.brokers[0].directory / "data" / place).glob("*.log"))
        return self._cluster.tool("kafka.tools.DumpLogSegments", "--files", ",".join(map(str, files)))


async def _read_all(bus: Bus, topic: str, partition: int) -> list[Record]:
    return [record async for batch in scan(bus, topic, partition) for record in batch]


def soak(directory: Path, faults: int | Sequence[str], seed: int) -> Report:
    """Run a soak.

    Args:
        directory: an empty directory for all data.
        faults: number of faults to draw, or a list of their kinds, which is shuffled.
        seed: seed of all random choices; the operating system's timing is not controlled.

    Returns:
        The report.
    """
    under_way = Soak(directory, seed)
    under_way.run(faults)
    return under_way.report


def main() -> int:
    """Run the soak requested on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--directory", type=Path, help="directory for all data; by default a new temporary directory")
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="soak."))
    print(f"seed {arguments.seed}, in {directory}")
    report = soak(directory, arguments.faults, arguments.seed)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
