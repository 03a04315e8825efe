"""Running tasks together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


async def all_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines at once. If one fails, the others are cancelled and waited for, and its own error is raised, not a group of errors.

    Args:
        coroutines: what to run.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


@asynccontextmanager
async def one_behind() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], Awaitable[None]]]:
    """Do one thing after the other, while what comes next is being made. Nothing is under way any more after the block.

    Yields:
        What begins a work, once the one before is done; it raises what that one raised.
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
                last.exception()  # read: where what came next has failed too, that is what is raised
