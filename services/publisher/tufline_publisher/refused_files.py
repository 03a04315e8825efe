"""The files of the log that the known keys did not sign: remembered until a commit needs them, or until no commit can need them. Pure.

An emergency key change causes them: bins signed by the new key are on the log before the targets that delegate to it. So does a new custom
role, which is on the log before the targets that names it; such an early file is not a problem. A publisher goes on with everything else,
and reads the files that a commit names again once it knows the keys. Until then ``next_offset`` stays at or below
the first of them, so that a publisher that starts meanwhile reads them too. No head names a file that somebody other than the signer
wrote, so such a file does not hold back ``next_offset``.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tufline.records import FileRef, Head

SETTLE_SECONDS: Final = 10.0
"""How long after a file its head may become visible, in seconds: one transaction writes both, but they appear one after the other."""

MOST: Final = 50_000
"""How many files are remembered; beyond that the oldest are dropped, and found again through their heads."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is not published.

    Attributes:
        role: role of the file.
        ref: version, offset in ``metadata`` and digest of the file.
        reason: why it was refused, for a human.
        since: when it was refused, in seconds of a monotonic clock.
        is_early: whether it only waits for targets: so it is not a problem.
    """

    role: str
    ref: FileRef
    reason: str
    since: float
    is_early: bool = False


class RefusedFiles:
    """The refused files that a commit may still name."""

    def __init__(self) -> None:
        """Start empty."""
        self._files: OrderedDict[tuple[str, int], Refused] = OrderedDict()

    def add(self, refused: Refused) -> None:
        """Add a refused file.

        Args:
            refused: the file; calls follow the order of the log.
        """
        self._files[refused.role, refused.ref.version] = refused
        self._files.move_to_end((refused.role, refused.ref.version))
        if len(self._files) > MOST:
            self._files.popitem(last=False)

    def accepted(self, role: str, version: int) -> None:
        """Remove a file that has been accepted.

        Args:
            role: role of the file.
            version: version of the file.
        """
        self._files.pop((role, version), None)

    def find(self, role: str, version: int) -> FileRef | None:
        """Find a refused file.

        Args:
            role: role of the file.
            version: version of the file.

        Returns:
            Its version, offset and digest; None if it was not refused.
        """
        found = self._files.get((role, version))
        return None if found is None else found.ref

    @property
    def newest(self) -> dict[str, int]:
        """Role name to version, for the refused file of each role that was read last."""
        return {one.role: one.ref.version for one in self._files.values()}

    def drop_passed(self, versions: Mapping[str, int]) -> None:
        """Remove the files that a published commit has reached or passed: no later snapshot names a lower version.

        Args:
            versions: role name to version, for all files of the published commit.
        """
        for role, version in [key for key in self._files if key[1] <= versions.get(key[0], 0)]:
            del self._files[role, version]

    def take_unnamed(self, heads: Mapping[str, Head], is_in_doubt: Callable[[str], bool], now: float) -> list[Refused]:
        """Remove the files that no head has ever named: the signer did not write them, so no commit will need them.

        Args:
            heads: role name to its newest head.
            is_in_doubt: returns whether a role may have a newer head that can't be decoded.
            now: a time before the heads were read, in seconds of the clock of ``Refused.since``.

        Returns:
            The removed files. A file younger than ``SETTLE_SECONDS`` stays: its head may not be visible yet.
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
    def problem(self) -> str | None:
        """The newest refused file that is not early, and the number of others, in one sentence; None if there are none."""
        refused = [one for one in self._files.values() if not one.is_early]
        if not refused:
            return None
        newest = refused[-1]
        others = f" ({len(refused) - 1} more files are refused)" if len(refused) > 1 else ""
        return (
            f"{newest.role} version {newest.ref.version} at offset {newest.ref.offset} of metadata/0 is not published, because clients "
            f"would refuse it: {newest.reason}{others}; it waits for a root or targets with its keys, or for a newer version"
        )
