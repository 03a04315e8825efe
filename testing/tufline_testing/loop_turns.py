"""How long one turn of an event loop lasts: the time in which no other task can go on.

Measured as the CPU time of the loop's thread, so that a slow or busy machine makes no turn longer.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Longest:
    """The longest turn so far: how long it was, in seconds, and what ran in it."""

    seconds: float = 0.0
    what: str = ""


@contextmanager
def longest_turn() -> Iterator[Longest]:
    """Measure every turn of the running loop in the block."""
    longest = Longest()
    run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        took = time.thread_time() - began
        if took > longest.seconds:
            longest.seconds, longest.what = took, repr(handle)[:300]

    # What the tests before left behind is no matter of the code that is measured.
    gc.collect()
    gc.freeze()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", measured)
            yield longest
    finally:
        gc.unfreeze()
