"""Batches of the log, sorted by bin. Pure logic.

In: records of one partition of ``artifacts``. Out: for each bin the changes that it has not applied yet, in the order of the log; and, once
they are applied, receipts for the changes that had no effect or were rejected. Changes that are to be held go to ``HeldChanges`` instead.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Record
from tufline.errors import BinFullError, RecordError, SchemaError
from tufline.metadata.bins import Bin
from tufline.metadata.target import Target, TargetEntry, encode_entry
from tufline.records import Add, Changes, Remove, RoleSignature
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import Routing
from tufline_signer.bins.held import HELD_BYTES, HeldChange, HeldChanges

CHANGE_OVERHEAD_BYTES: Final = 220
"""Memory of one change in addition to its path and entry: the headers of four objects and a list slot (CPython 3.11)."""

RECEIPT_BYTES: Final = 300
"""The largest size of a receipt without its path, in bytes."""

FULL_BYTES: Final = MAX_TRANSACTION_BYTES // 4
"""A batch is full when the changes of one bin, or the receipts that belong to no bin, may add this many bytes to a transaction: with the
bin itself and one more record they still fit."""

RUN_BYTES: Final = 32_000_000
"""A batch is full when the receipts of its requests, except bulk requests, may have this many bytes: a task's status has to read them."""


class Change(NamedTuple):
    """One change, and its position on the log: the ``nth`` of the record at ``offset``. Without an entry, ``path`` is removed."""

    request: str
    offset: int
    nth: int
    path: str
    entry: bytes | None
    hold: bool = False


@dataclass(slots=True)
class Shared:
    """A removal that is for several roles of one partition: the path was not found if none of them has it.

    Attributes:
        left: how many of the roles have not applied it yet.
        was_found: whether one of the others had the path.
    """

    left: int
    was_found: bool = False


class KeyedReceipt(NamedTuple):
    """A receipt, and the request that it belongs to."""

    request: str
    receipt: ChangeReceipt


