"""Topic ``receipts``: the outcome of each event of the inbox, the changes that had no effect or were refused, and what publishes released.

Partition i has the change receipts of partition i of ``artifacts`` and the publish receipts of its bins, from the signer, and the event
receipts of partition i of ``inbox``, from ingest.
"""

from typing import Final, Literal

import msgspec

from tufline.records.codec import HOLD_SCHEMA, Versioned, decoder
from tufline.records.receipt_index import Run


class ChangeReceipt(Versioned, frozen=True, kw_only=True, tag="change", tag_field="kind"):
    """Topic ``receipts``, same partition as the change, key: request. A change that had no effect or was refused.

    Attributes:
        offset: the offset in ``artifacts`` of the record with the change.
        index: the index of the change in that record, from 0.
        path: the target path.
        outcome: what happened to the change.
        reason: an explanation for people; empty if ``outcome`` says it all.
        ranges: for a bulk request, the changes of the record that this receipt covers: first and last index of each range, both inclusive;
            ``index`` is the first of them, and ``path`` is empty.
        runs: in the first receipt of a batch, where the receipts of earlier batches are (see ``tufline.records.receipt_index``).
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
        """The indexes of the changes that this receipt covers."""
        return [index for first, last in self.ranges for index in range(first, last + 1)] if self.ranges else [self.index]


class EventReceipt(Versioned, frozen=True, kw_only=True, tag="event", tag_field="kind"):
    """Topic ``receipts``, same partition as the event, key: its source. The outcome of an event of ``inbox``.

    Attributes:
        partition: the partition of ``inbox`` that had the event.
        offset: the event's offset in that partition; -1 in a record without an event, which ingest writes as a mark before it reads its own
            receipts back.
        source: the event's source; empty if it can't be read.
        id: the event's id; empty if it can't be read.
        outcome: accepted, a duplicate of an accepted event, or rejected.
        task: the task id of the accepted event, or of the event that this one duplicates; empty for a rejected one.
        reason: why it was rejected, for people; empty otherwise.
    """

    partition: int
    offset: int
    source: str
    id: str
    outcome: Literal["accepted", "duplicate", "rejected"]
    task: str = ""
    reason: str = ""


class PublishReceipt(Versioned, frozen=True, kw_only=True, tag="publish", tag_field="kind"):
    """Topic ``receipts``, same partition as the bins, key ``PUBLISH_KEY``. What a publish released in some bins.

    Attributes:
        publish: the offset of the publish in ``admin``.
        roles: the bins that it changed.
        refused: the paths of held changes that its bins refused; only the first ones if there are very many.
        refusals: how many held changes were refused.
        reason: why they were refused, for people; empty if none was.
        runs: in the first receipt of a publish, where the receipts of earlier publishes are (see ``tufline.records.receipt_index``).
    """

    v: int = HOLD_SCHEMA
    publish: int
    roles: tuple[str, ...]
    refused: tuple[str, ...] = ()
    refusals: int = 0
    reason: str = ""
    runs: tuple[Run, ...] = ()


Receipt = ChangeReceipt | EventReceipt | PublishReceipt
"""Any record of ``receipts``."""

receipt_decoder: Final[msgspec.json.Decoder[Receipt]] = decoder(Receipt)
