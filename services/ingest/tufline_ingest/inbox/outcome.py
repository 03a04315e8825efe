"""The decision about a record of ``inbox``, and its receipt: the event is accepted, is a duplicate, or is rejected.

An outcome has the records that are appended in the transaction that moves the event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tufline import records
from tufline.bus import Message, Record
from tufline.records import Add, topics
from tufline.records.cursor import Task
from tufline.records.receipts import EventReceipt
from tufline_ingest.accept import Change
from tufline_ingest.inbox.dedupe import digest_of


@dataclass(frozen=True, slots=True)
class Accepted:
    """The changes of the event are appended to ``artifacts``.

    Attributes:
        changes: the event's changes, at least one.
        messages: the records of ``artifacts`` that hold them.
    """

    name: ClassVar[Literal["accepted"]] = "accepted"
    changes: Sequence[Change]
    messages: Sequence[Message]

    @property
    def task(self) -> Task:
        """The kind of the event's task, in the words of the REST API."""
        adds = sum(isinstance(change, Add) for change in self.changes)
        return {0: Task.REMOVE, len(self.changes): Task.ADD}.get(adds, Task.BULK)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An event of the same source and id was accepted before; nothing is appended for this one."""

    name: ClassVar[Literal["duplicate"]] = "duplicate"
    messages: ClassVar[tuple[Message, ...]] = ()


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """The record is appended to ``rejected``.

    Attributes:
        reason: why, for people.
        messages: the record of ``rejected``.
    """

    name: ClassVar[Literal["rejected"]] = "rejected"
    reason: str
    messages: tuple[Message]


Outcome = Accepted | Duplicate | RejectedEvent


@dataclass(frozen=True, slots=True)
class JudgedEvent:
    """A record of ``inbox`` with its outcome.

    Attributes:
        record: the record.
        source: the source of the event; empty if it can't be read.
        event_id: the id that the sender gave the event; empty if it can't be read.
        outcome: the decision about the record.
    """

    record: Record
    source: str
    event_id: str
    outcome: Outcome

    @property
    def digest(self) -> str:
        """Names the event."""
        return digest_of(self.source, self.event_id)

    def receipt(self, task_id: str) -> Message:
        """Make its receipt.

        Args:
            task_id: the id of the event's task; for a duplicate, that of the first event with the same source and id; empty for a rejected
                event.

        Returns:
            The message.
        """
        partition = self.record.partition
        receipt = EventReceipt(
            partition=partition,
            offset=self.record.offset,
            source=self.source,
            id=self.event_id,
            outcome=self.outcome.name,
            task=task_id,
            reason=self.outcome.reason if isinstance(self.outcome, RejectedEvent) else "",
        )
        return Message(topics.RECEIPTS, self.source, records.encode(receipt), partition)
