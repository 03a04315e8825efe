"""The records of topic ``audit``; key: the chain. In a file each is a line.

What is hashed is exactly defined. A record ends with ``,"hash":"<64 hexadecimal digits>"}``, and that is the SHA-256 of all its bytes
before the comma. The next record of the chain repeats it as ``previous``. So no byte of a record can change unseen, also of the last one.
"""

import hashlib
from typing import Final

import msgspec

from tufline import records
from tufline.records import Versioned

NO_HASH: Final = "0" * 64
"""What the first record of a chain has for the hash of the one before."""

PROBE_ROLE: Final = "@probe"
"""Stands for a role where a key was tried at its opening; no role name has an ``@``."""

_UNSEALED: Final = b',"hash":""}'
_SEAL_BYTES: Final = len(_UNSEALED) + len(NO_HASH)


class Requester(msgspec.Struct, frozen=True):
    """Who asked for signatures.

    Attributes:
        host: the machine's name.
        pid: the process id on that machine.
        part: the part of the process, which is its writer id too, such as ``signer.bins.3``; ``signer`` for the process itself.
    """

    host: str
    pid: int
    part: str


class SignedDigest(msgspec.Struct, frozen=True):
    """One signature of a call.

    Attributes:
        role: the role that was signed, or ``PROBE_ROLE``.
        version: the role's version that was signed.
        sha256: the digest of the signed bytes, lower-case hexadecimal.
    """

    role: str
    version: int
    sha256: str


class Anchor(msgspec.Struct, frozen=True):
    """The newest record that the topic had when a chain began: what ties the chains of all processes together.

    Attributes:
        chain: the chain that the record belongs to, which is its key.
        offset: where the record is in ``audit``.
        sha256: the digest of the whole record, lower-case hexadecimal.
    """

    chain: str
    offset: int
    sha256: str


class Link(Versioned, frozen=True, kw_only=True):
    """What all records of a chain have. A subclass has ``hash`` as its last field, as it must stand last.

    Attributes:
        chain: names it: random for each process that signs.
        number: counts the records of the chain, from 0.
        previous: ``hash`` of the record before; ``NO_HASH`` of the first one.
        time: when it was made, UTC.
        requester: who asked for it.
    """

    chain: str
    number: int
    previous: str
    time: str
    requester: Requester


class AuditBegin(Link, frozen=True, kw_only=True, tag="begin", tag_field="kind"):
    """Topic ``audit``. A process begins to sign; its number is 0.

    Attributes:
        after: the newest record before; None if there was none.
        hash: the SHA-256 of this record up to this field, lower-case hexadecimal; the next record repeats it.
    """

    after: Anchor | None
    hash: str = ""


class AuditUse(Link, frozen=True, kw_only=True, tag="use", tag_field="kind"):
    """Topic ``audit``. One call of an online key.

    Attributes:
        keyid: the public key's id.
        key: URI of its private part, with the key's version where there are some, without secrets.
        signatures: what the call signed.
        hash: the SHA-256 of this record up to this field, lower-case hexadecimal; the next record repeats it.
    """

    keyid: str
    key: str
    signatures: list[SignedDigest]
    hash: str = ""


class AuditEnd(Link, frozen=True, kw_only=True, tag="end", tag_field="kind"):
    """Topic ``audit``. A process ended in order: no record of its chain comes after this one.

    Attributes:
        hash: the SHA-256 of this record up to this field, lower-case hexadecimal.
    """

    hash: str = ""


AuditRecord = AuditBegin | AuditUse | AuditEnd
"""What may stand in ``audit``."""

_decoder: Final[msgspec.json.Decoder[AuditRecord]] = records.decoder(AuditRecord)


def seal(record: AuditRecord) -> tuple[bytes, str]:
    """Write a record as it goes to the log, with its hash.

    Args:
        record: with an empty ``hash``.

    Returns:
        The bytes, and the hash that is in them.
    """
    content = records.encode(record).removesuffix(_UNSEALED)
    digest = hashlib.sha256(content).hexdigest()
    return b'%s,"hash":"%s"}' % (content, digest.encode()), digest


def unseal(value: bytes) -> tuple[AuditRecord, bool]:
    """Read what ``seal`` wrote.

    Args:
        value: the bytes of a record.

    Returns:
        The record, and whether it is what its hash says.

    Raises:
        SchemaError: if it has a newer schema version.
        RecordError: if it is no record of an audit.
    """
    record = records.decode(_decoder, value)
    content = value[:-_SEAL_BYTES]
    digest = hashlib.sha256(content).hexdigest()
    return record, value[-_SEAL_BYTES:] == b',"hash":"%s"}' % digest.encode()
