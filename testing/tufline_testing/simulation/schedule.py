"""One schedule: the services on a real log in virtual time, with faults at random moments that a seed determines.

A schedule is a sequence of lives of a process. In each life, an announcer replaces the REST API, and the real inbox, signer and publisher
run, sometimes twice; another announcer sends events to the inbox, some repeatedly, some invalid. In some schedules another bootstrap
replaces the first one, at a random moment; it has no effect once the first has started. In some, changes are held, published and frozen, or
custom roles are added, updated and deleted, while processes of the REST API still route by what they have read last. A life ends abruptly
at a random turn of the event loop, without any clean-up. Between lives the origin loses some of what was not durable, and time passes.
During a life the machine's clock may be wrong for a while, ahead or behind; clients have the true time. In the last life there are no
faults, and everything settles. In some schedules, though, the clock was wrong before the last change of a key.

At random moments, and at every operation on the origin, a client reads the origin as python-tuf does. At the end the log is compared with
the announced changes; with custom roles, what clients find is compared with a model of the log (``expected``).
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Bus
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks.audit.verify import verify as verify_audit
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.errors import StoreError, TuflineError
from tufline.origin.directory import LocalStore
from tufline.records import CURRENT_RULES, PUBLISH_KEY, Bootstrap, NewMetadata, topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.trust import admin_records, ceremony
from tufline.trust.admin_state import AdminState
from tufline_ingest.inbox import dedupe, inbox_worker
from tufline_signer.bins import bins_log, bins_worker
from tufline_testing.inbox import is_moved
from tufline_testing.inbox import service as moving_service
from tufline_testing.log import DEFAULT_DAYS, announce_bootstrap, freeze, read_all
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader, WatchedStore
from tufline_testing.paused import LateStore, SlowBus, StubbornBus
from tufline_testing.simulation.announcer import SOURCES, Announcer
from tufline_testing.simulation.checks import check_accepted, check_log, check_receipts, held_on_log
from tufline_testing.simulation.delegating import Delegating
from tufline_testing.simulation.expected import Expected
from tufline_testing.simulation.mortal import MortalLoop, live
from tufline_testing.simulation.seeded import drawn_from

PARTITIONS = {True: (1, 2, 2, 4, 8), False: (1, 2, 2, 3, 5)}
"""Numbers of partitions of logs that spread bins by hash (some have more partitions than bins), and by the first rule."""

SETTLE_SECONDS = 3600.0

LOOK_AT_PUTS = 0.05

GRACE_SECONDS = 7200.0
"""Longer than a publisher's delay can be within a life."""

ROTATIONS = (0, 0, 1, 2)
"""How many times the online key is changed; half of the schedules never change it, and are faster."""

CONTESTED = 1 / 6
"""The share of schedules in which another bootstrap comes first and is replaced. In half of these its key is lost, so that it can't
start."""

HOLDING = 1 / 2
"""The share of schedules in which changes are held, published and frozen."""

DELEGATING = 2 / 3
"""The share of the schedules with online targets in which custom roles are added, updated and deleted."""

FIRST_KEY_FILE = "first.pem"

DAYS = {"timestamp": 7, "snapshot": 14, "bins": 14}
"""Longer than any process is down in a schedule, so that every expiry is a fault."""

WRONG_SECONDS = (-10 * 86_400.0, -600.0, 3600.0, 86_400.0, 30 * 86_400.0)
"""By how much a clock may be wrong."""

FAULT_SECONDS = (1.0, 60.0, 1200.0)
"""How long a clock may be wrong."""

START = datetime(2030, 1, 1, tzinfo=UTC)
"""When a schedule starts. It is a fixed date, so that a schedule is the same every day."""

SCHEME = "ed25519"
"""The scheme of all keys. Its signatures depend only on key and content, while those of ECDSA differ each time."""


