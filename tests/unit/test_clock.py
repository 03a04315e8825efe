"""Clocks that may be wrong: the time of the log, and what counts as a difference from it."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import MAX_MILLISECONDS, Clock, elapsed, milliseconds_of, moment_of, since_boot
from tufline.metadata.expiry import expiry_warning
from tufline.records import topics
from tufline.reference_clock import LASTING, ReferenceClock, SteadyClock
from tufline_testing.log import read_all
from tufline_testing.simulation.virtual_time import START, run_virtual, suspend


def test_a_jump_of_the_clock_takes_nothing_from_the_embedded_log(tmp_path: Path) -> None:
    """Retention and compaction lag follow monotonic time: a month that did not pass deletes no records."""

    async def main(clock: Clock) -> None:
        ahead = timedelta()
        monotonic = asyncio.get_running_loop().time
        bus = await open_embedded(tmp_path / "log.db", topics.topics(1), clock=lambda: clock() + ahead, monotonic=monotonic, threads=False)
        for number in range(2):
            await bus.append([Message(topics.RECEIPTS, "k", b"%d" % number), Message(topics.METADATA, "k", b"%d" % number)])
        ahead = timedelta(days=30)
        await asyncio.sleep(40 * 60)  # NTP corrects it
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


def test_a_steady_clock_starts_with_the_newest_record() -> None:
    """A machine that starts with a slow clock continues from the newest stored time."""
    machine = Machine()
    newest = machine.wall + timedelta(days=10)
    clock = steady_clock(machine, newest)
    machine.later(30)
    assert clock() == newest + timedelta(seconds=30)


def test_of_two_brokers_the_later_clock_counts_until_it_is_gone() -> None:
    """The reference does not jump between the clocks of brokers, and trusts a wrong clock only as long as that broker answers."""

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
        assert clock.problem is None

    run_virtual(main)


def test_a_machine_that_was_suspended_has_no_wrong_clock() -> None:
    """After the machine was suspended for a night, its clock still agrees with the log's, and no time counts as newer than it is."""

    async def main(wall: Clock) -> None:
        clock = ReferenceClock(wall)
        clock.observe(milliseconds_of(wall()), clock.monotonic())
        suspend(timedelta(hours=9))
        assert clock.problem is None
        assert clock.earliest() == clock.latest() == wall()

    run_virtual(main)


async def test_elapsed_time_of_a_real_event_loop() -> None:
    """Outside of a simulation, the time since the machine was booted counts, including the time in which it was suspended."""
    before = since_boot()
    assert before <= elapsed() <= since_boot()


@pytest.mark.parametrize(("seconds", "is_problem"), [(0, False), (29, False), (31, True), (-29, False), (-31, True)])
def test_the_tolerance_of_clocks(seconds: int, *, is_problem: bool) -> None:
    """A difference is a problem only above the tolerance, after subtracting the duration of the request."""

    async def main(_: Clock) -> None:
        wall = datetime(2030, 1, 1, tzinfo=UTC)
        now = asyncio.get_running_loop().time
        clock = ReferenceClock(lambda: wall + timedelta(seconds=now() + seconds))
        assert clock.problem is None
        sent = now()
        await asyncio.sleep(45)  # the broker's time is within this range
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
    sight = expiry_warning("root", now + timedelta(days=left), timedelta(days=lifetime), now)
    assert (sight.step if sight else 0) == step
    if sight is not None and left > 0:
        assert f"expires in {left:.1f} days" in sight.text


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), START, datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)])
def test_the_time_of_the_log_is_converted_without_loss(moment: datetime) -> None:
    """A time in whole milliseconds is read back unchanged from the log; a number without a valid time becomes the nearest one."""
    assert moment_of(milliseconds_of(moment)) == moment
    assert moment_of(-1) == moment_of(0)
    assert moment_of(10**18) == moment_of(MAX_MILLISECONDS)
