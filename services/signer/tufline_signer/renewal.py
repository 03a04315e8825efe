"""When a role is renewed: well before it expires, and not all bins at once. Pure."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from tufline.metadata.envelope import parse_expires
from tufline.records import Head

SPREAD: Final = 0.5
"""The fraction of the time before the latest renewal over which the bins' renewals are spread."""

HASH_RANGE: Final = 2**32

TOO_LATE: Final = 0.05
"""By which fraction of its lifetime a version may expire later than one made now: brokers' clocks differ a little."""


def latest(head: Head, lifetime: timedelta, fraction: float) -> datetime:
    """Return when a role must be renewed at the latest.

    Args:
        head: head of the role's newest version.
        lifetime: how long a version is valid.
        fraction: fraction of the lifetime that must remain.

    Returns:
        The latest time of renewal.
    """
    return parse_expires(head.expires) - lifetime * fraction


def is_too_long(head: Head, lifetime: timedelta, now: datetime) -> bool:
    """Return whether a version expires later than a new one would: the clock was ahead when it was made, or the lifetime was longer.

    Args:
        head: head of the role's newest version.
        lifetime: how long a version is valid.
        now: current time, with a time zone.
    """
    return parse_expires(head.expires) > now + lifetime * (1 + TOO_LATE)


def spread(role: str, head: Head, lifetime: timedelta, fraction: float) -> datetime:
    """Return when one of many roles is renewed, so that they are not all renewed at once.

    Args:
        role: the role's name; name and version determine the time, which is the same in every process.
        head: head of the role's newest version.
        lifetime: how long a version is valid.
        fraction: fraction of the lifetime that must remain.

    Returns:
        A time before ``latest``.
    """
    share = int.from_bytes(hashlib.blake2b(f"{role}/{head.version}".encode(), digest_size=4).digest(), "big") / HASH_RANGE
    return latest(head, lifetime, fraction) - lifetime * (1 - fraction) * SPREAD * share
