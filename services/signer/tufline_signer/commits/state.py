"""What the heads of all bins come to: the snapshot that may name them, and how far the changes go that are in it. Pure.

In: records of ``heads``, partition by partition, and who may sign the bins. Out: the snapshot's content, and a progress for each partition.

A bin is named in a version only if that verifies under the targets of the same snapshot. Where it does not (a key is being changed, and its
signer did not know yet), its partition's progress stands still until it has been signed anew: what is not in the snapshot is not covered.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tufline import records
from tufline.bus import Record
from tufline.metadata.snapshot import Snapshot
from tufline.records import Head, Progress, Settings
from tufline.runtime.passed_over import PassedOver
from tufline.trust.rules import RoleKeys


class _Newest(NamedTuple):
    partition: int
    version: int
    keyids: tuple[str, ...]


class Folding:
    """The bins as their heads say, and the snapshot of those that may be named."""

    def __init__(self, settings: Settings, covered: Sequence[int], passed: PassedOver) -> None:
        """Begin without a head.

        Args:
            settings: of the repository.
            covered: how far in each partition of ``artifacts`` the last commit goes.
            passed: takes the heads that can't be read.
        """
        self._passed = passed
        self.missing = {settings.layout.name(index) for index in range(settings.number_of_bins)}
        """The bins of which no head has come yet, or no version that may be named. A snapshot names all bins, or clients fail."""
        self._roles = frozenset(self.missing)
        self.snapshot = Snapshot()
        self.changed = False
        """Whether the snapshot has changed since this was last set to False."""
        self.covered = list(covered)
        """How far in each partition of ``artifacts`` the snapshot goes."""
        self._progress = list(covered)
        self._bins: dict[str, _Newest] = {}
        self._withheld: dict[str, int] = {}
        self._keys: RoleKeys | None = None

    @property
    def keys(self) -> RoleKeys:
        """Who signs the bins, as the targets say that the snapshot names."""
        assert self._keys is not None, "name_under comes first"
        return self._keys

    @property
    def withheld(self) -> int:
        """How many bins are not named in their newest version, as that does not verify under the targets."""
        return len(self._withheld)

    def name_under(self, keys: RoleKeys) -> None:
        """Change who signs the bins: what was withheld may be named now.

        Args:
            keys: of the targets that the next snapshot names.
        """
        self._keys = keys
        for role in [*self._withheld]:
            self._name(role)
        self._cover()

    def set(self, role: str, version: int) -> None:
        """Name a role that is no bin.

        Args:
            role: its name.
            version: that the next snapshot names.
        """
        self.changed |= self.snapshot.set(role, version)

    def take(self, partition: int, batch: Iterable[Record]) -> None:
        """Take note of new heads and progress.

        Args:
            partition: of ``heads``.
            batch: its next records.

        Raises:
            SchemaError: if a record has a newer schema: nothing may go on past it.
        """
        for record in batch:
            match self._passed.decode(records.heads_decoder, record):
                case Head() as head if record.key in self._roles:  # others may be there of a bootstrap that was replaced
                    self._bins[record.key] = _Newest(partition, head.version, tuple(map(sys.intern, head.keyids)))
                    self._name(record.key)
                case Progress() as progress:
                    self._progress[partition] = max(self._progress[partition], progress.offset)
        self._cover()

    def _name(self, role: str) -> None:
        newest = self._bins[role]
        if self._keys is not None and self._keys.are_met_by(newest.keyids):
            self.changed |= self.snapshot.set(role, newest.version)
            self._withheld.pop(role, None)
        else:
            self._withheld[role] = newest.partition
        if self.snapshot.version(role):  # it keeps the version that was named before
            self.missing.discard(role)

    def _cover(self) -> None:
        held = set(self._withheld.values())
        for partition, offset in enumerate(self._progress):
            if partition not in held:
                self.covered[partition] = offset

    def are_met(self, keys: RoleKeys) -> bool:
        """Say whether the newest version of every bin verifies under other keys.

        Args:
            keys: of targets that are to come.
        """
        # Bins have few different sets of signatures: many have the same.
        return all(keys.are_met_by(keyids) for keyids in {newest.keyids for newest in self._bins.values()})
