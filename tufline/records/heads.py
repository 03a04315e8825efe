"""The records of ``heads``: the newest version of each role, the changes that are held, and the progress of the writers."""

import re
from typing import Final

import msgspec

from tufline.records.codec import HOLD_SCHEMA, OFFLINE_ROLES_SCHEMA, Versioned, decoder
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.vector import Vector

PROGRESS_KEY: Final = "@progress"
"""The key of ``Progress`` in ``heads``; no role name has an ``@``."""

CLAIM_KEY: Final = "@claim"
"""The key of ``Claim``."""

HELD_PREFIX: Final = "@held."
"""The prefix of the keys of ``Held``; the number of the slot follows it."""

PENDING_PREFIX: Final = "@pending."
"""The prefix of the keys of ``Pending``; the number of the slot follows it."""

PROPOSED_PREFIX: Final = "@proposed."
"""The prefix of the keys of ``Proposed``; the name of the role follows it."""

_SLOT: Final = re.compile(f"(?:{re.escape(HELD_PREFIX)}|{re.escape(PENDING_PREFIX)})(0|[1-9][0-9]{{0,8}})")


def held_key(slot: int) -> str:
    """Make the key of a slot for a held change.

    Args:
        slot: the number of the slot in its partition, from 0.

    Returns:
        The key of its records in ``heads``.
    """
    return f"{HELD_PREFIX}{slot}"


def pending_key(slot: int) -> str:
    """Make the key of a slot for a pending change.

    Args:
        slot: the number of the slot in its partition, from 0.

    Returns:
        The key of its records in ``heads``.
    """
    return f"{PENDING_PREFIX}{slot}"


def proposed_key(role: str) -> str:
    """Make the key of the next version of a custom role that people sign.

    Args:
        role: the role's name.

    Returns:
        The key of its records in ``heads``.
    """
    return f"{PROPOSED_PREFIX}{role}"


def is_role_key(key: str) -> bool:
    """Return whether a key of ``heads`` is the name of a role, whose head it has.

    Args:
        key: any key.
    """
    return not key.startswith("@")


def slot_of_key(key: str) -> int | None:
    """Read the slot from the key of a record of ``heads``, for a held or a pending change.

    Args:
        key: any key.

    Returns:
        The number of the slot; None for the key of another record.
    """
    found = _SLOT.fullmatch(key)
    return int(found[1]) if found else None


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
        admin: for a custom role, the offset in ``admin`` below which this version follows all versions of the delegations: it has nothing
            of what the role lost by them. An ``applied`` can't tell that, because ingest reads the ends of a version before it appends it.
    """

    version: int
    sha256: str
    length: int
    expires: str
    offset: int
    keyids: list[str]
    applied: int = 0
    admin: int = 0


class Progress(Versioned, frozen=True, kw_only=True, tag="progress", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, same partition as in ``artifacts``. The progress of the bins' writer.

    Attributes:
        offset: an offset in ``artifacts``; every change below it is applied.
        trail: where the receipts are; None if the last writer was a version that kept no index of them.
        publish: an offset in ``admin``; the changes that publishes below it release have been released.
        publishes: where the receipts of publishes are, by their offsets in ``admin``; None before the first publish.
        held: how many changes are held.
        max_held: how many changes may be held (``signer.max_held_changes``).
        pending: how many changes are pending, because people have to sign the role that they are for.
        max_pending: how many changes may be pending (``signer.max_pending_changes``).
    """

    offset: int
    trail: ReceiptIndex | None = None
    publish: int = 0
    publishes: ReceiptIndex | None = None
    held: int = 0
    max_held: int = 0
    pending: int = 0
    max_pending: int = 0


class Held(Versioned, frozen=True, kw_only=True, tag="held", tag_field="kind"):
    """Topic ``heads``, key ``held_key(slot)``, same partition as in ``artifacts``. A slot for a held change.

    Slots are used again, so that a compacted partition has at most as many of them as were ever in use at the same time.

    Attributes:
        path: the target path; empty if the slot is free.
        role: the custom role that it is for; empty for the path's bin.
        entry: the target's entry as its bin will have it, canonical JSON; None if the path is to be removed.
        offset: the offset in ``artifacts`` of the record with the change.
        index: the index of the change in that record, from 0.
    """

    v: int = HOLD_SCHEMA
    path: str = ""
    role: str = ""
    entry: str | None = None
    offset: int = 0
    index: int = 0


class Pending(Versioned, frozen=True, kw_only=True, tag="pending", tag_field="kind"):
    """Topic ``heads``, key ``pending_key(slot)``, same partition as in ``artifacts``. A slot for a change that waits until people sign.

    Slots are used again, as for ``Held``.

    Attributes:
        role: the custom role; empty if the slot is free.
        path: the target path.
        entry: the target's entry as the role will have it, canonical JSON; None if the path is to be removed.
        offset: the offset in ``artifacts`` of the record with the change.
        index: the index of the change in that record, from 0.
    """

    v: int = OFFLINE_ROLES_SCHEMA
    role: str = ""
    path: str = ""
    entry: str | None = None
    offset: int = 0
    index: int = 0


class Proposed(Versioned, frozen=True, kw_only=True, tag="proposed", tag_field="kind"):
    """Topic ``heads``, key ``proposed_key(role)``, same partition as the role's head. The next version of a custom role that people sign.

    It is made of the version before, the pending changes below ``end``, and the delegations; so its bytes are not on the log again.

    Attributes:
        version: the version that waits for signatures; 0 if none does.
        expires: when it will expire, as the file will have it.
        sha256: the digest of the bytes to sign, lower-case hexadecimal.
        base: the version that it follows; 0 if the role begins empty.
        since: the offset in ``admin`` below which the version before follows the delegations (``Head.admin``).
        admin: the same for this version.
        end: an offset in ``artifacts``: it has the pending changes below it.
        seen: an offset in ``artifacts``: all changes of the role below it are in a version, pending, or have a receipt.
        signatures: keyid to signature, so far.
    """

    v: int = OFFLINE_ROLES_SCHEMA
    version: int = 0
    expires: str = ""
    sha256: str = ""
    base: int = 0
    since: int = 0
    admin: int = 0
    end: int = 0
    seen: int = 0
    signatures: dict[str, str] = msgspec.field(default_factory=dict)


class Claim(Versioned, frozen=True, kw_only=True, tag="claim", tag_field="kind"):
    """Topics ``heads`` and ``inbox-progress``, key ``CLAIM_KEY``. A new writer takes this partition over; only it writes from here on.

    Attributes:
        writer: the writer id.
    """

    writer: str


class Committed(Versioned, frozen=True, kw_only=True, tag="committed", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, last partition. The vector of the newest commit.

    Attributes:
        vector: which records the commit covers.
    """

    vector: Vector


HeadsRecord = Head | Progress | Held | Pending | Proposed | Committed | Claim
"""Any record of ``heads``."""

heads_decoder: Final[msgspec.json.Decoder[HeadsRecord]] = decoder(HeadsRecord)
