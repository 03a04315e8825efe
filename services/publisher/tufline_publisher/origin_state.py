"""What an origin shows, and what may be done to it: the plan of a commit, and which files have had their time. Pure.

In: the names of the files that are there, what the shown snapshot names, what the next one names. Out: what is missing, what is wrong, what
may be deleted.
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
    """The files of an origin, and what it shows."""

    def __init__(self, names: set[str], content: bytes | None = None, least: int = 0) -> None:
        """Start with what is there, and know nothing of what it says.

        Args:
            names: of all files.
            content: of ``timestamp.json``; None if there is none.
            least: the lowest version of the timestamp that clients may not have passed yet: what was shown at some time.
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
        """Version of the newest root that is there; 0 for none."""
        found = (parse_name(name) for name in self.names)
        return max((parsed[1] for parsed in found if parsed is not None and parsed[0] == Root.type), default=0)

    def missing(self, versions: dict[str, int]) -> list[str]:
        """Find the files that a snapshot names and that this publisher has neither put nor found shown, or not in this log's version.

        A file that an earlier process left does not count: a crash may have cut it short, and nothing has compared it with the log since,
        if its record was refused. What is shown was durable before it was shown.

        Args:
            versions: role name to version.

        Returns:
            Their names; where all that the shown snapshot names is there, only what differs from it is looked at.
        """
        shown = self._versions if self._is_whole else {}
        named = (envelope.file_name(role, version) for role, version in versions.items() if shown.get(role) != version)
        absent = [name for name in named if name not in self._put]
        return absent + [name for name, role in self._others.items() if envelope.file_name(role, versions.get(role, 0)) == name]

    def put(self, role: str, name: str, *, is_other: bool) -> None:
        """Take note that a file was put.

        Args:
            role: whose it is.
            name: of the file.
            is_other: whether another valid content had been there, and stays.
        """
        self.names.add(name)
        self._put.add(name)
        if is_other:
            self._others[name] = role
        else:
            self._others.pop(name, None)

    def left(self, versions: dict[str, int]) -> list[tuple[str, int]]:
        """Find the files that a snapshot names, and that an earlier process left: they are there, and nothing has looked into them.

        Args:
            versions: role name to version.

        Returns:
            Their roles and versions.
        """
        left = self.names - self._put
        return [parsed for name in self.missing(versions) if name in left and (parsed := parse_name(name)) is not None]

    def check_forward(self, timestamp: FileRef, snapshot: int, versions: dict[str, int]) -> None:
        """Refuse a commit that goes back behind the shown one, as clients do (TUF specification, 5.4.3, 5.5.5), or that forks from it.

        Args:
            timestamp: of the commit.
            snapshot: version of the snapshot that it names.
            versions: role name to version.

        Raises:
            MetadataError: if a version goes back, a role is lost, or the shown timestamp has the same version and another content.
        """
        if timestamp.version < self.least:
            raise MetadataError(f"it is timestamp version {timestamp.version} after {self.least}")
        if timestamp.version == self.timestamp.version and timestamp.sha256 != self.timestamp.sha256:
            raise MetadataError(
                f"the origin shows another timestamp version {timestamp.version} than this log has: another copy of this log published it"
            )
        if snapshot < self.snapshot.version:
            raise MetadataError(f"it names snapshot version {snapshot} after {self.snapshot.version}")
        for role, version in self._versions.items():
            if versions.get(role, 0) < version:
                raise MetadataError(f"snapshot names {role} version {versions.get(role, 'none')} after {version}")

    def find(self, timestamp: FileRef, snapshot: FileRef, versions: dict[str, int], now: float) -> list[str]:
        """Take note of what is shown, as it was found.

        Args:
            timestamp: that is shown.
            snapshot: that it names.
            versions: that the snapshot names.
            now: when, in seconds of a monotonic clock.

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
        """Take note that a commit is shown.

        Args:
            timestamp: of the commit.
            content: of ``timestamp.json``.
            snapshot: that it names.
            versions: that the snapshot names.
            now: when, in seconds of a monotonic clock.
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
            # Also those in between, which no snapshot named.
            for old in range(before.get(role, version), version):
                self._supersede(envelope.file_name(role, old), now)

    def _find_superseded(self, names: Iterable[str], now: float) -> None:
        # However they came to be left: from now on their time runs.
        shown = self._versions | {Snapshot.type: self.snapshot.version}
        for name in names:
            parsed = parse_name(name)
            if parsed is not None and parsed[0] != Root.type and parsed[1] < shown.get(parsed[0], 0):
                self._supersede(name, now)

    def _supersede(self, name: str, now: float) -> None:
        if name in self.names:
            self._superseded.setdefault(name, now)

    def look(self, names: set[str], now: float) -> list[str]:
        """Compare what is there with what should be.

        Args:
            names: of all files that are there now.
            now: when, in seconds of a monotonic clock.

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
        """Find superseded files that have had their time, and forget them.

        Args:
            now: when, in seconds of a monotonic clock.
            keep: how many seconds a file stays after it was superseded.
            most: how many to name at most.

        Returns:
            Their names.
        """
        expired: list[str] = []
        for name, since in self._superseded.items():  # in the order of their time
            if since + keep > now or len(expired) == most:
                break
            expired.append(name)
        for name in expired:
            del self._superseded[name]
        return expired

    def deleted(self, names: Iterable[str]) -> None:
        """Take note that files are gone.

        Args:
            names: of them.
        """
        gone = set(names)
        self.names -= gone
        self._put -= gone
