"""The machine of a schedule: its clock, the log's file, the directory of the origin, and the services that run on it.

A life of a process ends abruptly at a random turn of the event loop. Between lives the origin loses some of what was not durable, and time
passes. During a life the machine's clock may be wrong for a while, ahead or behind; clients have the true time. A client reads the origin
at every operation on it, as python-tuf does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import tufline_publisher.service
import tufline_signer.service
from tufline.bus import Bus
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks.audit.verify import verify as verify_audit
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.errors import StoreError
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline_testing.inbox import service as moving_service
from tufline_testing.origin import Reader, WatchedStore
from tufline_testing.paused import LateStore, SlowBus, StubbornBus
from tufline_testing.simulation.mortal import MortalLoop, live

SETTLE_SECONDS = 3600.0

LOOK_AT_PUTS = 0.05

GRACE_SECONDS = 7200.0
"""Longer than a publisher's delay can be within a life."""

STUBBORN = 0.4
"""How often the services of a process go on for a while after they are fenced."""

WRONG_SECONDS = (-10 * 86_400.0, -600.0, 3600.0, 86_400.0, 30 * 86_400.0)
"""By how much a clock may be wrong."""

FAULT_SECONDS = (1.0, 60.0, 1200.0)
"""How long a clock may be wrong."""

START = datetime(2030, 1, 1, tzinfo=UTC)
"""When a schedule starts. It is a fixed date, so that a schedule is the same every day."""


class Machine:
    """What outlives the lives of a schedule.

    Attributes:
        path: a directory, with the log, the online keys in ``keys``, and the origin.
        reader: a client that reads the origin.
        jumps: how much time has passed between lives, in seconds.
        health: of the services that started last.
    """

    def __init__(self, path: Path, chance: random.Random, numbers: Iterator[int], partitions: int) -> None:
        """Start with an empty log and an empty origin.

        Args:
            path: an empty directory.
            chance: decides the faults.
            numbers: numbers that are used once.
            partitions: how many partitions ``artifacts`` has.
        """
        self.path = path
        self.reader = Reader(path / "origin", self.clock)
        self.jumps = 0.0
        self.health = Health()
        self._chance = chance
        self._numbers = numbers
        self._partitions = partitions
        self._unsynced: set[str] = set()
        self._now = 0.0
        self._wrong = 0.0
        self._loop: MortalLoop

    def clock(self) -> datetime:
        """Return the true time."""
        return START + timedelta(seconds=self._loop.now + self.jumps)

    def machine_clock(self) -> datetime:
        """Return the time of the machine's clock."""
        return self.clock() + timedelta(seconds=self._wrong)

    def live(self, life: Callable[[EmbeddedBus], Awaitable[None]], turns: float) -> None:
        """Run a life of a process, which dies after some turns of its loop; what the life raises is a finding."""
        self._loop = loop = MortalLoop(turns, self._now)
        self._wrong = 0.0

        def open_bus() -> Awaitable[EmbeddedBus]:
            log = self.path / "log.db"
            return open_embedded(log, topics.topics(self._partitions), clock=self.machine_clock, monotonic=loop.time, threads=False)

        live(loop, open_bus, life)
        self._now = loop.now

    def check_audit(self) -> None:
        """Verify the audit trails. It is for after a life, when everything is on the log."""
        self.live(self._verify_audit, float("inf"))

    async def _verify_audit(self, bus: EmbeddedBus) -> None:
        report = await verify_audit(bus, sorted(self.path.glob("audit.*")), [])
        assert not report.findings, "; ".join(map(str, report.findings))

    def lose_power(self) -> None:
        """Lose some of what is not durable, or the end of it."""
        for name in sorted(self._unsynced):
            path = self.path / "origin" / name
            match self._chance.randrange(3):
                case 0:
                    path.unlink(missing_ok=True)
                case 1 if path.exists():
                    path.write_bytes(path.read_bytes()[: self._chance.randrange(100)])
        self._unsynced.clear()
        self.reader.refresh()

    async def be_wrong(self) -> None:
        """Let the machine's clock be wrong for a while."""
        self._wrong = self._chance.choice(WRONG_SECONDS)
        await asyncio.sleep(self._chance.choice(FAULT_SECONDS))
        self.reader.refresh()
        self._wrong = 0.0

    def start_services(self, bus: EmbeddedBus, failures: float, *, stubborn: bool) -> list[asyncio.Task[None]]:
        """Start another inbox, signer and publisher.

        Args:
            bus: the log.
            failures: how often an operation on the origin fails.
            stubborn: whether they go on for a while after they are fenced.
        """
        signer = SignerConfig(
            key_dir=self.path / "keys",
            renewal_check=60.0,
            bin_memory_bytes=self._chance.choice([1, 2000, 10**9]),
            batch_max_bytes=self._chance.choice([1, 400, 10**7]),
            commit_interval=self._chance.choice([0.0, 0.25]),
            release_delay=self._chance.choice([0.0, 5.0, 60.0]),
            release_grace=GRACE_SECONDS,
            # A service that died still has its file open.
            audit_file=self._chance.choice([None, self.path / f"audit.{next(self._numbers)}"]),
        )
        publisher = PublisherConfig(directory=self.path / "origin", superseded_retention=self._chance.choice([5.0, 86_400.0]))
        self.health = Health()
        seen_as: Bus = (StubbornBus if stubborn else SlowBus)(bus, self._chance)
        services = [
            moving_service(seen_as, self.health, ReferenceClock(self.machine_clock)),
            tufline_signer.service.run(seen_as, signer, clock=self.machine_clock, health=self.health),
            tufline_publisher.service.run(
                seen_as, publisher, self._store(failures, stubborn=stubborn), clock=self.machine_clock, health=self.health
            ),
        ]
        return [asyncio.create_task(service) for service in services]

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = SETTLE_SECONDS, step: float = 0.5) -> None:
        """Wait until a condition holds; that it does not is a finding."""
        try:
            async with asyncio.timeout(seconds):
                while not await condition():
                    await asyncio.sleep(step)
        except TimeoutError:
            raise AssertionError(f"it does not settle: {self.health.problems}") from None

    def _store(self, failures: float, *, stubborn: bool) -> WatchedStore:
        before_put: dict[str, int] = {}

        def before(operation: str) -> None:
            if self._chance.random() < failures:
                raise StoreError(f"the store fails at {operation}")
            self._look(operation)
            if operation.startswith("put "):
                before_put[operation] = self._inode(operation.removeprefix("put "))

        def after(operation: str) -> None:
            if operation.startswith("put "):
                name = operation.removeprefix("put ")
                if self._inode(name) != before_put[operation]:
                    self._unsynced.add(name)
            elif operation == "flush":
                self._unsynced.clear()
            self._look(operation)

        directory = self.path / "origin"
        return WatchedStore(LateStore(directory, self._chance) if stubborn else LocalStore(directory), before, after)

    def _look(self, operation: str) -> None:
        # A client is slow, so it does not read after every upload of a single versioned file.
        if not operation.startswith(("put ", "get ", "names")) or self._chance.random() < LOOK_AT_PUTS:
            self.reader.refresh()

    def _inode(self, name: str) -> int:
        path = self.path / "origin" / name
        return path.stat().st_ino if path.exists() else 0
