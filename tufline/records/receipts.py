"""Topic ``receipts``: what became of each event of the inbox, and what did not simply happen. Its records, and reading them.

Partition i has the change receipts of partition i of ``artifacts``, from the signer, and the event receipts of partition i of ``inbox``,
from ingest.
"""

from typing import Final, Literal

import msgspec

from tufline.records import Versioned, decoder
from tufline.records.receipt_index import Run


class ChangeReceipt(Versioned, frozen=True, kw_only=True, tag="change", tag_field="kind"):
    """Topic ``receipts``, same partition as the change, key: request. A change that did not simply happen.

    Attributes:
        offset: where the record with the change is in ``artifacts``.
        index: which change of that record it is, from 0.
        path: the target path.
        outcome: what became of it.
        reason: for a human; empty where ``outcome`` says it all.
        ranges: in a bulk request, which changes of the record this is about: first and last index of each range, both inclusive; ``index``
            is the first of them, and ``path`` is empty.
        runs: in the first receipt of a batch, where the receipts of batches before it are (see ``tufline.records.receipt_index``).
    """

    offset: int
    index: int
    path: str
    outcome: Literal["not_found", "unchanged", "refused"]
    reason: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    runs: tuple[Run, ...] = ()

    @property
    def indexes(self) -> list[int]:
        """Indexes of the changes that this is about."""
        return [index for first, last in self.ranges for index in range(first, last + 1)] if self.ranges else [self.index]


class EventReceipt(Versioned, frozen=True, kw_only=True, tag="event", tag_field="kind"):
    """Topic ``receipts``, same partition as the event, key: its source. What became of an event of ``inbox``.

    Attributes:
        partition: the partition of ``inbox`` that had the event.
        offset: where the event is in that partition; -1 in a record that is about no event: ingest writes one where it reads its own
            receipts back.
        source: who sent the event; empty where that can't be read.
        id: what its sender named the event; empty where that can't be read.
        outcome: accepted, a duplicate of an accepted one, or rejected.
        task: task id of the accepted event, or of the one that this is a duplicate of; empty for a rejected one.
        reason: why it was rejected, for a human; empty otherwise.
    """

    partition: int
    offset: int
    source: str
    id: str
    outcome: Literal["accepted", "duplicate", "rejected"]
    task: str = ""
    reason: str = ""


Receipt = ChangeReceipt | EventReceipt
"""What may stand in ``receipts``."""

receipt_decoder: Final[msgspec.json.Decoder[Receipt]] = decoder(Receipt)
