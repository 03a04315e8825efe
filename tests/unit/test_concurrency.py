"""Work that must end before its caller does, and cancellations that must not be lost."""

import asyncio
import itertools
from contextlib import suppress

import pytest

from tufline.concurrency import finish, finish_in_thread
from tufline.errors import BusError
from tufline.runtime.health import Health
from tufline.runtime.partitions import keep_working
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


async def test_work_that_fails_when_it_is_cancelled_does_not_begin_again() -> None:
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
