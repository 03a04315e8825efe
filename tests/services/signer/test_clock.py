"""A wrong clock, for a short time or a long one: nothing expires, nothing is postponed, nothing goes early, and health reports it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

import tufline_signer.service
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import MAX_MILLISECONDS, Clock, elapsed, milliseconds_of, moment_of, since_boot
from tufline.config.settings import SignerConfig
from tufline.metadata.envelope import disassemble, parse_expires, read_common
from tufline.metadata.expiry import in_sight
from tufline.records import Add, topics
from tufline.reference_clock import LASTING, ReferenceClock, SteadyClock
from tufline.runtime.health import Health
from tufline_testing.log import DEFAULT_DAYS, Published, announce, announce_bootstrap, eventually, read_all, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.simulation.virtual_time import START, run_virtual, suspend

NTP = timedelta(minutes=40)
"""After so long a wrong clock is right again."""

DAYS = DEFAULT_DAYS | {"snapshot": 1, "timestamp": 1, "bins": 1}

GRACE_SECONDS = 600.0
CHECK_SECONDS = 900.0


@dataclass
class World:
    """A log, a signer and the machine that they run on, whose clock is set. Clients have the true time."""

    path: Path
    true: Clock
    days: dict[str, int] = field(default_factory=dict)
    wrong: timedelta = timedelta()
    health: Health = field(default_factory=Health)
    bus: EmbeddedBus = field(init=False)

    def __post_init__(self) -> None:
        self.offline = Offline(self.path / "keys", bins=4, mode="pep458", days=DAYS | self.days)
        self.bootstrap = self.offline.bootstrap(2)

    def wall(self) -> datetime:
        return self.true() + self.wrong

    @asynccontextmanager
    async def running(self, *, brokers: bool) -> AsyncIterator[None]:
        """Run a signer on a log with its own clock, as brokers have, or on this machine's."""
        clock = self.true if brokers else self.wall
        monotonic = asyncio.get_running_loop().time
        self.bus = await open_embedded(self.path / "log.db", topics.topics(2), clock=clock, monotonic=monotonic, threads=False)
        await announce_bootstrap(self.bus, self.bootstrap)
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=CHECK_SECONDS, release_delay=5.0, release_grace=GRACE_SECONDS)
        signer = asyncio.create_task(tufline_signer.service.run(self.bus, config, clock=self.wall, health=self.health))
        try:
            await settled(self.bus)
            yield
        finally:
            signer.cancel()
            await asyncio.gather(signer, return_exceptions=True)
            await self.bus.close()

    async def be_wrong(self, by: timedelta, time: timedelta = NTP) -> None:
        self.wrong = by
        await asyncio.sleep(time.total_seconds())
        self.wrong = timedelta()

    async def published(self) -> Published:
        """Read the published metadata as a client with the true time does."""
        found = await Published.read(self.bus)
        found.verify(self.true())
        return found

    async def add(self, *paths: str) -> None:
        await announce(self.bus, self.bootstrap.settings, [Add(path, 1, {"sha256": "0" * 64}) for path in paths])


def in_world(tmp_path: Path, story: Callable[[World], Awaitable[None]], days: dict[str, int] | None = None, *, brokers: bool) -> None:
    """Tell a story in virtual time."""

    async def main(clock: Clock) -> None:
        world = World(tmp_path, clock, days or {})
        async with world.running(brokers=brokers):
            await story(world)

    run_virtual(main)


