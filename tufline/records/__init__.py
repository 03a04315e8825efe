"""The records of every topic, as JSON on the log.

``schemas/records.json`` is generated from these types. A record has the version of its schema (``v``): logs live for years, and during a
rolling upgrade old and new services read the same log. A reader refuses a version that it does not know, and ignores fields that it does
not know. So a record has a newer version only if a reader that ignores one of its fields would misunderstand it.

The topic ``metadata`` has the exact bytes of metadata files instead; their attributes are in the records' headers
(``tufline.records.metadata``). The events of ``inbox`` are in ``tufline.records.events``, their outcomes in ``tufline.records.receipts``.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from tufline import decoding
from tufline.errors import RecordError, SchemaError
from tufline.metadata.bins import BinLayout
from tufline.metadata.profiles import Profile
from tufline.records.partitioning import Partitioning
from tufline.records.receipt_index import ReceiptIndex

SCHEMA_VERSION: Final = 1
"""The version of a record that does not need a newer one."""

PARTITION_BITS_SCHEMA: Final = 2
"""The first version with ``Settings.partition_bits``: a reader that ignores that field would expect each bin in another partition."""

NEWEST_SCHEMA: Final = PARTITION_BITS_SCHEMA
"""The newest version that can be read."""

MAX_CHANGES_BYTES: Final = 512 * 1024
"""The largest record of ``artifacts``, in bytes."""

FIRST_RULES: Final = 1
"""The version of the rules that applied before records named one."""

CURRENT_RULES: Final = 2
"""The version of the rules that ingest applies to new submissions. A record names its version, and keeps it as long as the log lives."""

PROGRESS_KEY: Final = "@progress"
"""The key of ``Progress`` in ``heads``; no role name has an ``@``."""

CLAIM_KEY: Final = "@claim"
"""The key of ``Claim``."""


ACCEPTED_LOSS_KEY: Final = "accepted-loss"
"""The key of ``AcceptedLoss`` in ``admin``."""


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """A record with the version of its schema.

    Attributes:
        v: the version of the record's schema.
    """

    v: int = SCHEMA_VERSION


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


class Changes(Versioned, frozen=True, kw_only=True):
    """Topic ``artifacts``: changes of one request that belong to one partition, in the request's order.

    Attributes:
        request: the request's name, which is also the record's key.
        admin: the offset in ``admin`` below which ingest had applied all records when it accepted the request.
        changes: the changes to apply, in this order; at most ``MAX_CHANGES_BYTES`` when encoded.
        rules: the version of the rules by which ingest accepted them.
        bulk: whether this is part of a bulk request, whose receipts name changes only by their index, and only if they were refused or not
            found.
    """

    request: str
    admin: int
    changes: list[Add | Remove]
    rules: int = FIRST_RULES
    bulk: bool = False


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


class Vector(msgspec.Struct, frozen=True):
    """How far a commit goes in all inputs: records below these offsets are live once it is published.

    Attributes:
        artifacts: an offset for each partition of ``artifacts``; every record below it is applied.
        admin: an offset in ``admin``; every record below it is applied.
    """

    artifacts: list[int]
    admin: int

    def covers(self, other: "Vector") -> bool:
        """Return whether this vector goes at least as far as another one in every input.

        Args:
            other: a vector of the same repository.

        Returns:
            Whether all of ``other`` is covered.
        """
        pairs = zip(self.artifacts, other.artifacts, strict=True)
        return self.admin >= other.admin and all(mine >= theirs for mine, theirs in pairs)


class Committed(Versioned, frozen=True, kw_only=True, tag="committed", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, last partition. How far the newest commit goes.

    Attributes:
        vector: what that commit covers.
    """

    vector: Vector


HeadsRecord = Head | Progress | Committed | Claim
"""Any record of ``heads``."""


class FileRef(msgspec.Struct, frozen=True):
    """A reference to a file in ``metadata``.

    Attributes:
        version: the role's version in the file.
        offset: the offset of the file's record in ``metadata``.
        sha256: the digest of the file, in lower-case hexadecimal.
    """

    version: int
    offset: int
    sha256: str


class Published(Versioned, frozen=True, kw_only=True):
    """Topic ``published``, key: origin. A commit was published at an origin.

    Attributes:
        origin: the configured name of the origin.
        timestamp: the timestamp file of the commit.
        snapshot: the snapshot file that the timestamp names.
        vector: what the commit covers.
        next_offset: the offset in ``metadata`` below which the publisher has read everything.
    """

    origin: str
    timestamp: FileRef
    snapshot: FileRef
    vector: Vector
    next_offset: int


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


