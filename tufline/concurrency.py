"""Work in threads that asyncio can't stop: whoever waits for it waits until it has ended, also when cancelled.

``asyncio.to_thread`` and ``run_in_executor`` return at once when they are cancelled, and their thread continues. Where that thread changes
something (a file at the origin, the file of the embedded log), its old owner would still write after a new one has taken over. The audit
trail does not use this: who records a use there does not cancel the write, which ends in a task of its own
(``tufline_signer.signing.audit_trail``).
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def finish_in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread, and return only when it has ended.

    A cancellation is not lost: it is raised once the work has ended, whatever the work's own result or error was. So cancelling takes as
    long as the work does.

    Args:
        work: called in a thread of the event loop's default executor.

    Returns:
        What the work returned.

    Raises:
        asyncio.CancelledError: if the caller was cancelled meanwhile; the work has ended by then.
    """
    done = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait({done})  # unlike awaiting the future itself, this cancels nothing
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return done.result()
    if not done.cancelled():
        done.exception()  # read: the caller is told of the cancellation, not of this
    raise cancelled
