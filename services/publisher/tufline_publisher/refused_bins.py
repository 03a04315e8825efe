"""The files of the log that are not signed by the keys that are known: put aside until a commit needs them, or nobody does any more. Pure.

An emergency key change brings them: bins signed by the new key stand on the log before the targets that delegate to it. A publisher goes on
with everything else, and takes what a commit names from the log again once it knows the keys. Until then ``next_offset`` stays below the
first of them, so that a publisher that starts meanwhile reads them too. What somebody else wrote, no head names: that holds up nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tufline.records import FileRef, Head

SETTLE_SECONDS: Final = 10.0
"""How long the head of a file may come after it: both are of one transaction, and visible a moment apart."""

MOST: Final = 50_000
"""How many files are kept in mind; beyond that the oldest are forgotten, and found again by their heads."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is not published.

    Attributes:
        role: its name.
        ref: where it is.
        reason: why, for a human.
        since: when it was refused, in seconds of a monotonic clock.
    """

    role: str
    ref: FileRef
    reason: str
    since: float


class RefusedFiles:
    """The refused files that a commit may still name."""

    def __init__(self) -> None:
        """Know of none."""
        self._files: OrderedDict[tuple[str, int], Refused] = OrderedDict()

    def add(self, refused: Refused) -> None:
        """Take note of a file.

        Args:
            refused: the file; in the order of the log.
        """
        self._files[refused.role, refused.ref.version] = refused
        self._files.move_to_end((refused.role, refused.ref.version))
        if len(self._files) > MOST:
            self._files.popitem(last=False)

    def accepted(self, role: str, version: int) -> None:
        """Forget a file that is accepted now.

        Args:
            role: its name.
            version: its version.
        """
        self._files.pop((role, version), None)

    def find(self, role: str, version: int) -> FileRef | None:
        """Find a file.

        Args:
            role: its name.
            version: its version.

        Returns:
            Where it is; None if it was not refused.
        """
        found = self._files.get((role, version))
        return None if found is None else found.ref

    def shown(self, versions: Mapping[str, int]) -> None:
        """Forget what nobody needs any more: a snapshot that is shown names a version as high, and none that follows names a lower one.

        Args:
            versions: role name to version, of all that the shown commit consists of.
        """
        for role, version in [key for key in self._files if key[1] <= versions.get(key[0], 0)]:
            del self._files[role, version]

    def take_unnamed(self, heads: Mapping[str, Head], is_in_doubt: Callable[[str], bool], now: float) -> list[Refused]:
        """Forget what no commit will need: files that no head names, now or before. The signer has not written them.

        Args:
            heads: role name to its newest head.
            is_in_doubt: says whether a role may have a newer head, which can't be read.
            now: before the heads were read, in seconds of the clock of ``Refused.since``.

        Returns:
            The files. One that has just come is not among them: its head may not be visible yet.
        """
        found = [
            one
            for one in self._files.values()
            if one.since <= now - SETTLE_SECONDS
            and (one.role not in heads or one.ref.version > heads[one.role].version)
            and not is_in_doubt(one.role)
        ]
        for one in found:
            del self._files[one.role, one.ref.version]
        return found

    @property
    def first_offset(self) -> int | None:
        """The lowest offset of a refused file; None if there is none."""
        return min((one.ref.offset for one in self._files.values()), default=None)

    @property
    def problem(self) -> str:
        """What is refused, in one sentence; empty for nothing."""
        if not self._files:
            return ""
        newest = next(reversed(self._files.values()))
        others = f", and {len(self._files) - 1} more are not either" if len(self._files) > 1 else ""
        return (
            f"{newest.role} version {newest.ref.version} at offset {newest.ref.offset} of metadata/0 is not published, as clients would "
            f"refuse it: {newest.reason}{others}; it waits for a root or targets with its keys, or for a newer version"
        )
