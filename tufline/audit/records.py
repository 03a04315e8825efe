"""The records of topic ``audit``; key: the chain. In a file each record is a line.

The hash is defined exactly: a record ends with ``,"hash":"<64 hexadecimal digits>"}``, which is the SHA-256 of all its bytes before that
comma. The next record of the chain repeats it as ``previous``. So a change of any byte is detected, even in the last record.
"""

import hashlib
from typing import Final

import msgspec

from tufline import records
from tufline.records import Versioned

NO_HASH: Final = "0" * 64
"""The ``previous`` of a chain's first record."""

PROBE_ROLE: Final = "@probe"
"""The role of the signature that tests a key when it is opened; no real role name has an ``@``."""

_UNSEALED: Final = b',"hash":""}'
_SEAL_BYTES: Final = len(_UNSEALED) + len(NO_HASH)


class Requester(msgspec.Struct, frozen=True):
    """The part of a process that asked for signatures.

    Attributes:
        host: the machine's host name.
        pid: the process id on that machine.
        part: the part of the process, which is also its writer id, such as ``signer.bins.3``; ``signer`` for the process itself.
    """

    host: str
    pid: int
    part: str


class SignedDigest(msgspec.Struct, frozen=True):
    """One signature of a call.

    Attributes:
        role: the role that was signed, or ``PROBE_ROLE``.
        version: the role's version that was signed.
        sha256: the digest of the signed bytes, in lower-case hexadecimal.
    """

    role: str
    version: int
    sha256: str


class Anchor(msgspec.Struct, frozen=True):
    """The newest record of the topic when a chain started; it links the chains of all processes.

    Attributes:
        chain: the chain that the record belongs to, which is its key.
        offset: the record's offset in ``audit``.
        sha256: the digest of the whole record, in lower-case hexadecimal.
    """

    chain: str
    offset: int
    sha256: str


class Link(Versioned, frozen=True, kw_only=True):
    """The fields that all records of a chain have. Each subclass has ``hash`` as its last field, as the encoded record must end with it.

    Attributes:
        chain: the chain's name, random for each process that signs.
        number: the record's number in the chain, from 0.
        previous: ``hash`` of the previous record; ``NO_HASH`` in the first one.
        time: when the record was made, in UTC.
        requester: the part of the process that asked for it.
    """

    chain: str
    number: int
    previous: str
    time: str
    requester: Requester


class AuditBegin(Link, frozen=True, kw_only=True, tag="begin", tag_field="kind"):
    """Topic ``audit``. A process starts to sign; the record's number is 0.

    Attributes:
        after: the newest record of the topic before this one; None if there was none.
        hash: the SHA-256 of this record up to this field, in lower-case hexadecimal; the next record repeats it.
    """

    after: Anchor | None
    hash: str = ""


class AuditUse(Link, frozen=True, kw_only=True, tag="use", tag_field="kind"):
    """Topic ``audit``. One call of an online key.

    Attributes:
        keyid: the public key's id.
        key: the URI of the private key, with the key's version if it has versions, and without secrets.
        signatures: the signatures that the call returned.
        hash: the SHA-256 of this record up to this field, in lower-case hexadecimal; the next record repeats it.
    """

    keyid: str
    key: str
    signatures: list[SignedDigest]
    hash: str = ""


class AuditEnd(Link, frozen=True, kw_only=True, tag="end", tag_field="kind"):
    """Topic ``audit``. A process ended normally: this is the last record of its chain.

    Attributes:
        hash: the SHA-256 of this record up to this field, in lower-case hexadecimal.
    """

    hash: str = ""


AuditRecord = AuditBegin | AuditUse | AuditEnd
"""Any record of ``audit``."""

_decoder: Final[msgspec.json.Decoder[AuditRecord]] = records.decoder(AuditRecord)


def seal(record: AuditRecord) -> tuple[bytes, str]:
    """Encode a record for the log, with its hash.

    Args:
        record: a record with an empty ``hash``.

    Returns:
        The bytes, and the hash that they contain.
    """
    content = records.encode(record).removesuffix(_UNSEALED)
    digest = hashlib.sha256(content).hexdigest()
    return b'%s,"hash":"%s"}' % (content, digest.encode()), digest


def unseal(value: bytes) -> tuple[AuditRecord, bool]:
    """Decode a record that ``seal`` encoded.

    Args:
        value: the record's bytes.

    Returns:
        The record, and whether it matches its hash.

    Raises:
        SchemaError: if it has a newer schema version.
        RecordError: if it is not a record of the audit trail.
    """
    record = records.decode(_decoder, value)
    content = value[:-_SEAL_BYTES]
    digest = hashlib.sha256(content).hexdigest()
    return record, value[-_SEAL_BYTES:] == b',"hash":"%s"}' % digest.encode()
