"""The commits of the log that wait to be shown: timestamps, and the snapshots that they name. Pure.

In: timestamps and snapshots in the order of the log. Out: for each timestamp the commit that can be shown, or what it lacks. More than the
newest is kept, so that a newest one that lacks something, or that nobody signed, does not keep the one before it from being shown.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tufline import records
from tufline.bus import Record
from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.records import FileRef, Vector
from tufline.records.metadata import VECTOR_HEADER, header_of, version_of
from tufline_publisher.chain import Chain, Named
from tufline_publisher.origin_state import Origin
from tufline_publisher.resume import SnapshotFile

SNAPSHOTS_KEPT: Final = 4
"""How many snapshots' contents are kept while their timestamps have not come."""

TIMESTAMPS_KEPT: Final = 4
"""How many timestamps are kept while they can't be shown."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that can be shown.

    Attributes:
        timestamp: where its file is.
        content: of that file.
        snapshot: that it names.
        vector: what it covers.
    """

    timestamp: FileRef
    content: bytes
    snapshot: SnapshotFile
    vector: Vector


def vector_of(record: Record) -> Vector:
    """Read what a commit covers.

    Args:
        record: of a timestamp.

    Returns:
        Its vector.

    Raises:
        RecordError: if its header says none.
    """
    return records.decode(records.vector_decoder, header_of(record, VECTOR_HEADER).encode())


class Commits:
    """The timestamps that are not shown, and the last snapshots."""

    def __init__(self) -> None:
        """Know of none."""
        self.waiting: list[Record] = []
        """Timestamps that are well-formed and not shown, in the order of the log."""
        self._snapshots: OrderedDict[int, SnapshotFile] = OrderedDict()

    def add_timestamp(self, record: Record) -> None:
        """Take a timestamp.

        Args:
            record: well-formed, with its headers.
        """
        self.waiting = [*self.waiting[1 - TIMESTAMPS_KEPT :], record]

    def drop_passed(self, shown: FileRef) -> None:
        """Drop the timestamps that stand behind the shown one on the log and have a lower version: they are repeated, and wait for nothing.

        Args:
            shown: the timestamp that is shown; its offset is -1 if it is not known.
        """
        if shown.offset >= 0:
            self.waiting = [one for one in self.waiting if one.offset < shown.offset or version_of(one) >= shown.version]

    def add_snapshot(self, snapshot: SnapshotFile) -> None:
        """Take a snapshot.

        Args:
            snapshot: that clients accept.
        """
        self._snapshots[snapshot.ref.version] = snapshot
        self._snapshots.move_to_end(snapshot.ref.version)
        while len(self._snapshots) > SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)

    def snapshot(self, named: Named) -> SnapshotFile | None:
        """Find the snapshot that a timestamp names.

        Args:
            named: what the timestamp says of it.

        Returns:
            The snapshot; None if it has not come.
        """
        found = self._snapshots.get(named.version)
        return found if found is not None and (found.length, found.ref.sha256) == (named.length, named.sha256) else None

    def newest(self, chain: Chain) -> tuple[Record, Named] | None:
        """Find the newest timestamp that waits and that clients accept.

        Args:
            chain: what they trust.

        Returns:
            The timestamp, and the snapshot that it names; None if there is no such timestamp.
        """
        for record in reversed(self.waiting):
            try:
                return record, chain.read_timestamp(version_of(record), record.value)
            except MetadataError:
                continue
        return None

    def check(self, record: Record, chain: Chain, origin: Origin) -> Commit:
        """Find out whether a commit can be shown.

        Args:
            record: of its timestamp.
            chain: what clients trust.
            origin: what is there.

        Returns:
            The commit.

        Raises:
            MetadataError: with what it lacks, or why a client would refuse it.
        """
        version = version_of(record)
        named = chain.read_timestamp(version, record.value)
        snapshot = self.snapshot(named)
        if snapshot is None:
            raise MetadataError(f"timestamp {version} names a snapshot {named.version} that is not on the log")
        timestamp = FileRef(version, record.offset, envelope.sha256(record.value))
        origin.check_forward(timestamp, named.version, snapshot.versions)
        if missing := origin.missing(snapshot.versions):
            raise MetadataError(f"snapshot {named.version} names {len(missing)} files that are not there (yet), such as {missing[0]}")
        return Commit(timestamp, record.value, snapshot, vector_of(record))
