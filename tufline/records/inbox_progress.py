"""The records of ``inbox-progress``: which events of the inbox are accepted, and as which task."""

from typing import Final

import msgspec

from tufline.records.codec import Versioned, decoder
from tufline.records.heads import Claim


class InboxProgress(Versioned, frozen=True, kw_only=True, tag="inbox", tag_field="kind"):
    """Topic ``inbox-progress``, key: see ``tufline_ingest.inbox.dedupe``. One transaction that moved events from ``inbox``.

    Attributes:
        number: counts the transactions of the partition, from 1.
        offset: an offset in ``inbox``; every event below it is moved.
        accepted: the events that the transaction accepted: digest of source and id, to the task id.
        uncertain: the offset in ``inbox`` below which an event may have been moved by a transaction whose records are all unreadable; 0 if
            there is no such transaction.
    """

    number: int
    offset: int
    accepted: dict[str, str]
    uncertain: int = 0


InboxRecord = InboxProgress | Claim
"""Any record of ``inbox-progress``."""

inbox_decoder: Final[msgspec.json.Decoder[InboxRecord]] = decoder(InboxRecord)
