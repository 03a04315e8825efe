"""Work that must end before its caller does, and cancellations that must not be lost."""

import asyncio
import itertools
from contextlib import suppress

import pytest

from tufline.concurrency import finish, finish_in_thread
from tufline.errors import BusError
from tufline.runtime.health import Health
from tufline.runtime.partitions import keep_working
from tufline.runtime.task_groups import all_of
from tufline_testing.cancelling import cancelled_at_each_await


async def _helper() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


async def _stop_helper() -> None:
    """Stop a task as aiokafka does: its caller's cancellation ends in that task."""
    task = asyncio.create_task(_helper())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_awaiting_a_task_that_ends_loses_a_cancellation() -> None:
    """The mistake that ``finish`` is for: without it, a story that is cancelled at its second await goes on to its end."""
    assert [task.cancelled() async for _, task in cancelled_at_each_await(_stop_helper)][1] is False


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_finished_work_loses_no_cancellation(kind: str) -> None:
    """Wherever the caller is cancelled, the work runs to its end first, and the caller ends as cancelled."""
    ended = itertools.count(1)

    async def work() -> None:
        await _stop_helper()
        next(ended)

    async def story() -> None:
        if kind == "coroutine":
            await finish(work())
        else:
            await finish_in_thread(lambda: next(ended))
        await asyncio.sleep(0)

    cancelled = [task.cancelled() async for _, task in cancelled_at_each_await(story)]
    assert len(cancelled) >= 2
    assert all(cancelled)
    assert next(ended) == len(cancelled) + 2  # each cancelled story, and the last one, has done its work


async def test_work_that_fails_when_it_is_cancelled_is_not_restarted() -> None:
    """A cancelled worker that raises an error of its own ends: it would otherwise keep a partition that its group has revoked."""
    begun = itertools.count(1)

    async def work() -> None:
        next(begun)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise BusError("the bus failed just then") from None

    working = asyncio.create_task(keep_working("part", work, Health()))
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.wait({working}, timeout=10)
    assert (working.cancelled(), next(begun)) == (True, 2)


async def test_work_whose_part_fails_is_restarted() -> None:
    """A failure of one of several concurrent parts is no cancellation of the whole: it is tried again, and a real cancellation ends it."""
    begun: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise BusError("the bus failed")

    async def work() -> None:
        begun.append("again")
        await all_of(asyncio.sleep(3600), *([fail()] if len(begun) < 3 else []))

    working = asyncio.create_task(keep_working("part", work, Health()))
    async with asyncio.timeout(30):
        while not working.done() and len(begun) < 3:
            await asyncio.sleep(0.01)
    assert not working.done()
    working.cancel()
    await asyncio.wait({working}, timeout=10)
    assert working.cancelled()


async def test_the_first_error_of_several_parts_is_raised() -> None:
    """Concurrent parts end together: the error of the first that fails is raised, after the others have ended."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("cancelled")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise BusError("the first")

    with pytest.raises(BusError, match="the first"):
        await all_of(wait(), fail())
    task = asyncio.current_task()
    assert task is not None
    assert (ended, task.cancelling()) == (["cancelled"], 0)
