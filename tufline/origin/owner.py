"""Which log may publish to an origin: a small file there that names it.

Two logs that publish to one origin take turns at overwriting each other's files, and clients that have seen one refuse the other. So the
first publisher that may (see ``tufline.origin.provenance``) claims the origin for its log; that of another log is refused, until people say
otherwise (``tufline origin adopt``).
"""

from datetime import datetime

import msgspec

from tufline.decoding import decode
from tufline.errors import ForeignOriginError, StoreChangedError
from tufline.metadata import envelope
from tufline.origin.store import OWNER, Store


class Owner(msgspec.Struct, frozen=True):
    """What the file says. Fields that a later version adds are passed over.

    Attributes:
        log: id of the log (``Bus.log_id``).
        claimed: when it claimed the origin, UTC, such as ``2030-01-01T00:00:00Z``.
    """

    log: str
    claimed: str


_decoder = msgspec.json.Decoder(Owner)


async def read_owner(store: Store) -> Owner | None:
    """Read whose an origin is.

    Args:
        store: the origin.

    Returns:
        The owner; None if nobody has claimed it.

    Raises:
        ForeignOriginError: if the file can't be read: it is somebody's, and nobody knows whose.
        StoreError: if the origin can't be read.
    """
    content = await store.get(OWNER)
    if content is None:
        return None
    return decode(_decoder, content, _damaged)


def _damaged(reason: str) -> ForeignOriginError:
    return ForeignOriginError(
        f"{OWNER}, which names the log that may publish to the origin, is damaged ({reason}): if that is this log, run tufline origin adopt"
    )


async def check_owner(store: Store, log_id: str) -> bytes:
    """Make sure that an origin is still a log's.

    Args:
        store: the origin.
        log_id: of the log.

    Returns:
        The content of ``OWNER``, for ``Store.replace``: by then another log may have the origin.

    Raises:
        ForeignOriginError: if another log has it.
        StoreChangedError: if it is nobody's any more.
        StoreError: if the origin can't be read.
    """
    content = await store.get(OWNER)
    if content is None:
        raise StoreChangedError(f"{OWNER} was deleted from the origin; it is looked at again")
    owner = decode(_decoder, content, _damaged)
    if owner.log != log_id:
        raise ForeignOriginError(
            f"the origin belongs to the log {owner.log} since {owner.claimed}, and this is the log {log_id}: set publisher.directory to "
            "this log's own, or run tufline origin adopt if this log replaces that one"
        )
    return content


async def claim(store: Store, log_id: str, now: datetime, *, expected: bytes | None) -> None:
    """Write that an origin is a log's, if it is still whose it was when that was decided.

    Args:
        store: the origin.
        log_id: of the log.
        now: with a time zone.
        expected: the content of ``OWNER`` at that time; None if nobody had claimed the origin.

    Raises:
        StoreChangedError: if another log has claimed it since.
        StoreError: if it can't be written.
    """
    content = msgspec.json.encode(Owner(log_id, envelope.format_expires(now)))
    await store.replace(OWNER, content + b"\n", expected=expected)
