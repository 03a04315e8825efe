"""Bounds on the current time from two clocks: this machine's and the log's.

A wall clock may be wrong for a while. The log has a clock too: on Kafka the brokers' append time, on the embedded log a clock that ignores
jumps (``SteadyClock``). A process learns the log's time from each record that it appends. Between two records it adds monotonic time, which
also continues while the machine is suspended.

To decide whether or when something expires, use ``latest``: then a slow clock never signs metadata that has already expired. To decide
whether something has lasted long enough, use ``earliest``: then a fast clock ends nothing early. No I/O.

In: the times of records as they are appended. Out: bounds on the time, and a problem if the two clocks differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tufline.clock import Clock, elapsed, moment_of

DEFAULT_TOLERANCE_SECONDS: Final = 30.0

LASTING: Final = timedelta(hours=1)
"""A difference that lasts this long is not a short fault."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A time of the log: the log's clock showed ``time`` at some moment between ``sent`` and ``answered``, which are monotonic seconds."""

    time: datetime
    sent: float
    answered: float

    def earliest(self, now: float) -> datetime:
        return self.time + timedelta(seconds=now - self.answered)

    def latest(self, now: float) -> datetime:
        return self.time + timedelta(seconds=now - self.sent)


class ReferenceClock:
    """The wall clock of a process, compared with the log's."""

    def __init__(self, wall: Clock, tolerance: float = DEFAULT_TOLERANCE_SECONDS) -> None:
        """Start without a time of the log.

        Args:
            wall: the wall clock.
            tolerance: the largest difference that is not a problem, in seconds.
        """
        self.wall = wall
        self.tolerance = timedelta(seconds=tolerance)
        self._seen: _Seen | None = None

    @property
    def is_known(self) -> bool:
        """Whether a time of the log is known. Until then ``earliest`` and ``latest`` are the wall clock's time."""
        return self._seen is not None

    @staticmethod
    def monotonic() -> float:
        """Read the clock for the argument ``sent`` of ``observe``, in seconds."""
        return elapsed()

    def observe(self, milliseconds: int, sent: float) -> None:
        """Learn the log's time from a record that was just appended.

        Args:
            milliseconds: the record's time, in milliseconds since 1970.
            sent: the value of ``monotonic`` before the append.
        """
        now = self.monotonic()
        seen = _Seen(moment_of(milliseconds), sent, now)
        # Each broker has its own clock. If two differ, the later one counts, until it has not been seen for a while.
        is_back = self._seen is not None and seen.latest(now) < self._seen.earliest(now) - self.tolerance
        if is_back and self._seen is not None and timedelta(seconds=now - self._seen.answered) < LASTING:
            return
        self._seen = seen

    def latest(self) -> datetime:
        """Return the latest time that it may be, to decide whether something has expired.

        Returns:
            The later time of the two clocks.
        """
        wall = self.wall()
        return wall if self._seen is None else max(wall, self._seen.earliest(self.monotonic()))

    def earliest(self) -> datetime:
        """Return the earliest time that it may be, to decide whether something has lasted long enough.

        Returns:
            The earlier time of the two clocks.
        """
        wall = self.wall()
        return wall if self._seen is None else min(wall, self._seen.latest(self.monotonic()))

    @property
    def difference(self) -> timedelta:
        """How far the wall clock is ahead of the log's: negative if it is behind, zero if it is within the uncertainty."""
        if self._seen is None:
            return timedelta()
        wall, now = self.wall(), self.monotonic()
        return max(wall - self._seen.latest(now), timedelta()) + min(wall - self._seen.earliest(now), timedelta())

    @property
    def problem(self) -> str | None:
        """Why the clock is a problem, and what to do; None if there is no problem."""
        difference = self.difference
        if abs(difference) <= self.tolerance:
            return None
        where = "ahead of" if difference > timedelta() else "behind"
        seconds = abs(difference).total_seconds()
        return (
            f"this machine's clock is {seconds:.0f} s {where} the log's (clock.tolerance is {self.tolerance.total_seconds():g} s): "
            "fix its time synchronization (NTP), or that of the brokers"
        )


class SteadyClock:
    """A wall clock that ignores short faults: the time at its start plus the monotonic time since.

    It follows small corrections of the wall clock at once, and a jump ahead once that has lasted for ``LASTING``. After the wall clock
    jumps back by at most ``LASTING``, this clock stops until the wall clock has caught up; a larger jump is ignored.
    """

    def __init__(self, wall: Clock, monotonic: Callable[[], float], not_before: datetime) -> None:
        """Start at the current time.

        Args:
            wall: the wall clock.
            monotonic: a clock in seconds that is never corrected.
            not_before: a time that is known to have passed.
        """
        self._wall = wall
        self._monotonic = monotonic
        self._time = max(wall(), not_before)
        self._at = monotonic()
        self._ahead_since: float | None = None

    def __call__(self) -> datetime:
        """Return the current time.

        Returns:
            The time, in UTC; never before the one that it returned last.
        """
        wall, now = self._wall(), self._monotonic()
        steady = self._time + timedelta(seconds=now - self._at)
        is_ahead = wall > steady + timedelta(seconds=DEFAULT_TOLERANCE_SECONDS)
        self._ahead_since = (now if self._ahead_since is None else self._ahead_since) if is_ahead else None
        if is_ahead:
            has_lasted = self._ahead_since is not None and timedelta(seconds=now - self._ahead_since) >= LASTING
            time = wall if has_lasted else steady
        elif wall >= steady - LASTING:
            time = max(wall, self._time)
        else:
            time = steady
        self._time, self._at = time, now
        return time