def expiries(found: Published) -> dict[str, datetime]:
    """Return the expiry of the newest version of each role that the signer signs."""
    newest: dict[str, tuple[int, datetime]] = {}
    for name, content in {**found.files, "0.timestamp.json": found.timestamp}.items():
        role = name.split(".")[1]
        common = read_common(disassemble(content).signed)
        if role not in {"root", "targets"}:
            newest[role] = max(newest.get(role, (0, START)), (common.version, parse_expires(common.expires)))
    return {role: expires for role, (_, expires) in newest.items()}


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
@pytest.mark.parametrize("days", [30, -30])
def test_a_short_wrong_clock_makes_nothing_expire(tmp_path: Path, days: int, *, brokers: bool) -> None:
    """While the clock is wrong and for two days afterwards, clients accept everything published, and new changes become live."""

    async def story(world: World) -> None:
        await asyncio.sleep(60)
        wrong = asyncio.create_task(world.be_wrong(timedelta(days=days)))
        await asyncio.sleep(300)
        await world.add("during")
        await eventually(partial(is_live, world, "during"), step=1)
        await wrong
        await world.add("after")
        await eventually(partial(is_live, world, "after"), step=1)
        for _ in range(9):
            await asyncio.sleep(6 * 3600)
            await world.published()

    async def is_live(world: World, path: str) -> bool:
        return path in (await Published.read(world.bus)).verify(world.true())

    in_world(tmp_path, story, brokers=brokers)


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
def test_what_was_signed_by_a_fast_clock_is_renewed_once_it_is_right(tmp_path: Path, *, brokers: bool) -> None:
    """After a clock was a month ahead, no role keeps an expiry that is further away than its lifetime."""

    async def story(world: World) -> None:
        await world.be_wrong(timedelta(days=30))
        await asyncio.sleep(2 * CHECK_SECONDS)
        for role, expires in expiries(await world.published()).items():
            lifetime = timedelta(days=DAYS["bins" if role.startswith("bins") else role])
            assert expires <= world.true() + 1.05 * lifetime, role

    in_world(tmp_path, story, brokers=brokers)


def test_a_slow_clock_signs_nothing_that_is_expired(tmp_path: Path) -> None:
    """A signer that starts with a clock weeks behind the brokers' publishes nothing expired, and reports what to fix."""

    async def main(clock: Clock) -> None:
        world = World(tmp_path, clock, wrong=timedelta(days=-40))
        async with world.running(brokers=True):
            await eventually(lambda: asyncio.sleep(0, "signer.clock" in world.health.problems), seconds=120, step=10)
            for _ in range(6):
                await world.published()
                assert "behind the log's" in world.health.problems["signer.clock"]
                assert world.health.ready
                await asyncio.sleep(6 * 3600)
            world.wrong = timedelta()
            await eventually(lambda: asyncio.sleep(0, "signer.clock" not in world.health.problems), seconds=120)

    run_virtual(main)


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
def test_a_short_wrong_clock_postpones_no_key_change(tmp_path: Path, *, brokers: bool) -> None:
    """After a clock was a day ahead, a new online key is used immediately, and the old one signs no longer than the grace time."""

    async def story(world: World) -> None:
        await world.be_wrong(timedelta(days=1), timedelta(seconds=30))
        await announce_updates(world.bus, world.offline.rotate(now=world.true()))
        await eventually(partial(has_newest_root, world), seconds=3 * CHECK_SECONDS, step=20)
        await asyncio.sleep(GRACE_SECONDS + 60)
        await world.add("a")
        found = await settled(world.bus)
        assert {entry.keyid for entry in disassemble(found.timestamp).signatures} == {world.offline.online}

    async def has_newest_root(world: World) -> bool:
        return f"{world.offline.root.version}.root.json" in (await world.published()).files

    in_world(tmp_path, story, brokers=brokers)


def test_a_fast_clock_ends_no_grace_time_early(tmp_path: Path) -> None:
    """While a clock is ahead of the brokers', the old key continues to sign through the grace time of a key change."""

    async def story(world: World) -> None:
        before = world.offline.online
        await announce_updates(world.bus, world.offline.rotate(now=world.true()))
        await eventually(partial(has_newest_root, world), seconds=3 * CHECK_SECONDS, step=20)
        world.wrong = timedelta(days=2)
        await world.add("a")
        found = await settled(world.bus)
        assert before in {entry.keyid for entry in disassemble(found.timestamp).signatures}

    async def has_newest_root(world: World) -> bool:
        return f"{world.offline.root.version}.root.json" in (await world.published()).files

    in_world(tmp_path, story, brokers=True)


