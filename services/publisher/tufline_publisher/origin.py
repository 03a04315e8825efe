"""What an origin shows, and what may be done to it: the plan of a commit, and which files have had their time. Pure.

In: the names of the files that are there, what the shown snapshot names, what the next one names. Out: what is missing, what is wrong, what
may be deleted.
"""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from tuf.api.metadata import Root, Snapshot

from tufline import metafile
from tufline.errors import MetadataError
from tufline.records import FileRef

NOTHING: Final = FileRef(0, -1, "")


def _parse_name(name: str) -> tuple[str, int] | None:
    version, _, rest = name.partition(".")
    if not version.isdecimal() or not rest.endswith(".json"):
        return None
    return rest.removesuffix(".json"), int(version)


class Origin:
    """The files of an origin, and what it shows."""

    def __init__(self, names: set[str]) -> None:
        """Begin with what is there, and show nothing.

        Args:
            names: of all files.
        """
        self.names = names
        self.timestamp = NOTHING
        self.snapshot = NOTHING
        self._versions: dict[str, int] = {}
        self._superseded: deque[tuple[datetime, str]] = deque()

    def missing(self, versions: dict[str, int]) -> list[str]:
        """Say which files that a snapshot names are not there.

        Args:
            versions: role name to version.

        Returns:
            Their names; only what differs from the shown snapshot is looked at.
        """
        shown = self._versions
        named = (metafile.file_name(role, version) for role, version in versions.items() if shown.get(role) != version)
        return [name for name in named if name not in self.names]

    def check_forward(self, versions: dict[str, int]) -> None:
        """Refuse a snapshot that goes back behind the shown one, as clients do (TUF specification, 5.5.5).

        Args:
            versions: role name to version.

        Raises:
            MetadataError: if a version goes back, or a role is lost.
        """
        for role, version in self._versions.items():
            if versions.get(role, 0) < version:
                raise MetadataError(f"snapshot names {role} version {versions.get(role, 'none')} after {version}")

    def show(self, timestamp: FileRef, snapshot: FileRef, versions: dict[str, int], now: datetime) -> None:
        """Take note that a commit is shown.

        Args:
            timestamp: of the commit.
            snapshot: that it names.
            versions: that the snapshot names.
            now: when.
        """
        for role, version in self._versions.items():
            if versions[role] != version:
                self._superseded.append((now, metafile.file_name(role, version)))
        if self.snapshot.version not in {0, snapshot.version}:
            self._superseded.append((now, metafile.file_name(Snapshot.type, self.snapshot.version)))
        self.timestamp, self.snapshot, self._versions = timestamp, snapshot, versions

    def find_superseded(self, now: datetime) -> None:
        """Take note of all files that are older than what is shown, however they came to be left: from now on their time runs.

        Args:
            now: when.
        """
        shown = self._versions | {Snapshot.type: self.snapshot.version}
        self._superseded.clear()
        for name in self.names:
            parsed = _parse_name(name)
            if parsed is not None and parsed[0] != Root.type and parsed[1] < shown.get(parsed[0], 0):
                self._superseded.append((now, name))

    def take_expired(self, now: datetime, keep: timedelta, most: int) -> list[str]:
        """Say which superseded files have had their time, and forget them.

        Args:
            now: when.
            keep: how long a file stays after it was superseded.
            most: how many to name at most.

        Returns:
            Their names.
        """
        expired: list[str] = []
        while self._superseded and self._superseded[0][0] + keep <= now and len(expired) < most:
            expired.append(self._superseded.popleft()[1])
        return expired

    def deleted(self, names: Iterable[str]) -> None:
        """Take note that files are gone.

        Args:
            names: of them.
        """
        self.names.difference_update(names)
