"""The records of ``heads``: the newest version of each role, and how far its writers have come."""

from typing import Final

import msgspec

from tufline.records.codec import Versioned, decoder
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.vector import Vector

PROGRESS_KEY: Final = "@progress"
"""The key of ``Progress`` in ``heads``; no role name has an ``@``."""

CLAIM_KEY: Final = "@claim"
"""The key of ``Claim``."""


class Head(Versioned, frozen=True, kw_only=True, tag="head", tag_field="kind"):
    """Topic ``heads``, key: role. The newest version of a role.

    Attributes:
        version: the role's newest version.
        sha256: the digest of its file, lower-case hexadecimal.
        length: the size of its file, in bytes.
        expires: when that version expires, as its file has it.
        offset: where its file is in ``metadata``.
        keyids: the keys that signed it.
        applied: for a bin, the offset in ``artifacts`` below which this version has all changes of the bin. After a crash it tells which
            changes are applied already, so that a batch may be written in several transactions, each bin in one of them.
    """

    version: int
    sha256: str
    length: int
    expires: str
    offset: int
    keyids: list[str]
    applied: int = 0


class Progress(Versioned, frozen=True, kw_only=True, tag="progress", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, same partition as in ``artifacts``. The progress of the bins' writer.

    Attributes:
        offset: an offset in ``artifacts``; every change below it is applied.
        trail: where the receipts are; None if the last writer was a version that kept no index of them.
    """

    offset: int
    trail: ReceiptIndex | None = None


class Claim(Versioned, frozen=True, kw_only=True, tag="claim", tag_field="kind"):
    """Topics ``heads`` and ``inbox-progress``, key ``CLAIM_KEY``. A new writer takes this partition over; only it writes from here on.

    Attributes:
        writer: the writer id.
    """

    writer: str


class Committed(Versioned, frozen=True, kw_only=True, tag="committed", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, last partition. How far the newest commit goes.

    Attributes:
        vector: what that commit covers.
    """

    vector: Vector


HeadsRecord = Head | Progress | Committed | Claim
"""Any record of ``heads``."""

heads_decoder: Final[msgspec.json.Decoder[HeadsRecord]] = decoder(HeadsRecord)
