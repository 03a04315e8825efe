"""How long one turn of an event loop takes: the time in which no other task can run.

It is measured as CPU time of the loop's thread, so that a busy machine makes few turns longer. Those few are slowed by cold caches, or by
the host of a virtual machine. So work with a turn that was too long is repeated.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import pytest

TRIES: Final = 3

T = TypeVar("T")


@dataclass
class Longest:
    """The longest turn so far: its duration in seconds, and what ran in it."""

    seconds: float = 0.0
    what: str = ""


async def turns_of(work: Callable[[], Awaitable[T]], limit: float) -> tuple[T, Longest]:
    """Do work, and measure its longest turn; up to three times, until no turn is longer than the limit.

    A turn that is too long because of its own work is too long each time.

    Args:
        work: called once for each try.
        limit: in seconds.

    Returns:
        The result and the longest turn of the last try.
    """
    for _ in range(TRIES):
        with _longest_turn() as longest:
            result = await work()
        if longest.seconds <= limit:
            break
    return result, longest


@contextmanager
def _longest_turn() -> Iterator[Longest]:
    """Measure every turn of the running loop in the block."""
    longest = Longest()
    run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        took = time.thread_time() - began
        if took > longest.seconds:
            longest.seconds, longest.what = took, repr(handle)[:300]

    # The garbage of earlier tests must not count as time of the measured code.
    gc.collect()
    gc.freeze()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", measured)
            yield longest
    finally:
        gc.unfreeze()
