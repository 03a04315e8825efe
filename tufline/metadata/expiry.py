"""An expiry in sight: what people must renew is announced long before. Pure."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

STEPS: Final = (
    (timedelta(days=90), 1 / 4),
    (timedelta(days=30), 1 / 12),
    (timedelta(days=7), 1 / 50),
)
"""When people are told: so long before, or at such a part of the lifetime, whichever is later."""


class Sight(NamedTuple):
    """An expiry that is near.

    Attributes:
        step: how many of ``STEPS`` are reached; one more when it has expired.
        text: for people: what expires when, and what to do.
    """

    step: int
    text: str


def in_sight(role: str, expires: datetime, lifetime: timedelta, now: datetime) -> Sight | None:
    """Say whether a role that people sign expires soon.

    Args:
        role: its name.
        expires: when its newest version expires.
        lifetime: how long a version lives.
        now: with a time zone.

    Returns:
        The expiry; None as long as it is far.
    """
    left = expires - now
    step = sum(left <= min(before, lifetime * part) for before, part in STEPS)
    if not step:
        return None
    if left <= timedelta():
        return Sight(step + 1, f"{role} has expired, so clients refuse the repository: sign a newer version offline")
    days = left / timedelta(days=1)
    return Sight(step, f"{role} expires in {days:.1f} days, on {expires:%Y-%m-%d}: sign a newer version offline")
