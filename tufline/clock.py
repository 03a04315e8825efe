"""The wall clock, as a function: what reads the time takes one, so that weeks pass in a test in no time.

And a clock for durations that goes on while the machine is suspended, which an event loop's does not on Linux.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

Clock = Callable[[], datetime]
"""Gives the time now, with a time zone. Waiting is asyncio's matter: a simulation brings its own event loop."""


_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot() -> float:
    """Read a clock that no correction moves, and that goes on while the machine is suspended, where there is one.

    Returns:
        Seconds.
    """
    return time.clock_gettime(_SINCE_BOOT)


def elapsed() -> float:
    """Read the clock for durations in which other machines go on: ``since_boot``, or that of a simulation.

    For pauses and deadlines of this process alone, asyncio's clock is the right one.

    Returns:
        Seconds. An event loop in which time is virtual has a method ``since_boot`` of its own, which counts.
    """
    read: Callable[[], float] = getattr(asyncio.get_running_loop(), "since_boot", since_boot)
    return read()


def utc_now() -> datetime:
    """Read the machine's clock.

    Returns:
        Now, in UTC.
    """
    return datetime.now(UTC)


MAX_MILLISECONDS: Final = 253_402_300_799_999
"""The last millisecond that a ``datetime`` has, since 1970: the end of the year 9999."""


def moment_of(milliseconds: int) -> datetime:
    """Make a time of the log's.

    Args:
        milliseconds: since 1970. On Kafka a producer may write any number; one beyond the years 1970 to 9999 counts as the nearest in them.

    Returns:
        The time, in UTC.
    """
    return datetime.fromtimestamp(min(max(milliseconds, 0), MAX_MILLISECONDS) / 1000, UTC)


DAY_SECONDS: Final = 86_400.0
