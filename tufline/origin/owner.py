"""The owner of an origin: a small file there names the log that may publish to it.

If two logs published to one origin, they would keep overwriting each other's files, and a client that has read one log's metadata would
refuse the other's. So the first publisher that is allowed to (see ``tufline.origin.provenance``) claims the origin for its log. A publisher
of another log is refused until an operator runs ``tufline origin adopt``.
"""

from datetime import datetime

import msgspec

from tufline.decoding import decode
from tufline.errors import ForeignOriginError, StoreChangedError
from tufline.metadata import envelope
from tufline.origin.store import OWNER, Store


class Owner(msgspec.Struct, frozen=True):
    """The content of the file. Fields that a later version adds are ignored.

    Attributes:
        log: the id of the owning log (``Bus.log_id``).
        claimed: when it claimed the origin, in UTC, such as ``2030-01-01T00:00:00Z``.
    """

    log: str
    claimed: str


_decoder = msgspec.json.Decoder(Owner)


async def read_owner(store: Store) -> Owner | None:
    """Read the owner of an origin.

    Args:
        store: the origin.

    Returns:
        The owner; None if no log has claimed the origin.

    Raises:
        ForeignOriginError: if the file is damaged, so that the owner is unknown.
        StoreError: if the origin can't be read.
    """
    content = await store.get(OWNER)
    if content is None:
        return None
    return decode(_decoder, content, _damaged)


def _damaged(reason: str) -> ForeignOriginError:
    return ForeignOriginError(
        f"{OWNER}, which names the log that owns the origin, is damaged ({reason}): if this log owns the origin, run tufline origin adopt"
    )


async def check_owner(store: Store, log_id: str) -> bytes:
    """Check that a log still owns an origin.

    Args:
        store: the origin.
        log_id: the log's id (``Bus.log_id``).

    Returns:
        The content of ``OWNER``. Pass it to ``Store.replace``, which compares it again, as another log may claim the origin meanwhile.

    Raises:
        ForeignOriginError: if another log owns it.
        StoreChangedError: if no log owns it any more.
        StoreError: if the origin can't be read.
    """
    content = await store.get(OWNER)
    if content is None:
        raise StoreChangedError(f"{OWNER} was deleted from the origin; the publisher checks the origin again")
    owner = decode(_decoder, content, _damaged)
    if owner.log != log_id:
        raise ForeignOriginError(
            f"the origin belongs to the log {owner.log} (claimed at {owner.claimed}), but this is the log {log_id}: set "
            "publisher.directory to this log's own directory, or run tufline origin adopt if this log replaces the other one"
        )
    return content


async def claim(store: Store, log_id: str, now: datetime, *, expected: bytes | None) -> None:
    """Claim an origin for a log, unless the owner has changed since the caller read it.

    Args:
        store: the origin.
        log_id: the log's id (``Bus.log_id``).
        now: a time with a time zone.
        expected: the content of ``OWNER`` that the caller saw; None if it did not exist.

    Raises:
        StoreChangedError: if the owner has changed.
        StoreError: if the file can't be written.
    """
    content = msgspec.json.encode(Owner(log_id, envelope.format_expires(now)))
    await store.replace(OWNER, content + b"\n", expected=expected)
