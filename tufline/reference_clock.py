"""Two clocks: this machine's, and the log's. What time it is at least, and at most.

A wall clock may be wrong for a while. The log has another one: on Kafka the brokers' append time, on the embedded log a time that a jump
does not move (``SteadyClock``). Each record that a process appends tells it that time. Between two of them monotonic time goes on, also
while the machine is suspended.

Whoever asks whether something has expired, or when it will, takes ``latest``: so a slow clock signs nothing that is expired already.
Whoever asks whether something has lasted long enough takes ``earliest``: so a fast clock ends nothing early. No I/O.

In: the times of records, as they are appended. Out: bounds on the time, and a problem where the two clocks differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tufline.clock import Clock, elapsed, moment_of

DEFAULT_TOLERANCE_SECONDS: Final = 30.0

LASTING: Final = timedelta(hours=1)
"""A difference that has lasted so long is no short fault."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A time of the log: it was ``time`` at some moment from ``sent`` to ``answered``, which are monotonic."""

    time: datetime
    sent: float
    answered: float

    def earliest(self, now: float) -> datetime:
        return self.time + timedelta(seconds=now - self.answered)

    def latest(self, now: float) -> datetime:
        return self.time + timedelta(seconds=now - self.sent)


class ReferenceClock:
    """The wall clock of a process, held against the log's."""

    def __init__(self, wall: Clock, tolerance: float = DEFAULT_TOLERANCE_SECONDS) -> None:
        """Know no time of the log yet.

        Args:
            wall: the wall clock.
            tolerance: the difference that is no problem, in seconds.
        """
        self.wall = wall
        self.tolerance = timedelta(seconds=tolerance)
        self._seen: _Seen | None = None

    @property
    def is_known(self) -> bool:
        """Whether the log has told its time: until then ``earliest`` and ``latest`` are the wall clock alone."""
        return self._seen is not None

    @staticmethod
    def monotonic() -> float:
        """Say what ``observe`` calls ``sent``, in seconds."""
        return elapsed()

    def observe(self, milliseconds: int, sent: float) -> None:
        """Take note of the time of a record that was appended just now.

        Args:
            milliseconds: the record's time, since 1970.
            sent: ``monotonic`` before it was appended.
        """
        now = self.monotonic()
        seen = _Seen(moment_of(milliseconds), sent, now)
        # Brokers have a clock each. Of two that differ the later one counts, until it has not been met for a while.
        is_back = self._seen is not None and seen.latest(now) < self._seen.earliest(now) - self.tolerance
        if is_back and self._seen is not None and timedelta(seconds=now - self._seen.answered) < LASTING:
            return
        self._seen = seen

    def latest(self) -> datetime:
        """Say what time it is, for whoever must not take something expired for fresh.

        Returns:
            The later one of the two clocks.
        """
        wall = self.wall()
        return wall if self._seen is None else max(wall, self._seen.earliest(self.monotonic()))

    def earliest(self) -> datetime:
        """Say what time it is, for whoever must not end something early.

        Returns:
            The earlier one of the two clocks.
        """
        wall = self.wall()
        return wall if self._seen is None else min(wall, self._seen.latest(self.monotonic()))

    @property
    def difference(self) -> timedelta:
        """How far the wall clock is ahead of the log's; negative where it is behind; zero within what is not known."""
        if self._seen is None:
            return timedelta()
        wall, now = self.wall(), self.monotonic()
        return max(wall - self._seen.latest(now), timedelta()) + min(wall - self._seen.earliest(now), timedelta())

    @property
    def problem(self) -> str:
        """Why the clock is a problem, and what to do; empty if it is none."""
        difference = self.difference
        if abs(difference) <= self.tolerance:
            return ""
        where = "ahead of" if difference > timedelta() else "behind"
        seconds = abs(difference).total_seconds()
        return (
            f"this machine's clock is {seconds:.0f} s {where} the log's (clock.tolerance is {self.tolerance.total_seconds():g} s): "
            "fix its time synchronization (NTP), or that of the brokers"
        )


class SteadyClock:
    """A wall clock that a short fault does not move: the time of its start, and monotonic time since.

    It follows the wall clock's small corrections; a jump ahead once that has lasted; a jump back by standing still, if it is not far.
    """

    def __init__(self, wall: Clock, monotonic: Callable[[], float], not_before: datetime) -> None:
        """Start.

        Args:
            wall: the wall clock.
            monotonic: seconds that no correction moves.
            not_before: the newest time that is known to be past.
        """
        self._wall = wall
        self._monotonic = monotonic
        self._time = max(wall(), not_before)
        self._at = monotonic()
        self._ahead_since: float | None = None

    def __call__(self) -> datetime:
        """Say what time it is.

        Returns:
            The time, in UTC; never before what it returned last.
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
