"""The records of ``artifacts``: the changes that ingest has accepted from requests and events."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tufline.records.codec import FIRST_RULES, Versioned, decoder

MAX_CHANGES_BYTES: Final = 512 * 1024
"""The largest record of ``artifacts``, in bytes."""


class Add(msgspec.Struct, frozen=True, tag="add", tag_field="op", omit_defaults=True, gc=False):
    """Add a target, or replace the one at its path.

    Attributes:
        path: the target path.
        length: the size of the artifact, in bytes.
        hashes: algorithm to lower-case hexadecimal digest.
        custom: a JSON object with the repository's own data; None for none.
    """

    path: str
    length: int
    hashes: dict[str, str]
    custom: dict[str, Any] | None = None


class Remove(msgspec.Struct, frozen=True, tag="remove", tag_field="op", gc=False):
    """Remove the target at a path.

    Attributes:
        path: the target path.
    """

    path: str


class Part(NamedTuple):
    """The records of one request in one partition.

    Attributes:
        partition: of ``artifacts``.
        start: an offset at or below that of the first of them.
        records: how many there are, at least one.
    """

    partition: int
    start: int
    records: int


class RoleSignature(msgspec.Struct, frozen=True):
    """A signature of the next version of a custom role whose keys only people have; or the withdrawal of all signatures so far.

    Attributes:
        role: the role's name.
        version: the version that was signed.
        sha256: the digest of the bytes that were signed, lower-case hexadecimal.
        keyid: the id of the key; empty for a withdrawal.
        sig: the signature in lower-case hexadecimal; empty for a withdrawal.
    """

    role: str
    version: int
    sha256: str
    keyid: str = ""
    sig: str = ""


class Changes(Versioned, frozen=True, kw_only=True):
    """Topic ``artifacts``: changes of one request that belong to one partition, in the request's order.

    Attributes:
        request: the request's name, which is also the record's key.
        admin: the offset in ``admin`` below which ingest had applied all records when it accepted the request.
        changes: the changes to apply, in this order; at most ``MAX_CHANGES_BYTES`` when encoded.
        rules: the version of the rules by which ingest accepted them.
        bulk: whether this is part of a bulk request, whose receipts name changes only by their index, and only if they were refused or not
            found.
        parts: in the first record of a request whose task id was made before its records were appended: where all of its records are.
        hold: whether the changes are held until a publish (``tufline.records.Publish``). Such a record has schema version ``HOLD_SCHEMA``.
        sign: a signature of a custom role of the partition. Such a record has no changes, and schema version ``OFFLINE_ROLES_SCHEMA``.
    """

    request: str
    admin: int
    changes: list[Add | Remove]
    rules: int = FIRST_RULES
    bulk: bool = False
    parts: tuple[Part, ...] | msgspec.UnsetType = msgspec.UNSET
    hold: bool = False
    sign: RoleSignature | msgspec.UnsetType = msgspec.UNSET


_encoder: Final = msgspec.json.Encoder()
changes_decoder: Final[msgspec.json.Decoder[Changes]] = decoder(Changes)


def encode_change(change: Add | Remove) -> bytes:
    """Encode one change for ``encode_changes``.

    Args:
        change: the change.

    Returns:
        JSON.
    """
    return _encoder.encode(change)


def encode_changes(record: Changes, changes: Sequence[bytes]) -> bytes:
    """Encode a record from changes that are already encoded.

    Args:
        record: the record without changes.
        changes: its changes, each from ``encode_change``.

    Returns:
        JSON, the same as from ``encode``.
    """
    encoded: Any = msgspec.Raw(b"[" + b",".join(changes) + b"]")
    return _encoder.encode(msgspec.structs.replace(record, changes=encoded))
