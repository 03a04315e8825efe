"""The wall clock as a function: code that needs the time takes one as an argument, so that a test can simulate weeks.

Also a clock for durations that continues while the machine is suspended, which the event loop's clock does not on Linux.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

Clock = Callable[[], datetime]
"""Returns the current time with a time zone. For waiting, use asyncio: a simulation has its own event loop."""


_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot() -> float:
    """Read a clock that is never corrected. It also continues while the machine is suspended, if the system has such a clock.

    Returns:
        Seconds since an arbitrary moment.
    """
    return time.clock_gettime(_SINCE_BOOT)


def elapsed() -> float:
    """Read the clock for durations that also pass on other machines: ``since_boot``, or a simulation's clock.

    For pauses and deadlines of only this process, use asyncio's clock.

    Returns:
        Seconds since an arbitrary moment. An event loop with virtual time has its own method ``since_boot``, which is used instead.
    """
    read: Callable[[], float] = getattr(asyncio.get_running_loop(), "since_boot", since_boot)
    return read()


def utc_now() -> datetime:
    """Read the machine's clock.

    Returns:
        The current time, in UTC.
    """
    return datetime.now(UTC)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

MAX_MILLISECONDS: Final = 253_402_300_799_999
"""The last millisecond since 1970 that a ``datetime`` can express: the end of the year 9999."""


def moment_of(milliseconds: int) -> datetime:
    """Convert a time of the log.

    Args:
        milliseconds: since 1970. On Kafka a producer may write any number; one outside the years 1970 to 9999 is moved to the nearest end.

    Returns:
        The time, in UTC.
    """
    return _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), MAX_MILLISECONDS))


def in_milliseconds(seconds: float) -> int:
    """Convert a duration to the log's unit.

    Args:
        seconds: of any sign.

    Returns:
        Milliseconds, rounded toward zero.
    """
    return int(seconds * 1000)


def milliseconds_of(moment: datetime) -> int:
    """Convert a moment to the log's time.

    Args:
        moment: with a time zone.

    Returns:
        Milliseconds since 1970; the inverse of ``moment_of``, without fractions of one.
    """
    return (moment - _EPOCH) // timedelta(milliseconds=1)


DAY_SECONDS: Final = 86_400.0
