"""The wall clock, as a function: what reads the time takes one, so that weeks pass in a test in no time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the time now, with a time zone. Waiting is asyncio's matter: a simulation brings its own event loop."""


def utc_now() -> datetime:
    """Read the machine's clock.

    Returns:
        Now, in UTC.
    """
    return datetime.now(UTC)