def test_a_jump_of_the_clock_takes_nothing_from_the_embedded_log(tmp_path: Path) -> None:
    """Retention and compaction lag follow monotonic time: a month that did not pass deletes no records."""

    async def main(clock: Clock) -> None:
        ahead = timedelta()
        monotonic = asyncio.get_running_loop().time
        bus = await open_embedded(tmp_path / "log.db", topics.topics(1), clock=lambda: clock() + ahead, monotonic=monotonic, threads=False)
        for number in range(2):
            await bus.append([Message(topics.RECEIPTS, "k", b"%d" % number), Message(topics.METADATA, "k", b"%d" % number)])
        ahead = timedelta(days=30)
        await asyncio.sleep(NTP.total_seconds())
        await bus.append([Message(topics.RECEIPTS, "k", b"2")])
        await bus.maintain()
        ahead = timedelta()
        await bus.append([Message(topics.RECEIPTS, "k", b"3")])
        found = await read_all(bus, topics.RECEIPTS)
        assert [record.value for record in found] == [b"0", b"1", b"2", b"3"]
        assert found[-1].time <= milliseconds_of(clock())
        assert len(await read_all(bus, topics.METADATA)) == 2
        await bus.close()

    run_virtual(main)


@dataclass
class Machine:
    """A machine whose two clocks are set."""

    wall: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    seconds: float = 0.0

    def later(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


def steady_clock(machine: Machine, not_before: datetime) -> SteadyClock:
    return SteadyClock(lambda: machine.wall, lambda: machine.seconds, not_before)


def test_a_steady_clock_follows_what_lasts() -> None:
    """The clock ignores a jump ahead until it has lasted, follows small corrections immediately, and never goes back."""
    machine = Machine()
    began = machine.wall
    clock = steady_clock(machine, began - timedelta(days=1))
    assert clock() == began
    machine.wall += timedelta(days=1)
    assert clock() == began
    machine.later(LASTING.total_seconds() / 2)
    assert clock() == began + LASTING / 2
    machine.later(LASTING.total_seconds())
    assert clock() == machine.wall
    machine.wall += timedelta(seconds=2)
    assert clock() == machine.wall
    reached = machine.wall
    machine.wall -= timedelta(minutes=5)
    assert clock() == reached
    machine.later(200)
    assert clock() == reached
    machine.later(200)
    assert clock() == machine.wall
    assert machine.wall > reached
    reached = machine.wall
    machine.wall -= timedelta(days=3)
    machine.later(60)
    assert clock() == reached + timedelta(seconds=60)


def test_a_steady_clock_begins_with_the_newest_record() -> None:
    """A machine that starts with a slow clock continues from the newest stored time."""
    machine = Machine()
    newest = machine.wall + timedelta(days=10)
    clock = steady_clock(machine, newest)
    machine.later(30)
    assert clock() == newest + timedelta(seconds=30)


def test_of_two_brokers_the_later_clock_counts_until_it_is_gone() -> None:
    """The reference does not go to and fro between brokers' clocks, and believes a wrong one no longer than it is met."""

    async def main(_clock: Clock) -> None:
        wall = datetime(2030, 1, 1, tzinfo=UTC)
        now = asyncio.get_running_loop().time
        clock = ReferenceClock(lambda: wall + timedelta(seconds=now()))

        def observe(by: timedelta) -> None:
            clock.observe(milliseconds_of(wall + timedelta(seconds=now()) + by), now())

        ahead = timedelta(days=2)
        for _ in range(4):
            observe(ahead)
            observe(timedelta())
            found = clock.difference, clock.latest(), clock.earliest()
            assert found == (-ahead, clock.wall() + ahead, clock.wall())
            await asyncio.sleep(600)
        await asyncio.sleep(LASTING.total_seconds())
        observe(timedelta())
        assert clock.difference == timedelta()
        assert clock.problem == ""

    run_virtual(main)


def test_a_machine_that_was_suspended_has_no_wrong_clock() -> None:
    """After the machine slept for a night, its clock still agrees with the log's, and no time counts as more recent than it is."""

    async def main(wall: Clock) -> None:
        clock = ReferenceClock(wall)
        clock.observe(milliseconds_of(wall()), clock.monotonic())
        suspend(timedelta(hours=9))
        assert clock.problem == ""
        assert clock.earliest() == clock.latest() == wall()

    run_virtual(main)


async def test_elapsed_time_of_a_real_event_loop() -> None:
    """Outside of a simulation, the time since the machine was booted counts, suspended or not."""
    before = since_boot()
    assert before <= elapsed() <= since_boot()


@pytest.mark.parametrize(("seconds", "is_problem"), [(0, False), (29, False), (31, True), (-29, False), (-31, True)])
def test_the_tolerance_of_clocks(seconds: int, *, is_problem: bool) -> None:
    """A difference is a problem only above the tolerance, after subtracting the duration of the request."""

    async def main(_: Clock) -> None:
        wall = datetime(2030, 1, 1, tzinfo=UTC)
        now = asyncio.get_running_loop().time
        clock = ReferenceClock(lambda: wall + timedelta(seconds=now() + seconds))
        assert clock.problem == ""
        sent = now()
        await asyncio.sleep(45)  # the broker's time is somewhere in these
        clock.observe(milliseconds_of(wall + timedelta(seconds=sent if seconds > 0 else now())), sent)
        assert bool(clock.problem) == is_problem, clock.problem

    run_virtual(main)


@pytest.mark.parametrize(
    ("lifetime", "left", "step"),
    [
        (3650, 90.01, 0),
        (3650, 90, 1),
        (3650, 30.01, 1),
        (3650, 30, 2),
        (3650, 7.01, 2),
        (3650, 7, 3),
        (3650, 0.01, 3),
        (3650, 0, 4),
        (3650, -1, 4),
        (120, 30.01, 0),
        (120, 30, 1),
        (120, 10.01, 1),
        (120, 10, 2),
        (100, 2.01, 2),
        (100, 2, 3),
        (1, 0.2, 1),
    ],
)
def test_an_expiry_comes_in_sight(lifetime: float, left: float, step: int) -> None:
    """Expiry is announced 90, 30 and 7 days ahead, or at a quarter, a twelfth and a fiftieth of the lifetime if that is later."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    sight = in_sight("root", now + timedelta(days=left), timedelta(days=lifetime), now)
    assert (sight.step if sight else 0) == step


def test_an_expiry_in_sight_is_reported_on_a_quiet_repository(tmp_path: Path) -> None:
    """Without any change, health reports a root that will expire, before it does, and the process stays ready; a new root ends that."""

    async def story(world: World) -> None:
        while world.true() < START + timedelta(days=1.4):
            await asyncio.sleep(3600)
        assert "expiry.root" not in world.health.problems
        while world.true() < START + timedelta(days=1.6):
            await asyncio.sleep(3600)
        assert "root expires in 0." in world.health.problems["expiry.root"]
        assert world.health.ready
        await announce_updates(world.bus, world.offline.rotate(now=world.true()))
        await eventually(lambda: asyncio.sleep(0, "expiry.root" not in world.health.problems), 3 * CHECK_SECONDS, step=20)
        assert world.health.ready

    in_world(tmp_path, story, {"root": 2}, brokers=True)


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), START, datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)])
def test_the_time_of_the_log_is_converted_without_loss(moment: datetime) -> None:
    """A moment with whole milliseconds is the same after it was on the log; a number that no moment has counts as the nearest."""
    assert moment_of(milliseconds_of(moment)) == moment
    assert moment_of(-1) == moment_of(0)
    assert moment_of(10**18) == moment_of(MAX_MILLISECONDS)
