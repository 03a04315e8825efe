"""How records are encoded and decoded, and the versions that they name.

In: records, or the bytes of the log. Out: JSON, or a record. A version of the schema that is too new is an error of its own, as an upgrade
helps; other bytes that are not a record are damage.
"""

from typing import Any, Final, TypeVar

import msgspec

from tufline import decoding
from tufline.errors import RecordError, SchemaError

SCHEMA_VERSION: Final = 1
"""The version of a record that does not need a newer one."""

PARTITION_BITS_SCHEMA: Final = 2
"""The first version with ``Settings.partition_bits``: a reader that ignores that field would expect each bin in another partition."""

SIGNING_SCHEMA: Final = 3
"""The first version with ``signing``, ``Signature`` and ``Withdrawal``: a reader that ignores them would miss versions that become
complete."""

ONLINE_SCHEMA: Final = 4
"""The first version with ``NewLifetimes`` and ``Renewal``: a signer that ignores them would not agree with others about what to sign."""

HOLD_SCHEMA: Final = 5
"""The first version with ``Changes.hold``, ``Held``, ``Publish`` and ``Freeze``: a reader that ignores them would publish held changes."""

DELEGATIONS_SCHEMA: Final = 6
"""The first version with ``ChangedDelegations``: a reader that ignores it would apply changes to other roles than clients look in."""

OFFLINE_ROLES_SCHEMA: Final = 7
"""The first version with custom roles whose keys only people have: a signer that ignores ``Changes.sign`` would miss their signatures."""

NEWEST_SCHEMA: Final = OFFLINE_ROLES_SCHEMA
"""The newest version that can be read."""

FIRST_RULES: Final = 1
"""The version of the rules that applied before records named one."""

CHAIN_RULES: Final = 3
"""The first version by which new targets must be signed for every root that waits for them, not only for the newest ones."""

CURRENT_RULES: Final = CHAIN_RULES
"""The version of the rules that ingest applies to new submissions. A record names its version, and keeps it as long as the log exists."""


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """A record with the version of its schema.

    Attributes:
        v: the version of the record's schema.
    """

    v: int = SCHEMA_VERSION


_encoder: Final = msgspec.json.Encoder()
_version_decoder: Final = msgspec.json.Decoder(Versioned)
T = TypeVar("T")


def encode(record: Versioned) -> bytes:
    """Encode a record for the log.

    Args:
        record: any record.

    Returns:
        JSON.
    """
    return _encoder.encode(record)


def decoder(record: type[T] | Any) -> msgspec.json.Decoder[T]:
    """Make a decoder for a record type or a union of record types.

    Args:
        record: the type.

    Returns:
        A decoder for ``decode``; reuse it, as making one is slow.
    """
    return msgspec.json.Decoder(record)


def decode(with_decoder: "msgspec.json.Decoder[T]", value: bytes) -> T:
    """Decode a record of the log.

    Args:
        with_decoder: from ``decoder``.
        value: the record's value.

    Returns:
        The record.

    Raises:
        SchemaError: if it has a newer schema version, which a newer Tufline can read.
        RecordError: if it is not valid in any schema version.
    """
    try:
        record = decoding.decode(with_decoder, value, _unknown_form)
    except RecordError as error:
        try:
            version = decoding.decode(_version_decoder, value, _unknown_form).v
        except RecordError:
            raise error from None
        if version > NEWEST_SCHEMA:
            raise _newer(version) from error
        raise
    version = getattr(record, "v", SCHEMA_VERSION)
    if version > NEWEST_SCHEMA:
        raise _newer(version)
    return record


def _unknown_form(reason: str) -> RecordError:
    return RecordError(f"the record is not valid in any schema version: {reason}")


def _newer(version: int) -> SchemaError:
    found = decoding.excerpt(version)
    return SchemaError(f"the record has schema version {found}, and this version of Tufline knows {NEWEST_SCHEMA}: upgrade it")
