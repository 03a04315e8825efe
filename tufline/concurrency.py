"""Work that must not be left halfway: the caller waits until it has ended, even when it is cancelled.

``asyncio.to_thread`` and ``run_in_executor`` return at once when they are cancelled, while their thread continues. If that thread changes a
file at the origin or of the embedded log, the old owner could then still write after a new one has taken over. The audit trail does not
use this: cancelling a caller there does not cancel the write, which finishes in its own task (``tufline_signer.signing.audit_trail``).

A coroutine can lose a cancellation: if it is cancelled while it awaits another task, that task is cancelled instead; and if the task then
ends without an error, the coroutine continues as if nothing had happened. aiokafka's clients await their own tasks like that when they are
stopped.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish_in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread, and return only when it has ended.

    A cancellation is not lost: it is raised once the work has ended, instead of the work's own result or error. So cancelling takes as long
    as the work does.

    Args:
        work: called in a thread of the event loop's default executor.

    Returns:
        The result of the work.

    Raises:
        asyncio.CancelledError: if the caller was cancelled meanwhile; the work has ended.
    """
    return await _end_of(asyncio.get_running_loop().run_in_executor(None, work))


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a task of its own, and return only when it has ended.

    A cancellation is neither seen by the work nor lost: it is raised once the work has ended, instead of the work's own result or error. So
    cancelling takes as long as the work does.

    Args:
        work: the coroutine; it should have a time limit.

    Returns:
        The result of the work.

    Raises:
        asyncio.CancelledError: if the caller was cancelled meanwhile; the work has ended.
    """
    return await _end_of(asyncio.create_task(work))


async def _end_of(done: asyncio.Future[T]) -> T:
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait({done})  # unlike awaiting the future itself, this cancels nothing
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return done.result()
    if not done.cancelled():
        done.exception()  # marks it as retrieved: the caller gets the cancellation instead
    raise cancelled