@dataclass
class Schedule:
    """A schedule: what its seed determines, and the state that outlives its lives."""

    seed: int
    path: Path
    chance: random.Random = field(init=False)
    unsynced: set[str] = field(default_factory=set)
    now: float = 0.0
    jumps: float = 0.0
    wrong: float = 0.0
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.numbers = itertools.count(1)
        self.announcer = Announcer(self.chance, self.numbers)
        self.reader = Reader(self.path / "origin", self.clock)
        self.offline = self._hold(self.chance.choice([4, 8, 16]))
        self.rotations = self.chance.choice(ROTATIONS)
        self.updates: list[NewMetadata] = []
        self.bootstrap: Bootstrap = self.offline.bootstrap(self.partitions, by_hash=self.by_hash)
        # They have their own source of randomness, so that the other schedules stay as they were.
        self.contest = random.Random(f"{self.seed} contested")
        self.first = self._make_first() if self.contest.random() < CONTESTED else None
        self.holding = random.Random(f"{self.seed} holding")
        self.holds = self.holding.random() < HOLDING
        self.delegating = random.Random(f"{self.seed} delegating")
        if self.mode == "rstuf" and self.delegating.random() < DELEGATING:
            self.announcer.delegating = Delegating(self.delegating, self._new_key)
        self.custom_keys = itertools.count(1)
        self.loop: MortalLoop

    def _hold(self, bins: int, key_file: str = "") -> Offline:
        days = DEFAULT_DAYS | DAYS
        return Offline(self.path / "keys", bins=bins, mode=self.mode, days=days, key_file=key_file, scheme=SCHEME, now=START)

    def _make_first(self) -> Offline:
        first = self._hold(self.contest.choice([4, 8, 16]), FIRST_KEY_FILE)
        if self.contest.random() < 0.5:
            (self.path / "keys" / FIRST_KEY_FILE).unlink()
        self.bootstrap = msgspec.structs.replace(self.bootstrap, replace=True, rules=CURRENT_RULES)
        return first

    def _new_key(self) -> tuple[str, dict[str, Any]]:
        name = f"custom-{next(self.custom_keys)}"
        key = ceremony.make_key(SCHEME, f"fn:{name}")
        ceremony.write_private(self.path / "keys" / name, key.pem)
        return key.signer.public_key.keyid, key.signer.public_key.to_dict()

    @property
    def mode(self) -> str:
        return "pep458" if self.seed % 2 else "rstuf"

    @property
    def by_hash(self) -> bool:
        """Whether the partition of a path follows from its hash, or from the first rule."""
        return self.seed // 2 % 2 == 0

    @property
    def partitions(self) -> int:
        return random.Random(f"partitions {self.seed}").choice(PARTITIONS[self.by_hash])

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.loop.now + self.jumps)

    def machine_clock(self) -> datetime:
        """Return the time of the machine's clock."""
        return self.clock() + timedelta(seconds=self.wrong)

    def run(self) -> None:
        """Play the schedule; a failure raises an AssertionError, or any error of a client."""
        # With the usual limits, these few bins would always fit into one transaction, and there would never be a backlog.
        piece_bins, backlog_bytes = self.chance.choice([1, 2, 400]), self.chance.choice([1, 2_000_000])
        batch_events = self.chance.choice([1, 2, 500])
        with (
            patch.object(bins_log, "PIECE_BINS", piece_bins),
            patch.object(bins_worker, "BACKLOG_BYTES", backlog_bytes),
            patch.object(inbox_worker, "BATCH_EVENTS", batch_events),
            patch.object(dedupe, "FIRST_STEP", self.chance.choice([1, 256])),
        ):
            for _ in range(self.chance.randrange(1, 5)):
                self._live(self._restless, self.chance.randrange(1, 400))
                self._check_audit()
                self._lose_power()
                self.jumps += self.chance.choice([0, 0, 0, 30, 3600, 86_400])
            self._live(self._settle, float("inf"))
            self._check_audit()

    def _live(self, life: Callable[[EmbeddedBus], Awaitable[None]], turns: float) -> None:
        self.loop = loop = MortalLoop(turns, self.now)
        self.wrong = 0.0

        def open_bus() -> Awaitable[EmbeddedBus]:
            log = self.path / "log.db"
            return open_embedded(log, topics.topics(self.partitions), clock=self.machine_clock, monotonic=loop.time, threads=False)

        live(loop, open_bus, life)
        self.now = self.loop.now

    def _check_audit(self) -> None:
        # After every life, when everything is on the log.
        self._live(self._verify_audit, float("inf"))

    async def _verify_audit(self, bus: EmbeddedBus) -> None:
        report = await verify_audit(bus, sorted(self.path.glob("audit.*")), [])
        assert not report.findings, "; ".join(map(str, report.findings))

    def _lose_power(self) -> None:
        for name in sorted(self.unsynced):
            path = self.path / "origin" / name
            match self.chance.randrange(3):
                case 0:
                    path.unlink(missing_ok=True)
                case 1 if path.exists():
                    path.write_bytes(path.read_bytes()[: self.chance.randrange(100)])
        self.unsynced.clear()
        self.reader.refresh()

    def _inode(self, name: str) -> int:
        path = self.path / "origin" / name
        return path.stat().st_ino if path.exists() else 0

    def _store(self, failures: float, *, stubborn: bool) -> WatchedStore:
        before_put: dict[str, int] = {}

        def before(operation: str) -> None:
            if self.chance.random() < failures:
                raise StoreError(f"the store fails at {operation}")
            self._look(operation)
            if operation.startswith("put "):
                before_put[operation] = self._inode(operation.removeprefix("put "))

        def after(operation: str) -> None:
            if operation.startswith("put "):
                name = operation.removeprefix("put ")
                if self._inode(name) != before_put[operation]:
                    self.unsynced.add(name)
            elif operation == "flush":
                self.unsynced.clear()
            self._look(operation)

        directory = self.path / "origin"
        return WatchedStore(LateStore(directory, self.chance) if stubborn else LocalStore(directory), before, after)

    def _look(self, operation: str) -> None:
        # A client is slow, so it does not read after every upload of a single versioned file.
        if not operation.startswith(("put ", "get ", "names")) or self.chance.random() < LOOK_AT_PUTS:
            self.reader.refresh()

    def _services(self, bus: EmbeddedBus, failures: float, *, stubborn: bool) -> list[asyncio.Task[None]]:
        signer = SignerConfig(
            key_dir=self.path / "keys",
            renewal_check=60.0,
            bin_memory_bytes=self.chance.choice([1, 2000, 10**9]),
            batch_max_bytes=self.chance.choice([1, 400, 10**7]),
            commit_interval=self.chance.choice([0.0, 0.25]),
            release_delay=self.chance.choice([0.0, 5.0, 60.0]),
            release_grace=GRACE_SECONDS,
            # A service that died still has its file open.
            audit_file=self.chance.choice([None, self.path / f"audit.{next(self.numbers)}"]),
        )
        publisher = PublisherConfig(directory=self.path / "origin", superseded_retention=self.chance.choice([5.0, 86_400.0]))
        self.health = Health()
        seen_as: Bus = (StubbornBus if stubborn else SlowBus)(bus, self.chance)
        services = [
            moving_service(seen_as, self.health, ReferenceClock(self.machine_clock)),
            tufline_signer.service.run(seen_as, signer, clock=self.machine_clock, health=self.health),
            tufline_publisher.service.run(
                seen_as, publisher, self._store(failures, stubborn=stubborn), clock=self.machine_clock, health=self.health
            ),
        ]
        return [asyncio.create_task(service) for service in services]

    async def _begin(self, bus: EmbeddedBus) -> None:
        if await bus.end(topics.ADMIN, 0) == 0:
            first = None if self.first is None else self.first.bootstrap(self.partitions, by_hash=self.by_hash)
            await announce_bootstrap(bus, self.bootstrap if first is None else msgspec.structs.replace(first, rules=CURRENT_RULES))

    async def _has_begun(self, bus: EmbeddedBus) -> bool:
        """Return whether a bootstrap has started, and remember it; before that, neither artifacts nor metadata can be announced."""
        if self.first is None:
            return True
        state = AdminState()
        for record in await read_all(bus, topics.ADMIN):
            state = admin_records.fold(state, record)
        if not state.begun:
            return False
        assert state.bootstrap is not None
        if state.bootstrap != self.bootstrap:
            self.offline, self.bootstrap = self.first, state.bootstrap
        self.first = None
        return True

    async def _restless(self, bus: EmbeddedBus) -> None:
        await self._begin(bus)
        if self.announcer.delegating is not None:
            await self.announcer.delegating.read(bus)  # what a process that died has appended
        failures = self.chance.choice([0.0, 0.02, 0.2])
        running = self._services(bus, failures, stubborn=self.chance.random() < 0.4)
        while True:
            match self.chance.randrange(10):
                case _ if await self._act_apart(bus):
                    pass
                case 0 | 1 | 2 if await self._has_begun(bus):
                    await self.announcer.announce(bus, self.bootstrap.settings)
                case 8 | 9:
                    await self.announcer.send_event(bus, self.chance.randrange(SOURCES))
                case 3 if len(running) < 6:
                    running += self._services(bus, failures, stubborn=self.chance.random() < 0.4)
                case 4:
                    self.reader.refresh()
                case 5 if self.offline.keys <= self.rotations and await self._has_begun(bus):
                    self.updates += self.offline.rotate(now=self.clock())
                    await self._announce_updates(bus)
                case 5:
                    await asyncio.sleep(self.chance.choice([0.3, 5, 3600]))
                case 6 if self.chance.random() < 0.5:
                    await self._be_wrong()
                case _:
                    await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.01]))

    async def _act_apart(self, bus: EmbeddedBus) -> bool:
        """Do something that only some schedules have, with a source of randomness of its own; return whether there was anything."""
        delegating = self.announcer.delegating
        if self.first is not None and self.contest.random() < 0.2:
            await announce_bootstrap(bus, self.bootstrap)
        elif self.holds and self.holding.random() < 0.15 and await self._has_begun(bus):
            await self._hold_or_publish(bus)
        elif delegating is not None and self.delegating.random() < 0.15 and await self._has_begun(bus):
            await self._delegate(bus, delegating)
        else:
            return False
        return True

    async def _hold_or_publish(self, bus: EmbeddedBus) -> None:
        match self.holding.randrange(10):
            case 0:
                await freeze(bus, frozen=self.holding.random() < 0.5)
            case 1 | 2 | 3:
                await self.announcer.publish(bus, self.bootstrap.settings)
            case _:
                await self.announcer.hold(bus, self.bootstrap.settings, self.holding)

    async def _delegate(self, bus: EmbeddedBus, delegating: Delegating) -> None:
        settings = self.bootstrap.settings

        async def meanwhile() -> None:
            match self.delegating.randrange(3):
                case 0:
                    await delegating.change(bus, settings, meanwhile)
                case 1 if self.holds:
                    await self.announcer.hold(bus, settings, self.delegating)
                case _:
                    await self.announcer.announce(bus, settings)

        await delegating.change(bus, settings, meanwhile)

    async def _be_wrong(self) -> None:
        self.wrong = self.chance.choice(WRONG_SECONDS)
        await asyncio.sleep(self.chance.choice(FAULT_SECONDS))
        self.reader.refresh()
        self.wrong = 0.0

    async def _announce_updates(self, bus: EmbeddedBus) -> None:
        # An update that was not acknowledged may be on the log; if it is not, updates that built on it were refused.
        given = [records.decode(records.admin_decoder, record.value) for record in await read_all(bus, topics.ADMIN)]
        missing = next((number for number, update in enumerate(self.updates) if update not in given), len(self.updates))
        if missing < len(self.updates):
            await announce_updates(bus, self.updates[missing:])

    async def _settle(self, bus: EmbeddedBus) -> None:
        await self._begin(bus)
        if not await self._has_begun(bus):
            await announce_bootstrap(bus, self.bootstrap)
        await self._announce_updates(bus)
        running = self._services(bus, 0.0, stubborn=False)
        await self._until(lambda: self._has_begun(bus))
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.choice(FAULT_SECONDS))
            await self._be_wrong()
            if self.offline.keys <= self.rotations:
                self.updates += self.offline.rotate(now=self.clock())
                await self._announce_updates(bus)
        if self.announcer.delegating is not None:
            # No process is behind for longer than a life.
            await self.announcer.delegating.read(bus)
            await self._delegate(bus, self.announcer.delegating)
        if self.holds:
            await freeze(bus, frozen=False)
            await self.announcer.hold(bus, self.bootstrap.settings, self.holding)
            await self.announcer.publish(bus, self.bootstrap.settings)
            await self.announcer.hold(bus, self.bootstrap.settings, self.holding)
        await self.announcer.announce(bus, self.bootstrap.settings)
        for source in range(SOURCES):
            await self.announcer.send_event(bus, source)
        await self._until(lambda: self._is_settled(bus))
        await self._check_artifacts(bus)
        await check_log(bus)
        await check_receipts(bus)
        await self._check_keys()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _check_artifacts(self, bus: EmbeddedBus) -> None:
        found, held = self.reader.refresh(), await held_on_log(bus)
        if self.announcer.delegating is None:
            self.announcer.check(found)
            self.announcer.check_held({path: length for (_, path), length in held.items()})
            return
        delegating = self.announcer.delegating
        await delegating.read(bus)
        await check_accepted(bus, self.announcer.accepted)
        expected = await Expected.read(bus, delegating.state, delegating.seen_at)
        expected.check(found)
        expected.check_held(held)

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not await condition():
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise AssertionError(f"it does not settle: {self.health.problems}") from None

    async def _check_keys(self) -> None:
        """At the end the newest root is published, and only its keys sign, whatever happened during a key change."""

        def is_signed_by_the_newest() -> bool:
            self.reader.refresh()
            return self.reader.root == self.offline.root.version and self.reader.keyids == {self.offline.online}

        try:
            async with asyncio.timeout(SETTLE_SECONDS + GRACE_SECONDS):
                while not is_signed_by_the_newest():
                    await asyncio.sleep(GRACE_SECONDS / 4)
        except TimeoutError:
            wanted = f"root {self.offline.root.version} and {self.offline.online}"
            raise AssertionError(f"root {self.reader.root} and {self.reader.keyids} in place of {wanted}: {self.health.problems}") from None

    async def _is_settled(self, bus: EmbeddedBus) -> bool:
        published = await read_all(bus, topics.PUBLISHED)
        if not published or not await is_moved(bus):
            return False
        vector = records.decode(records.published_decoder, published[-1].value).vector
        ends = [await bus.end(topics.ARTIFACTS, partition) for partition in range(self.partitions)]
        last = max((record.offset for record in await read_all(bus, topics.ADMIN) if record.key == PUBLISH_KEY), default=-1)
        if self.announcer.delegating is not None:
            await self.announcer.delegating.read(bus)
            if vector.admin <= max(self.announcer.delegating.seen_at, default=-1):
                return False
        return vector.publishes > last and all(mine >= end for mine, end in zip(vector.artifacts, ends, strict=True))


def play(seed: int, path: Path) -> str:
    """Play a schedule, and return the failure; empty if there was none.

    The seed determines dates, keys, tokens and all random choices, and every byte of the log, so a schedule that failed fails again.
    """
    try:
        with drawn_from(seed):
            Schedule(seed, path).run()
    except (AssertionError, TuflineError, TimeoutError, Exception) as error:  # noqa: BLE001 (any error of a client or service is a finding)
        return f"{type(error).__name__}: {error}"
    return ""
