"""Work that never ends, and that can start again."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock
from tufline.errors import BusError, FencedError, KeyUnavailableError
from tufline.records import topics
from tufline.runtime.health import Health
from tufline.runtime.partitions import LONGEST_KEY_PAUSE_SECONDS, keep_working, own_partitions
from tufline.runtime.takeover import take_over
from tufline_testing.simulation.virtual_time import run_virtual

OTHER = "other"


def longest_pause(error: Exception) -> tuple[float, str]:
    """Let work fail for five minutes, and return the longest pause between two attempts, and what health reported."""
    tries: list[float] = []
    health = Health()

    async def main(_: Clock) -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            tries.append(loop.time())
            await asyncio.sleep(0)
            raise error

        working = asyncio.create_task(keep_working("p", work, health))
        await asyncio.sleep(300)
        working.cancel()

    run_virtual(main)
    return max(after - before for before, after in itertools.pairwise(tries)), health.problems["p"]


def test_a_key_that_is_back_is_noticed_soon() -> None:
    """A key that stays unavailable is tried at least every two seconds; other failures are retried less often."""
    pause, said = longest_pause(KeyUnavailableError("no key"))
    assert (pause <= LONGEST_KEY_PAUSE_SECONDS + 0.01, said) == (True, "no key")
    assert longest_pause(BusError("no bus"))[0] > 2 * LONGEST_KEY_PAUSE_SECONDS


@pytest.mark.parametrize("error", [BusError("it is broken"), ZeroDivisionError("it is broken")])
def test_a_failure_is_reported_until_the_work_continues(error: Exception) -> None:
    """Whatever makes work fail, health reports the reason through every pause, and nothing once the work continues."""
    health = Health()

    async def main(clock: Clock) -> None:
        del clock
        is_broken, began = True, False

        async def work() -> None:
            nonlocal began
            if is_broken:
                raise error
            began = True
            await asyncio.sleep(1e6)

        working = asyncio.create_task(keep_working("p", work, health))
        for _ in range(60):
            await asyncio.sleep(0.5)
            assert "it is broken" in health.problems["p"]
        is_broken = False
        await asyncio.sleep(30)
        assert began
        assert health.parts["p"] is None
        working.cancel()

    run_virtual(main)


async def _cancelled_within() -> None:
    """Wait for a task that somebody else cancels, as a client library does with its own tasks."""
    waiting = asyncio.create_task(asyncio.sleep(1e6))
    asyncio.get_running_loop().call_soon(waiting.cancel)
    await waiting


async def _miscounted() -> None:
    """Fail, after something has cancelled the work and took it for settled, as ``asyncio.TaskGroup`` does in Python 3.11."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    raise BusError("the bus failed")


@pytest.mark.parametrize("end", [_cancelled_within, _miscounted, lambda: asyncio.sleep(0)], ids=["cancelled", "miscounted", "returned"])
def test_an_assigned_partition_is_never_without_work(tmp_path: Path, end: Callable[[], Awaitable[None]]) -> None:
    """However the work on a partition ends, it starts again until the partition is revoked, and health reports what has failed."""
    began: list[int] = []
    health = Health()

    async def main(clock: Clock) -> None:
        async def work(partition: int) -> None:
            began.append(partition)
            await end()

        bus = await open_embedded(tmp_path / "log.db", topics.topics(1), clock=clock, threads=False)
        member = asyncio.create_task(own_partitions(bus, "g", topics.ARTIFACTS, "p{}".format, work, health))
        await asyncio.sleep(60)
        assert len(began) > 5
        assert health.problems
        member.cancel()
        await asyncio.gather(member, return_exceptions=True)
        left = len(began)
        await asyncio.sleep(60)
        assert len(began) == left
        await bus.close()

    run_virtual(main)


def test_a_failure_in_the_wait_after_a_fence_does_not_end_the_work() -> None:
    """If the wait after a fence fails, health reports it, the wait is repeated, and only then the work starts again."""
    happened: list[str] = []
    health = Health()

    async def main(_: Clock) -> None:
        async def work() -> None:
            happened.append("work")
            if len(happened) > 1:
                await asyncio.sleep(1e6)
            raise FencedError("fenced")

        async def wait() -> None:
            happened.append("wait")
            if len(happened) < 4:
                raise ZeroDivisionError("it can't be watched")

        working = asyncio.create_task(keep_working("p", work, health, wait))
        await asyncio.sleep(0.15)
        assert "it can't be watched" in health.problems["p"]
        await asyncio.sleep(60)
        assert (happened, health.parts["p"]) == (["work", "wait", "wait", "wait", "work"], None)
        working.cancel()

    run_virtual(main)