class Batch:
    """Some records of a partition, sorted by the role that they change: a bin, or a custom role.

    A batch keeps only what the bins need. The records as read would take three times as much memory, and the more changes a batch holds,
    the less often a bin is rewritten.
    """

    def __init__(self, routing: Routing, partition: int, end: int | None = None) -> None:
        """Start with no records.

        Args:
            routing: which roles changes are for, and in which partitions those are.
            partition: the records' partition.
            end: the batch ends before this offset, where a publish comes first; None for no such end.
        """
        self._end = end
        self.is_at_end = False
        """Whether all records before the given end were read."""
        self.holds = False
        """Whether any change is to be held."""
        self.routing = routing
        """By which the changes are sorted."""
        self._partition = partition
        self.first_offset = 0
        """Offset of the first record."""
        self.next_offset = 0
        """Offset after the last record."""
        self.admin = 0
        """The offset in ``admin`` that must be applied before this batch."""
        self.by_bin: defaultdict[str, list[Change]] = defaultdict(list)
        """Role name to its changes, in the order of the log."""
        self.bytes_by_bin: defaultdict[str, int] = defaultdict(int)
        """Role name to the most bytes that its changes add to a transaction, as entries of the bin or as receipts."""
        self.shared: dict[tuple[int, int], Shared] = {}
        """The removals that are for several roles, by the offset of their record and their index in it."""
        self.signature: tuple[RoleSignature, str, int] | None = None
        """If the batch is one signature of a custom role: that, the name of its request, and the offset of its record."""
        self._is_closed = False
        self.receipts: list[KeyedReceipt] = []
        """Receipts for changes that belong to no bin of this partition."""
        self.receipt_bytes = 0
        """The most bytes that these receipts have."""
        self.bulk: set[int] = set()
        """Offsets of the records that belong to bulk requests."""
        self.run_bytes = 0
        """The most bytes that the receipts of all other records have."""
        self.changes = 0
        """Number of changes in ``by_bin``."""
        self.memory = 0
        """Approximate memory of the changes, in bytes."""
        self._largest = 0

    @property
    def is_full(self) -> bool:
        """Whether more records might not fit into the batch's transactions, make too many receipts for one task, or are after its end."""
        return self.is_at_end or self._is_closed or max(self._largest, self.receipt_bytes) >= FULL_BYTES or self.run_bytes >= RUN_BYTES

    def ends_before(self, offset: int) -> bool:
        """Return whether a record is after the batch's end, which the batch notes.

        Args:
            offset: the offset of the next record.
        """
        if self._end is not None and offset >= self._end:
            self.is_at_end = True
        return self.is_at_end

    def add(self, batch: Sequence[Record]) -> int:
        """Add more records. A signature of a custom role is a batch of its own, because the order counts.

        Args:
            batch: the next records of the partition of ``artifacts``, in the order of their offsets.

        Returns:
            How many of them it took.

        Raises:
            SchemaError: if a record has a newer schema; processing must not continue past it.
        """
        for number, record in enumerate(batch):
            try:
                changes: Changes = records.decode(records.changes_decoder, record.value)
                entries = [_entry_of(change) for change in changes.changes]
            except SchemaError:
                raise
            except (RecordError, RecursionError) as error:
                self._reach(record.offset)
                self._refuse(record.key, ChangeReceipt(offset=record.offset, index=0, path="", outcome="refused", reason=str(error)))
                continue
            if isinstance(changes.sign, RoleSignature):
                self._is_closed = True
                if self.next_offset:
                    return number
                self.signature = changes.sign, changes.request, record.offset
            self._reach(record.offset)
            self.admin = max(self.admin, changes.admin)
            if self.signature is not None:
                return number + 1
            if changes.bulk:
                self.bulk.add(record.offset)
            for nth, (change, entry) in enumerate(zip(changes.changes, entries, strict=True)):
                self._add(change, Change(changes.request, record.offset, nth, change.path, entry, changes.hold), changes.admin)
        return len(batch)

    def _reach(self, offset: int) -> None:
        if not self.next_offset:
            self.first_offset = offset
        self.next_offset = offset + 1

    def refuse(self, offset: int, reason: str) -> None:
        """Reject a record that can't be read.

        Args:
            offset: the record's offset, the next of the partition.
            reason: why it can't be read, for a human.
        """
        self._reach(offset)
        self._refuse("", ChangeReceipt(offset=offset, index=0, path="", outcome="refused", reason=reason))

    def _add(self, requested: Add | Remove, change: Change, admin: int) -> None:
        roles, reason = self.routing.find_roles(requested, self._partition, change.offset, admin)
        if reason:
            refused = ChangeReceipt(offset=change.offset, index=change.nth, path=change.path, outcome="refused", reason=reason)
            self._refuse(change.request, refused)
            return
        if len(roles) > 1:
            self.shared[change.offset, change.nth] = Shared(len(roles))
        for role in roles:
            self._add_to(role, change)

    def _add_to(self, role: str, change: Change) -> None:
        self.by_bin[role].append(change)
        receipt_bytes = _receipt_bytes(change.path)
        entry_bytes = len(change.entry or b"") + 1
        if change.hold:  # as a string of JSON it may be twice as long
            self.holds = True
            entry_bytes = 2 * entry_bytes + HELD_BYTES + len(change.path.encode())
        self.bytes_by_bin[role] += max(entry_bytes, receipt_bytes)
        if change.offset not in self.bulk:
            self.run_bytes += receipt_bytes
        self._largest = max(self._largest, self.bytes_by_bin[role])
        self.changes += 1
        self.memory += CHANGE_OVERHEAD_BYTES + len(change.path) + len(change.entry or b"")

    def take(self, role: str) -> list[Change]:
        """Take the changes of one role out of the batch.

        Args:
            role: the role's name.

        Returns:
            Its changes, in the order of the log.
        """
        return self.by_bin.pop(role, [])

    def refuse_all(self, role: str, reason: str) -> None:
        """Refuse all changes of a role.

        Args:
            role: the role's name.
            reason: why, for a human.
        """
        del self.bytes_by_bin[role]
        for change in self.take(role):
            refused = ChangeReceipt(offset=change.offset, index=change.nth, path=change.path, outcome="refused", reason=reason)
            self._refuse(change.request, refused)

    def _refuse(self, request: str, receipt: ChangeReceipt) -> None:
        self.receipts.append(KeyedReceipt(request, receipt))
        self.receipt_bytes += _receipt_bytes(receipt.path) + len(receipt.reason)


def _receipt_bytes(path: str) -> int:
    return RECEIPT_BYTES + (len(path) if path.isascii() else len(path.encode()))


def _entry_of(change: Add | Remove) -> bytes | None:
    if isinstance(change, Remove):
        return None
    return encode_entry(Target(change.path, change.length, change.hashes, change.custom)).encoded