class Settings(msgspec.Struct, frozen=True):
    """The settings from the bootstrap.

    Attributes:
        number_of_bins: a power of two, 2 to 16,384.
        name_prefix: the prefix of the bins' names.
        partitions: how many partitions ``artifacts`` has.
        expiration_days: role (root, targets, snapshot, timestamp, bins) to the lifetime of its metadata, in days.
        client_profile: the clients that must be able to read the repository (``tufline.metadata.profiles``); None if the bootstrap was
            accepted before there were profiles.
        partition_bits: how many leading bits of SHA-256(path) choose the partition (``tufline.records.partitioning``), at most as many as
            choose the bin; None for the first rule. It never changes, and the number of bins never falls below the partitions in use.
    """

    number_of_bins: int
    name_prefix: str
    partitions: int
    expiration_days: dict[str, int]
    client_profile: Profile | None = None
    partition_bits: int | None = None

    @property
    def layout(self) -> BinLayout:
        """How paths are spread over bins."""
        return BinLayout.of(self.number_of_bins, self.name_prefix)

    @property
    def partitioning(self) -> Partitioning:
        """How bins are spread over partitions."""
        return Partitioning(self.layout, self.partitions, self.partition_bits)

    @property
    def schema(self) -> int:
        """The lowest schema version that a record with these settings may have."""
        return SCHEMA_VERSION if self.partition_bits is None else PARTITION_BITS_SCHEMA


class Bootstrap(Versioned, frozen=True, kw_only=True, tag="bootstrap", tag_field="kind"):
    """Topic ``admin``, key ``bootstrap``. The start of a repository; the first acceptable one counts, until another replaces it.

    Attributes:
        settings: the settings, which never change.
        root: the signed root metadata.
        targets: the signed targets metadata; None if targets is online, and the signer makes it.
        replace: whether it replaces an earlier one whose root is not published yet (``Begun``).
        rules: the version of the rules that apply to this record.
    """

    settings: Settings
    root: dict[str, Any]
    targets: dict[str, Any] | None = None
    replace: bool = False
    rules: int = FIRST_RULES


class Begun(Versioned, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """Topic ``admin``, key ``begun``. The commit worker publishes the root of a bootstrap, which can't be replaced from here on.

    Attributes:
        bootstrap: the offset in ``admin`` of that bootstrap; if another one has replaced it by now, this record has no effect.
    """

    bootstrap: int


class NewMetadata(Versioned, frozen=True, kw_only=True, tag="metadata", tag_field="kind"):
    """Topic ``admin``, key: role. The next version of a role that people sign. It is published once all that it governs verifies under it.

    Attributes:
        role: the role of this version.
        metadata: the signed metadata of that version.
        skip_overlap: whether the keys of the previous version are lost, so that the release does not wait for signatures by them too.
        rules: the version of the rules that apply to this record.
    """

    role: Literal["root", "targets"]
    metadata: dict[str, Any]
    # The field's name on the log is older than its name here.
    skip_overlap: bool = msgspec.field(default=False, name="at_once")
    rules: int = FIRST_RULES


class AcceptedLoss(Versioned, frozen=True, kw_only=True, tag="accepted_loss", tag_field="kind"):
    """Topic ``admin``, key ``ACCEPTED_LOSS_KEY``. An operator accepts that records were lost before they were applied.

    Attributes:
        topic: the topic that has lost records, without the prefix.
        partition: the partition that has lost them.
        below: the offset below which every record may be lost.
    """

    topic: Literal["artifacts", "inbox"]
    partition: int
    below: int


AdminRecord = Bootstrap | Begun | NewMetadata | AcceptedLoss
"""Any record of ``admin``."""

_encoder = msgspec.json.Encoder()
T = TypeVar("T")


def encode(record: Versioned) -> bytes:
    """Encode a record for the log.

    Args:
        record: any record of this module.

    Returns:
        JSON.
    """
    return _encoder.encode(record)


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


def encode_vector(vector: Vector) -> str:
    """Encode a vector for ``VECTOR_HEADER``.

    Args:
        vector: the vector of a commit.

    Returns:
        JSON.
    """
    return _encoder.encode(vector).decode()


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
    return RecordError(f"the record has a form that no version knows: {reason}")


def _newer(version: int) -> SchemaError:
    found = decoding.shown(version)
    return SchemaError(f"the record has schema version {found}, and this version of Tufline knows {NEWEST_SCHEMA}: upgrade it")


_version_decoder: Final = msgspec.json.Decoder(Versioned)
changes_decoder: Final[msgspec.json.Decoder[Changes]] = decoder(Changes)
heads_decoder: Final[msgspec.json.Decoder[HeadsRecord]] = decoder(HeadsRecord)
published_decoder: Final[msgspec.json.Decoder[Published]] = decoder(Published)
inbox_decoder: Final[msgspec.json.Decoder[InboxRecord]] = decoder(InboxRecord)
admin_decoder: Final[msgspec.json.Decoder[AdminRecord]] = decoder(AdminRecord)
vector_decoder: Final[msgspec.json.Decoder[Vector]] = decoder(Vector)
