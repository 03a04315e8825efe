"""How long one turn of an event loop takes: the time in which no other task can run.

It is measured as CPU time of the loop's thread, so that a slow or busy machine makes no turn longer.
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
    """The longest turn so far: its duration in seconds, and what ran in it."""

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

    # Garbage of earlier tests must not count as time of the measured code.
    gc.collect()
    gc.freeze()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", measured)
            yield longest
    finally:
        gc.unfreeze()