def apply_changes(
    target_bin: Bin,
    changes: Iterable[Change],
    applied: int,
    bulk: Container[int] = frozenset(),
    held: HeldChanges | None = None,
    *,
    role: str = "",
    shared: Mapping[tuple[int, int], Shared] = MappingProxyType({}),
) -> tuple[bool, list[KeyedReceipt]]:
    """Apply changes to a bin, in the order of the log, or hold them. A change that is applied drops an earlier held one of its path.

    Args:
        target_bin: changed in place.
        changes: changes of this bin.
        applied: the offset below which the bin has applied everything; such changes are skipped.
        bulk: offsets of the records of bulk requests, whose unchanged additions get no receipt: an import that is sent again has millions.
        held: the held changes of the bin's partition; None if nothing is held, and no change is to be held.
        role: the bin's name, which its held changes are under.
        shared: the removals that are for several roles of the partition; updated in place.

    Returns:
        Whether the bin changed, and receipts for the changes that had no effect or were rejected.
    """
    changed = False
    receipts = []
    for request, offset, nth, path, entry, hold in changes:
        of_several = shared.get((offset, nth))
        if of_several is not None:
            of_several.left -= 1
            of_several.was_found |= offset < applied
        if offset < applied:
            continue
        reason = ""
        if hold:
            assert held is not None, "a change that is to be held needs a place"
            if reason := held.hold(role, offset, nth, path, entry):
                refused = ChangeReceipt(offset=offset, index=nth, path=path, outcome="refused", reason=reason)
                receipts.append(KeyedReceipt(request, refused))
            continue
        try:
            if entry is None:
                happened, outcome = target_bin.remove(path), "not_found"
            else:
                happened, outcome = target_bin.add(TargetEntry(path, entry)), "unchanged"
        except BinFullError as error:
            happened, outcome, reason = False, "refused", str(error)
        changed |= happened
        dropped = held.drop(role, path) if held is not None and outcome != "refused" else None
        # A removal that finds nothing in the bin removes what was held.
        was_found = happened or (outcome == "not_found" and dropped is not None and dropped.entry is not None)
        if of_several is not None:
            of_several.was_found |= was_found
            was_found = of_several.was_found or of_several.left > 0
        if not was_found and not (outcome == "unchanged" and offset in bulk):
            receipts.append(KeyedReceipt(request, ChangeReceipt(offset=offset, index=nth, path=path, outcome=outcome, reason=reason)))  # type: ignore[arg-type]
    return changed, receipts


def release_changes(target_bin: Bin, changes: Iterable[HeldChange]) -> tuple[bool, dict[str, str]]:
    """Apply held changes to a bin.

    Args:
        target_bin: changed in place.
        changes: held changes of this bin, in the order of the log.

    Returns:
        Whether the bin changed, and the path of each change that was refused, to the reason.
    """
    changed = False
    refused = {}
    for change in changes:
        try:
            changed |= target_bin.remove(change.path) if change.entry is None else target_bin.add(TargetEntry(change.path, change.entry))
        except BinFullError as error:
            refused[change.path] = str(error)
    return changed, refused


def pack(receipts: Sequence[KeyedReceipt], bulk: Container[int]) -> list[KeyedReceipt]:
    """Merge the equal receipts of each bulk request's record into one, without paths: the record has them.

    Args:
        receipts: the receipts of one transaction.
        bulk: offsets of the records that belong to bulk requests.

    Returns:
        Receipts with the same content, in a few bytes for each change.
    """
    packed = [one for one in receipts if one.receipt.offset not in bulk]
    alike: defaultdict[tuple[str, int, str, str], list[int]] = defaultdict(list)
    for request, receipt in receipts:
        if receipt.offset in bulk:
            alike[request, receipt.offset, receipt.outcome, receipt.reason].append(receipt.index)
    for (request, offset, outcome, reason), indexes in alike.items():
        ranges = _ranges(sorted(indexes))
        receipt = ChangeReceipt(offset=offset, index=ranges[0][0], path="", outcome=outcome, reason=reason, ranges=ranges)  # type: ignore[arg-type]
        packed.append(KeyedReceipt(request, receipt))
    return packed


def _ranges(indexes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for index in indexes:
        if ranges and ranges[-1][1] >= index - 1:
            ranges[-1] = ranges[-1][0], index
        else:
            ranges.append((index, index))
    return tuple(ranges)