@dataclass
class Shared:
    """A partition of heads that a member of a group works on, and that others may take over."""

    bus: EmbeddedBus
    health: Health = field(default_factory=Health)
    taken: list[tuple[float, str]] = field(default_factory=list)

    async def work(self, name: str) -> None:
        """Take the partition over, and write once a second."""
        async with take_over(self.bus, "w", topics.HEADS, 0) as taken:
            self.taken.append((asyncio.get_running_loop().time(), name))
            self.health.ok("p1")
            while True:
                await asyncio.sleep(1)
                await taken.writer.commit([Message(topics.HEADS, "k", b"x")])

    async def owned(self) -> None:
        """Work on it as a member of a group, which shares this partition and one more."""

        async def work(number: int) -> None:
            await (self.work("member") if number == 1 else asyncio.sleep(1e6))

        await own_partitions(self.bus, "g", topics.ARTIFACTS, "p{}".format, work, self.health, lambda _: (topics.HEADS, 0))


def who_takes(tmp_path: Path, story: Callable[[Shared], Awaitable[None]]) -> list[tuple[float, str]]:
    """Run the story of a partition, and return when it was taken over and by which worker."""

    async def main(clock: Clock) -> list[tuple[float, str]]:
        bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=clock, threads=False)
        shared = Shared(bus)
        member = asyncio.create_task(shared.owned())
        await asyncio.sleep(60)
        await story(shared)
        member.cancel()
        await asyncio.gather(member, return_exceptions=True)
        await bus.close()
        return shared.taken

    return run_virtual(main)


def test_a_fenced_worker_leaves_the_partition_to_its_writer(tmp_path: Path) -> None:
    """A fenced worker, however long it had worked, does not claim its partition while another one writes it, and reports why."""

    async def story(shared: Shared) -> None:
        other = asyncio.create_task(shared.work(OTHER))
        await asyncio.sleep(600)
        assert "another writer took over" in shared.health.problems["p1"]
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)

    assert [name for _, name in who_takes(tmp_path, story)] == ["member", OTHER]


def test_a_fenced_worker_waits_for_a_session_without_a_claim(tmp_path: Path) -> None:
    """A fenced worker claims again one session timeout after another worker's last claim, if the partition is still assigned to it."""
    claims = (0.0, 5.0, 5.0)

    async def story(shared: Shared) -> None:
        for pause in claims:
            await asyncio.sleep(pause)
            async with take_over(shared.bus, "w", topics.HEADS, 0):
                pass
        claimed = asyncio.get_running_loop().time()
        await asyncio.sleep(shared.bus.session_seconds - 0.1)
        assert len(shared.taken) == 1
        await asyncio.sleep(1.5)
        assert len(shared.taken) == 2
        assert shared.taken[-1][0] >= claimed + shared.bus.session_seconds
        assert shared.health.parts["p1"] is None

    who_takes(tmp_path, story)


def test_a_new_assignment_ends_the_wait_after_a_fence(tmp_path: Path) -> None:
    """A fenced worker claims immediately when the group assigns it the partition again."""

    async def story(shared: Shared) -> None:
        other = asyncio.create_task(shared.work(OTHER))
        await asyncio.sleep(2)
        assert "another writer took over" in shared.health.problems["p1"]
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        assert [name for _, name in shared.taken] == ["member", OTHER]
        passing = await shared.bus.join("g", topics.ARTIFACTS, ignored, ignored)  # gets the partition …
        await passing.leave()  # … and the first member gets it again
        await asyncio.sleep(0.1)
        assert [name for _, name in shared.taken] == ["member", OTHER, "member"]

    async def ignored(_: frozenset[int]) -> None:
        pass

    who_takes(tmp_path, story)


def test_without_a_topic_to_watch_the_pause_after_a_fence_is_a_long_one() -> None:
    """Work that is fenced repeatedly, each time after a minute, restarts after the longest pause, not after the first one."""
    began: list[float] = []

    async def main(_: Clock) -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            began.append(loop.time())
            await asyncio.sleep(60)
            raise FencedError("fenced")

        working = asyncio.create_task(keep_working("p", work, Health()))
        await asyncio.sleep(600)
        working.cancel()

    run_virtual(main)
    assert min(after - before for before, after in itertools.pairwise(began)) >= 70
