"""Running tasks together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


async def all_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently. If one fails, the others are cancelled and awaited, and its error is raised, not an exception group.

    Args:
        coroutines: the coroutines to run.
    """
    # Not an asyncio.TaskGroup: when one of its tasks fails, Python 3.11 counts a cancellation of the caller that never happened.
    pending = {asyncio.ensure_future(coroutine) for coroutine in coroutines}
    cancelled: asyncio.CancelledError | None = None
    errors: list[BaseException] = []
    while pending:
        try:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError as error:
            cancelled, done = error, set()
        errors += [failure for task in done if not task.cancelled() and (failure := task.exception()) is not None]
        for task in pending:
            task.cancel()
    if cancelled is not None:
        raise cancelled
    if errors:
        raise errors[0]


@asynccontextmanager
async def one_behind() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], Awaitable[None]]]:
    """Run coroutines one after another, each while the caller prepares the next one. All have ended after the block.

    Yields:
        A function that waits for the previous coroutine, raises its error if it failed, and starts the next one.
    """
    last: asyncio.Task[None] | None = None

    async def follow(work: Coroutine[Any, Any, None]) -> None:
        nonlocal last
        if last is not None:
            try:
                await last
            except BaseException:
                work.close()
                raise
        last = asyncio.create_task(work)

    try:
        yield follow
        if last is not None:
            await last
    finally:
        if last is not None:
            last.cancel()
            await asyncio.wait([last])
            if not last.cancelled():
                last.exception()  # marks it as retrieved: if the block failed too, that error is raised
