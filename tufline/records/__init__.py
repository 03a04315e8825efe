"""The records of every topic, as JSON on the log.

``schemas/records.json`` is generated from these types. A record says the version of its schema (``v``): logs live for years, and during
a rolling upgrade old and new services read the same ones. A reader refuses a version that it does not know, and passes over fields that
it does not know: so a record that a reader without a new field would misunderstand says a newer version, and only that record does.

The topic ``metadata`` holds no such record but the exact bytes of metadata files; what goes with a file stands in the record's headers
(``tufline.records.metadata``). The events of ``inbox`` are in ``tufline.records.events``, what became of them in
``tufline.records.receipts``.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from tufline import decoding
from tufline.errors import RecordError, SchemaError
from tufline.metadata.bins import BinLayout
from tufline.metadata.profiles import Profile
from tufline.records.partitioning import Partitioning
from tufline.records.receipt_index import Trail

SCHEMA_VERSION: Final = 1
"""The version that a record says unless it needs a newer one."""

PARTITION_BITS_SCHEMA: Final = 2
"""The version from which ``Settings.partition_bits`` is known: who passed over it would look for each bin in another partition."""

NEWEST_SCHEMA: Final = PARTITION_BITS_SCHEMA
"""The newest version that can be read."""

MAX_CHANGES_BYTES: Final = 512 * 1024
"""The largest record of ``artifacts``, in bytes."""

FIRST_RULES: Final = 1
"""The rules by which everything was judged before records named them."""

CURRENT_RULES: Final = 2
"""The rules by which ingest judges what is submitted now. A record names its rules, and is judged by these for as long as the log lives."""

PROGRESS_KEY: Final = "@progress"
"""Key of ``Progress`` in ``heads``; no role name has an ``@``."""

CLAIM_KEY: Final = "@claim"
"""Key of ``Claim``."""


ACCEPTED_LOSS_KEY: Final = "accepted-loss"
"""Key of ``AcceptedLoss`` in ``admin``."""


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """A record that says the version of its schema.

    Attributes:
        v: the version of the record's schema.
    """

    v: int = SCHEMA_VERSION


class Add(msgspec.Struct, frozen=True, tag="add", tag_field="op", omit_defaults=True, gc=False):
    """Add a target, or put it in place of the one that has its path.

    Attributes:
        path: the target path.
        length: the size of the artifact, in bytes.
        hashes: algorithm to lower-case hexadecimal digest.
        custom: an object of the repository's own; None for none.
    """

    path: str
    length: int
    hashes: dict[str, str]
    custom: dict[str, Any] | None = None


class Remove(msgspec.Struct, frozen=True, tag="remove", tag_field="op", gc=False):
    """Remove the target that has a path.

    Attributes:
        path: the target path.
    """

    path: str


class Changes(Versioned, frozen=True, kw_only=True):
    """Topic ``artifacts``: changes of one request that belong to one partition, in the request's order.

    Attributes:
        request: names the request; the record's key.
        admin: the offset in ``admin`` up to which (exclusive) ingest had applied it.
        changes: what to do, in this order; at most ``MAX_CHANGES_BYTES`` when encoded.
        rules: the version of the rules by which ingest accepted them.
        bulk: part of a bulk request: its receipts name changes by their index alone, and only those that were refused or not found.
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
        applied: for a bin, the offset in ``artifacts`` below which this version has every change of its own. What is applied again after a
            crash is told by it, so that a batch may be written in many transactions, each bin in one of them.
    """

    version: int
    sha256: str
    length: int
    expires: str
    offset: int
    keyids: list[str]
    applied: int = 0


class Progress(Versioned, frozen=True, kw_only=True, tag="progress", tag_field="kind"):
    """Topic ``heads``, key ``PROGRESS_KEY``, partition of ``artifacts``. How far the bins' writer has come.

    Attributes:
        offset: an offset in ``artifacts``; every change below it is applied.
        trail: where the receipts are; None where a version that did not keep it wrote last.
    """

    offset: int
    trail: Trail | None = None


class Claim(Versioned, frozen=True, kw_only=True, tag="claim", tag_field="kind"):
    """Topics ``heads`` and ``inbox-progress``, key ``CLAIM_KEY``. A new writer says that from here on it writes this partition.

    Attributes:
        writer: the writer id.
    """

    writer: str


class Vector(msgspec.Struct, frozen=True):
    """How far in all inputs a commit goes: what is below is live when it is published.

    Attributes:
        artifacts: an offset for each partition of ``artifacts``; what is below it is applied.
        admin: an offset in ``admin``; what is below it is applied.
    """

    artifacts: list[int]
    admin: int

    def covers(self, other: "Vector") -> bool:
        """Say whether this goes at least as far as another in every input.

        Args:
            other: of the same repository.

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
"""What may stand in ``heads``."""


class FileRef(msgspec.Struct, frozen=True):
    """Where in ``metadata`` a file is.

    Attributes:
        version: the role's version that the file is.
        offset: where the file is in ``metadata``.
        sha256: the digest of the file, lower-case hexadecimal.
    """

    version: int
    offset: int
    sha256: str


