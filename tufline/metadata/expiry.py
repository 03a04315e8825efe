"""Warnings about approaching expiry: metadata that people must sign again is announced long before it expires. Pure."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

STEPS: Final = (
    (timedelta(days=90), 1 / 4),
    (timedelta(days=30), 1 / 12),
    (timedelta(days=7), 1 / 50),
)
"""When to warn: this long before the expiry, or when this fraction of the lifetime is left, whichever is later."""


class ExpiryWarning(NamedTuple):
    """A warning about an expiry that is near.

    Attributes:
        step: how many of ``STEPS`` are reached; one more once it has expired.
        text: what expires when, and what to do.
    """

    step: int
    text: str


def expiry_warning(role: str, expires: datetime, lifetime: timedelta, now: datetime) -> ExpiryWarning | None:
    """Check whether a role that people sign expires soon.

    Args:
        role: the role's name.
        expires: when its newest version expires.
        lifetime: how long a version of it is valid.
        now: a time with a time zone.

    Returns:
        The warning; None while the expiry is far away.
    """
    left = expires - now
    step = sum(left <= min(before, lifetime * part) for before, part in STEPS)
    if not step:
        return None
    if left <= timedelta():
        return ExpiryWarning(step + 1, f"{role} has expired, so clients refuse the repository: {_advice(role)}")
    days = left / timedelta(days=1)
    return ExpiryWarning(step, f"{role} expires in {days:.1f} days, on {expires:%Y-%m-%d}: {_advice(role)}")


def _advice(role: str) -> str:
    return f"renew it with tufline {role} renew"
