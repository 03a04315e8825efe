"""When a role is renewed: well before it expires, and not all bins at once. Pure."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from tufline.metadata.envelope import parse_expires
from tufline.records import Head

SPREAD: Final = 0.5
"""Over which part of the time before the latest renewal the bins' renewals are spread."""

HASH_RANGE: Final = 2**32

TOO_LATE: Final = 0.05
"""By which part of its lifetime a version may expire later than one that is made now: brokers' clocks differ a little."""


def latest(head: Head, lifetime: timedelta, fraction: float) -> datetime:
    """Say when a role is to be renewed at the latest.

    Args:
        head: its newest version.
        lifetime: how long a version lives.
        fraction: of the lifetime that must be left.

    Returns:
        The moment.
    """
    return parse_expires(head.expires) - lifetime * fraction


def is_of_a_wrong_clock(head: Head, lifetime: timedelta, now: datetime) -> bool:
    """Say whether a version expires so late that the clock was ahead when it was made: then it is to be renewed, once the clock is right.

    Args:
        head: its newest version.
        lifetime: how long a version lives.
        now: with a time zone.
    """
    return parse_expires(head.expires) > now + lifetime * (1 + TOO_LATE)


def spread(role: str, head: Head, lifetime: timedelta, fraction: float) -> datetime:
    """Say when one of many roles is to be renewed, so that they are not all renewed at once.

    Args:
        role: its name; with the version it chooses the moment, the same in every process.
        head: its newest version.
        lifetime: how long a version lives.
        fraction: of the lifetime that must be left.

    Returns:
        A moment before ``latest``.
    """
    share = int.from_bytes(hashlib.blake2b(f"{role}/{head.version}".encode(), digest_size=4).digest(), "big") / HASH_RANGE
    return latest(head, lifetime, fraction) - lifetime * (1 - fraction) * SPREAD * share