class Published(Versioned, frozen=True, kw_only=True):
    """Topic ``published``, key: origin. An origin shows a commit.

    Attributes:
        origin: the configured name of the origin.
        timestamp: the timestamp file of the commit.
        snapshot: the snapshot file that the timestamp names.
        vector: what the commit covers.
        next_offset: up to where (exclusive) in ``metadata`` the publisher has read.
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
        offset: an offset in ``inbox``; what is below it is moved.
        accepted: the events that the transaction accepted: digest of source and id, to the task id.
        uncertain: the offset in ``inbox`` below which an event may have been moved by a transaction of which nothing can be read any more;
            0 where there is none.
    """

    number: int
    offset: int
    accepted: dict[str, str]
    uncertain: int = 0


InboxRecord = InboxProgress | Claim
"""What may stand in ``inbox-progress``."""


class Settings(msgspec.Struct, frozen=True):
    """What was settled at bootstrap.

    Attributes:
        number_of_bins: a power of two, 2 to 16,384.
        name_prefix: what the names of the bins start with.
        partitions: how many partitions ``artifacts`` has.
        expiration_days: role (root, targets, snapshot, timestamp, bins) to lifetime of its metadata, in days.
        client_profile: the clients that must be able to read it (``tufline.metadata.profiles``); None where the bootstrap was accepted
            before there were profiles.
        partition_bits: how many top bits of SHA-256(path) choose the partition (``tufline.records.partitioning``), at most as many as
            choose the bin; None for the first rule. It never changes, and the number of bins never goes below the partitions in use.
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
        """The schema version that a record with these settings must say at least."""
        return SCHEMA_VERSION if self.partition_bits is None else PARTITION_BITS_SCHEMA


class Bootstrap(Versioned, frozen=True, kw_only=True, tag="bootstrap", tag_field="kind"):
    """Topic ``admin``, key ``bootstrap``. The start of a repository; the first acceptable one counts, until another replaces it.

    Attributes:
        settings: what is settled for good.
        root: the signed root metadata.
        targets: the signed targets metadata; None when targets are online, and the signer makes them.
        replace: it counts in place of an earlier one that has not begun (``Begun``).
        rules: the version of the rules by which this record is judged.
    """

    settings: Settings
    root: dict[str, Any]
    targets: dict[str, Any] | None = None
    replace: bool = False
    rules: int = FIRST_RULES


class Begun(Versioned, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """Topic ``admin``, key ``begun``. The commit worker publishes the first root of a bootstrap, which can't be replaced from here on.

    Attributes:
        bootstrap: the offset in ``admin`` of that bootstrap; if another one has replaced it by now, this record has no effect.
    """

    bootstrap: int


class NewMetadata(Versioned, frozen=True, kw_only=True, tag="metadata", tag_field="kind"):
    """Topic ``admin``, key: role. The next version of a role that people sign; it is shown once all that it governs verifies under it.

    Attributes:
        role: whose version it is.
        metadata: the signed metadata of that version.
        skip_overlap: the keys of the previous version are lost: nothing waits until it is signed by them too.
        rules: the version of the rules by which this record is judged.
    """

    role: Literal["root", "targets"]
    metadata: dict[str, Any]
    # Its name on the log since before there was a release.
    skip_overlap: bool = msgspec.field(default=False, name="at_once")
    rules: int = FIRST_RULES


class AcceptedLoss(Versioned, frozen=True, kw_only=True, tag="accepted_loss", tag_field="kind"):
    """Topic ``admin``, key ``ACCEPTED_LOSS_KEY``. An operator accepts that records are gone from the log which were not applied.

    Attributes:
        topic: the topic that has lost records, without the prefix.
        partition: the partition that has lost them.
        below: the offset below which every record may be lost.
    """

    topic: Literal["artifacts", "inbox"]
    partition: int
    below: int


AdminRecord = Bootstrap | Begun | NewMetadata | AcceptedLoss
"""What may stand in ``admin``."""

_encoder = msgspec.json.Encoder()
T = TypeVar("T")


def encode(record: Versioned) -> bytes:
    """Write a record as it goes to the log.

    Args:
        record: any of this module's records.

    Returns:
        JSON.
    """
    return _encoder.encode(record)


def encode_change(change: Add | Remove) -> bytes:
    """Write one change as it stands in ``Changes``.

    Args:
        change: what is to be done.

    Returns:
        JSON.
    """
    return _encoder.encode(change)


def encode_changes(record: Changes, changes: Sequence[bytes]) -> bytes:
    """Write a record of changes that are encoded already.

    Args:
        record: without changes.
        changes: what is to stand in it, each from ``encode_change``.

    Returns:
        JSON, the same as ``encode`` writes.
    """
    encoded: Any = msgspec.Raw(b"[" + b",".join(changes) + b"]")
    return _encoder.encode(msgspec.structs.replace(record, changes=encoded))


def encode_vector(vector: Vector) -> str:
    """Write a vector as it stands in ``VECTOR_HEADER``.

    Args:
        vector: what a commit covers.

    Returns:
        JSON.
    """
    return _encoder.encode(vector).decode()


def decoder(record: type[T] | Any) -> msgspec.json.Decoder[T]:
    """Make a decoder of a record type or a union of them.

    Args:
        record: the type.

    Returns:
        What ``decode`` takes; make it once.
    """
    return msgspec.json.Decoder(record)


def decode(with_decoder: "msgspec.json.Decoder[T]", value: bytes) -> T:
    """Read a record of the log.

    Args:
        with_decoder: from ``decoder``.
        value: of the record.

    Returns:
        The record.

    Raises:
        SchemaError: if it has a newer schema version: an upgrade reads it.
        RecordError: if it has a form that no version has.
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
