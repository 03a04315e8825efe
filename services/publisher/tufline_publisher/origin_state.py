"""The state of an origin: what is published, what the next commit lacks, and which superseded files may be deleted. Pure.

In: the names of the files at the origin, and the versions that the published and the next snapshot name. Out: the missing files, the
reasons to refuse a commit, the files to delete.
"""

from collections.abc import Iterable
from typing import Final

from tuf.api.metadata import Root, Snapshot

from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.origin.provenance import parse_name
from tufline.records import FileRef

NOTHING: Final = FileRef(0, -1, "")


class Origin:
    """The files at an origin, and the published commit."""

    def __init__(self, names: set[str], content: bytes | None = None, least: int = 0) -> None:
        """Start with the files found at the origin; the published commit is not known yet.

        Args:
            names: names of all files at the origin.
            content: bytes of ``timestamp.json``; None if there is none.
            least: the highest timestamp version ever published, which clients may already have: a lower one must not be published.
        """
        self.names = names
        self.content = content
        self.timestamp = NOTHING
        self.snapshot = NOTHING
        self.least = least
        self._versions: dict[str, int] = {}
        self._is_whole = False
        self._put: set[str] = set()
        self._others: dict[str, str] = {}
        self._superseded: dict[str, float] = {}

    @property
    def newest_root(self) -> int:
        """Version of the newest root at the origin; 0 for none."""
        found = (parse_name(name) for name in self.names)
        return max((parsed[1] for parsed in found if parsed is not None and parsed[0] == Root.type), default=0)

    @property
    def published(self) -> dict[str, int]:
        """Role name to version, as the published snapshot names them; empty if a file that it names is missing."""
        return self._versions if self._is_whole else {}

    def missing(self, versions: dict[str, int]) -> list[str]:
        """Find the files that a snapshot names and that are not known to be at the origin with this log's content.

        A file counts if this publisher uploaded it or a published snapshot names it: those files were durable before they were
        published. Another file left by an earlier process does not count: a crash may have truncated it, and if its record was refused,
        nothing has compared it with the log since.

        Args:
            versions: role name to version.

        Returns:
            Their names. If every file of the published snapshot is there, only the differences to that snapshot are checked.
        """
        published = self.published
        named = (envelope.file_name(role, version) for role, version in versions.items() if published.get(role) != version)
        absent = [name for name in named if name not in self._put]
        return absent + [name for name, role in self._others.items() if envelope.file_name(role, versions.get(role, 0)) == name]

    def put(self, role: str, name: str, *, is_other: bool) -> None:
        """Record that a file was uploaded.

        Args:
            role: role of the file.
            name: name of the file at the origin.
            is_other: whether the origin already had this file with different, valid content, which was kept.
        """
        self.names.add(name)
        self._put.add(name)
        if is_other:
            self._others[name] = role
        else:
            self._others.pop(name, None)

    def left(self, versions: dict[str, int]) -> list[tuple[str, int]]:
        """Find the files that a snapshot names and that an earlier process left at the origin, where nothing has verified their content.

        Args:
            versions: role name to version.

        Returns:
            Their roles and versions.
        """
        left = self.names - self._put
        return [parsed for name in self.missing(versions) if name in left and (parsed := parse_name(name)) is not None]

    def check_forward(self, timestamp: FileRef, snapshot: int, versions: dict[str, int]) -> None:
        """Refuse a commit that is older than the published one, as clients do (TUF specification, 5.4.3, 5.5.5), or that forks from it.

        Args:
            timestamp: the commit's timestamp.
            snapshot: version of the snapshot that the timestamp names.
            versions: role name to version.

        Raises:
            MetadataError: if a version goes back, a role is missing, or the published timestamp has the same version and other content.
        """
        if timestamp.version < self.least:
            raise MetadataError(f"its timestamp version {timestamp.version} is lower than the published version {self.least}")
        if timestamp.version == self.timestamp.version and timestamp.sha256 != self.timestamp.sha256:
            raise MetadataError(
                f"timestamp version {timestamp.version} at the origin differs from this log's: another copy of this log published it"
            )
        if snapshot < self.snapshot.version:
            raise MetadataError(f"it names snapshot version {snapshot}, lower than the published version {self.snapshot.version}")
        for role, version in self._versions.items():
            if versions.get(role, 0) < version:
                raise MetadataError(
                    f"its snapshot names {role} version {versions.get(role, 'none')}, lower than the published version {version}"
                )

    def find(self, timestamp: FileRef, snapshot: FileRef, versions: dict[str, int], now: float) -> list[str]:
        """Record the published commit, as it was found at the origin.

        Args:
            timestamp: the published timestamp.
            snapshot: the snapshot that it names.
            versions: role name to version, as the snapshot names them.
            now: current time, in seconds of a monotonic clock.

        Returns:
            Names of the files that are missing.
        """
        self.timestamp, self.snapshot, self._versions = timestamp, snapshot, versions
        self.least = max(self.least, timestamp.version)
        named = (envelope.file_name(role, version) for role, version in versions.items())
        lost = [name for name in named if name not in self.names]
        self._is_whole = not lost
        self._find_superseded(self.names, now)
        return lost

    def show(self, timestamp: FileRef, content: bytes, snapshot: FileRef, versions: dict[str, int], now: float) -> None:
        """Record that a commit was published.

        Args:
            timestamp: the commit's timestamp.
            content: bytes of ``timestamp.json``.
            snapshot: the snapshot that it names.
            versions: role name to version, as the snapshot names them.
            now: current time, in seconds of a monotonic clock.
        """
        before = self._versions | {Snapshot.type: self.snapshot.version}
        is_first = self.snapshot.version == 0
        self.timestamp, self.content, self.snapshot, self._versions = timestamp, content, snapshot, versions
        self.least = timestamp.version
        self._is_whole = True
        if is_first:
            self._find_superseded(self.names, now)
            return
        for role, version in (versions | {Snapshot.type: snapshot.version}).items():
            # Including the versions in between, which no snapshot named.
            for old in range(before.get(role, version), version):
                self._supersede(envelope.file_name(role, old), now)

    def _find_superseded(self, names: Iterable[str], now: float) -> None:
        # Whichever process left these files, their retention time starts now.
        published = self._versions | {Snapshot.type: self.snapshot.version}
        for name in names:
            parsed = parse_name(name)
            if parsed is not None and parsed[0] != Root.type and parsed[1] < published.get(parsed[0], 0):
                self._supersede(name, now)

    def _supersede(self, name: str, now: float) -> None:
        if name in self.names:
            self._superseded.setdefault(name, now)

    def look(self, names: set[str], now: float) -> list[str]:
        """Compare the files at the origin with the expected ones.

        Args:
            names: names of all files at the origin now.
            now: current time, in seconds of a monotonic clock.

        Returns:
            Names of files that have vanished and are still needed.
        """
        lost = sorted(name for name in self.names - names if name not in self._superseded)
        self._superseded = {name: since for name, since in self._superseded.items() if name in names}
        new = names - self.names
        self.names = names
        self._find_superseded(new, now)
        return lost

    def take_expired(self, now: float, keep: float, most: int) -> list[str]:
        """Remove the superseded files whose retention time is over from the list, and return them.

        Args:
            now: current time, in seconds of a monotonic clock.
            keep: how many seconds a file stays after it was superseded.
            most: the most names to return.

        Returns:
            Their names.
        """
        expired: list[str] = []
        for name, since in self._superseded.items():  # oldest first
            if since + keep > now or len(expired) == most:
                break
            expired.append(name)
        for name in expired:
            del self._superseded[name]
        return expired

    def deleted(self, names: Iterable[str]) -> None:
        """Record that files were deleted.

        Args:
            names: names of the deleted files.
        """
        gone = set(names)
        self.names -= gone
        self._put -= gone
