"""The commits of the log that wait to be published: timestamps, and the snapshots that they name. Pure.

In: timestamps and snapshots in the order of the log. Out: for each timestamp, the commit to publish or what it lacks. Several timestamps
are kept, so that an incomplete or untrusted newest one does not block the one before it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Targets

from tufline import records
from tufline.bus import Record
from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.snapshot import SnapshotRef
from tufline.records import FileRef, Vector
from tufline.records.metadata import VECTOR_HEADER, header_of, version_of
from tufline_publisher.origin_state import Origin
from tufline_publisher.resume import SnapshotFile
from tufline_publisher.trust_chain import TrustChain

SNAPSHOTS_KEPT: Final = 4
"""How many snapshots are kept while their timestamps have not been read."""

TIMESTAMPS_KEPT: Final = 4
"""How many timestamps are kept while they can't be published."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that can be published.

    Attributes:
        timestamp: version, offset and digest of the timestamp file.
        content: bytes of the timestamp file.
        snapshot: the snapshot that the timestamp names.
        vector: how far in each partition of ``artifacts`` the commit goes.
    """

    timestamp: FileRef
    content: bytes
    snapshot: SnapshotFile
    vector: Vector


def vector_of(record: Record) -> Vector:
    """Read a commit's vector.

    Args:
        record: a record of a timestamp.

    Returns:
        The vector.

    Raises:
        RecordError: if the vector's header is missing or malformed.
    """
    return records.decode(records.vector_decoder, header_of(record, VECTOR_HEADER).encode())


class Commits:
    """The timestamps that are not published yet, and the last snapshots."""

    def __init__(self) -> None:
        """Start empty."""
        self.waiting: list[Record] = []
        """Well-formed timestamps that are not published, in the order of the log."""
        self._snapshots: OrderedDict[int, SnapshotFile] = OrderedDict()

    def add_timestamp(self, record: Record) -> None:
        """Add a timestamp.

        Args:
            record: a well-formed timestamp, with its headers.
        """
        self.waiting = [*self.waiting[1 - TIMESTAMPS_KEPT :], record]

    def drop_passed(self, published: FileRef) -> None:
        """Drop the timestamps that follow the published one on the log but have a lower version: they are repetitions.

        Args:
            published: the published timestamp; its offset is -1 if unknown.
        """
        if published.offset >= 0:
            self.waiting = [one for one in self.waiting if one.offset < published.offset or version_of(one) >= published.version]

    def add_snapshot(self, snapshot: SnapshotFile) -> None:
        """Add a snapshot.

        Args:
            snapshot: a snapshot that clients accept.
        """
        self._snapshots[snapshot.ref.version] = snapshot
        self._snapshots.move_to_end(snapshot.ref.version)
        while len(self._snapshots) > SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)

    def snapshot(self, named: SnapshotRef) -> SnapshotFile | None:
        """Find the snapshot that a timestamp names.

        Args:
            named: version, length and digest in the timestamp.

        Returns:
            The snapshot; None if it has not been read.
        """
        found = self._snapshots.get(named.version)
        return found if found is not None and (found.length, found.ref.sha256) == (named.length, named.sha256) else None

    def newest(self, chain: TrustChain) -> tuple[Record, SnapshotRef] | None:
        """Find the newest waiting timestamp that clients accept.

        Args:
            chain: what clients trust.

        Returns:
            The timestamp, and the snapshot that it names; None if there is no such timestamp.
        """
        for record in reversed(self.waiting):
            try:
                return record, chain.read_timestamp(version_of(record), record.value)
            except MetadataError:
                continue
        return None

    def check(self, record: Record, chain: TrustChain, origin: Origin) -> Commit:
        """Check whether a commit can be published.

        Args:
            record: the commit's timestamp.
            chain: what clients trust.
            origin: the state of the origin.

        Returns:
            The commit.

        Raises:
            MetadataError: if files are missing, or a client would refuse the commit.
        """
        version = version_of(record)
        named = chain.read_timestamp(version, record.value)
        snapshot = self.snapshot(named)
        if snapshot is None:
            raise MetadataError(f"timestamp {version} names snapshot {named.version}, which is not on the log")
        timestamp = FileRef(version, record.offset, envelope.sha256(record.value))
        origin.check_forward(timestamp, named.version, snapshot.versions)
        if missing := origin.missing(snapshot.versions):
            raise MetadataError(f"snapshot {named.version} names {len(missing)} files that are not at the origin yet, such as {missing[0]}")
        if unverified := chain.delegated.unverified(snapshot.versions, origin.published):
            role, targets = unverified[0], snapshot.versions.get(Targets.type)
            raise MetadataError(
                f"the keys that targets version {targets} names for {role} have not verified version {snapshot.versions[role]} of it"
            )
        return Commit(timestamp, record.value, snapshot, vector_of(record))
