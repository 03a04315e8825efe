"""What a batch of the log does to bins: pure logic, and the bins that are kept in memory.

In: records of one partition of ``artifacts``. Out: for each bin the changes that it has not applied yet, in their order; and, when they are
applied, what did not simply happen.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tufline import records
from tufline.bins import Bin, BinLayout
from tufline.bus import Record
from tufline.errors import BinFullError, RecordError, SchemaError
from tufline.model import Target, encode_entry
from tufline.records import Add, Changes, Head, Receipt, Remove


class Change(NamedTuple):
    """One change, and where on the log it stands: the ``nth`` of the record at ``offset``."""

    request: str
    offset: int
    nth: int
    change: Add | Remove


class KeyedReceipt(NamedTuple):
    """A receipt and the request that it is for."""

    request: str
    receipt: Receipt


@dataclass(slots=True)
class Batch:
    """Some records of a partition, sorted by what they change.

    Attributes:
        next_offset: above all of the records.
        admin: the offset in ``admin`` that must be applied before.
        by_bin: role name to its changes, in the order of the log.
        receipts: of changes that belong to no bin of this partition.
    """

    next_offset: int = 0
    admin: int = 0
    by_bin: dict[str, list[Change]] = field(default_factory=dict)
    receipts: list[KeyedReceipt] = field(default_factory=list)


def sort_batch(batch: Sequence[Record], layout: BinLayout, partition: int, partitions: int) -> Batch:
    """Sort records by the bins that they change.

    Args:
        batch: of one partition of ``artifacts``, in the order of their offsets; not empty.
        layout: how paths are spread over bins.
        partition: the records' partition.
        partitions: how many there are.

    Returns:
        The changes of each bin.

    Raises:
        SchemaError: if a record has a newer schema: nothing may go on past it.
    """
    by_bin: defaultdict[str, list[Change]] = defaultdict(list)
    result = Batch(next_offset=batch[-1].offset + 1)
    for record in batch:
        try:
            changes: Changes = records.decode(records.changes_decoder, record.value)
        except SchemaError:
            raise
        except RecordError as error:
            lost = Receipt(offset=record.offset, index=0, path="", outcome="refused", reason=str(error))
            result.receipts.append(KeyedReceipt(record.key, lost))
            continue
        result.admin = max(result.admin, changes.admin)
        for nth, change in enumerate(changes.changes):
            bin_index = layout.index_of(change.path)
            if layout.partition_of(bin_index, partitions) == partition:
                by_bin[layout.name(bin_index)].append(Change(changes.request, record.offset, nth, change))
            else:
                reason = f"its bin is not in partition {partition}"
                strayed = Receipt(offset=record.offset, index=nth, path=change.path, outcome="refused", reason=reason)
                result.receipts.append(KeyedReceipt(changes.request, strayed))
    result.by_bin = dict(by_bin)
    return result


def apply_changes(target_bin: Bin, changes: Iterable[Change], applied: int) -> tuple[bool, list[KeyedReceipt]]:
    """Apply changes to a bin, in the order of the log.

    Args:
        target_bin: changed in place.
        changes: of this bin.
        applied: the offset below which the bin has applied everything; such changes are passed over.

    Returns:
        Whether the bin changed, and receipts for what did not simply happen.
    """
    changed = False
    receipts = []
    for request, offset, nth, change in changes:
        if offset < applied:
            continue
        reason = ""
        try:
            if isinstance(change, Remove):
                happened, outcome = target_bin.remove(change.path), "not_found"
            else:
                entry = encode_entry(Target(change.path, change.length, change.hashes, change.custom))
                happened, outcome = target_bin.add(entry), "unchanged"
        except BinFullError as error:
            happened, outcome, reason = False, "refused", str(error)
        changed |= happened
        if not happened:
            receipts.append(KeyedReceipt(request, Receipt(offset=offset, index=nth, path=change.path, outcome=outcome, reason=reason)))  # type: ignore[arg-type]
    return changed, receipts


class BinCache:
    """The bins that are in memory: the last used ones, up to a budget. What is not here is read back from the log."""

    def __init__(self, budget: int) -> None:
        """Make an empty cache.

        Args:
            budget: bytes.
        """
        self._budget = budget
        self._bins: OrderedDict[str, tuple[int, Bin, int]] = OrderedDict()
        self.memory = 0
        """About how many bytes the bins take."""

    def take(self, role: str, head: Head) -> Bin | None:
        """Take a bin out, to change it; who has written it puts it back. So no half-changed bin is ever in the cache.

        Args:
            role: its name.
            head: the version that is wanted.

        Returns:
            The bin in that version, or None.
        """
        found = self._bins.get(role)
        self.drop(role)
        return found[1] if found and found[0] == head.version else None

    def put(self, role: str, version: int, content: Bin) -> None:
        """Keep a bin; the longest unused ones go if the budget is passed.

        Args:
            role: its name.
            version: of the content, as it is on the log.
            content: the bin.
        """
        self.drop(role)
        self._bins[role] = version, content, content.memory
        self.memory += content.memory
        while self.memory > self._budget and self._bins:
            self.drop(next(iter(self._bins)))

    def drop(self, role: str) -> None:
        """Forget a bin.

        Args:
            role: its name.
        """
        if found := self._bins.pop(role, None):
            self.memory -= found[2]
