"""What the writer of a partition of ``inbox`` knows: how far it has come, and which events it has accepted lately.

Both stand in ``inbox-progress``, a partition that nobody else writes. Each transaction that moves events says there what it accepted. It
goes under one of a fixed number of keys in turn, so that compaction keeps the last so many transactions; and with them as many accepted
events as are to be remembered, unless transactions that accept nothing come between.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from tufline import records, topics
from tufline.bus import Bus, Message, Position, Record
from tufline.passed_over import PassedOver
from tufline.records import InboxProgress
from tufline.takeover import read_up_to

FIRST_STEP: Final = 256
"""How many offsets before the claim reading back begins; it goes back in growing steps."""

DIGEST_BYTES: Final = 16


def digest_of(source: str, event_id: str) -> str:
    """Name an event briefly.

    Args:
        source: of the event.
        event_id: of the event, unique for its source.

    Returns:
        Hexadecimal digits.
    """
    return hashlib.blake2b(f"{len(source)}:{source}{event_id}".encode(), digest_size=DIGEST_BYTES).hexdigest()


class Moved:
    """How far a partition of ``inbox`` is moved, and which events of it were accepted lately."""

    def __init__(self, partition: int, remembered: int) -> None:
        """Begin with nothing.

        Args:
            partition: of ``inbox``.
            remembered: how many accepted events to know.
        """
        self._partition = partition
        self._remembered = remembered
        self._number = 0
        self._tasks: OrderedDict[str, str] = OrderedDict()
        self.offset = 0
        """What is below it in ``inbox`` is moved."""

    def task_of(self, digest: str) -> str | None:
        """Say which task an event became.

        Args:
            digest: of the event.

        Returns:
            The task id; None if the event is not known.
        """
        return self._tasks.get(digest)

    def next(self, offset: int, accepted: Mapping[str, str]) -> InboxProgress:
        """Make the record of the next transaction.

        Args:
            offset: up to where it moves ``inbox``.
            accepted: the events that it accepts: digest to task id.

        Returns:
            The record; to be taken in when it is committed.
        """
        return InboxProgress(number=self._number + 1, offset=offset, accepted=dict(accepted))

    def message(self, progress: InboxProgress) -> Message:
        """Make the message of a record.

        Args:
            progress: from ``next``.

        Returns:
            The message, for the transaction.
        """
        key = f"@{progress.number % self._remembered}"
        return Message(topics.INBOX_PROGRESS, key, records.encode(progress), self._partition)

    def take(self, progress: InboxProgress) -> None:
        """Take in a transaction that is committed.

        Args:
            progress: its record.
        """
        self._number, self.offset = progress.number, progress.offset
        self._tasks.update(progress.accepted)
        while len(self._tasks) > self._remembered:
            self._tasks.popitem(last=False)


async def restore(bus: Bus, claim: Position, remembered: int, passed: PassedOver) -> Moved:
    """Read back what the writers before knew, from the newest record on.

    Args:
        bus: the log.
        claim: ours, in ``inbox-progress``.
        remembered: how many accepted events to know.
        passed: takes the records that can't be read; what they said is not known, so events of theirs may be accepted once more.

    Returns:
        What the last writer knew.

    Raises:
        BusError: if it can't be read back yet.
    """
    found: list[InboxProgress] = []

    def take(record: Record) -> None:
        content = passed.decode(records.inbox_decoder, record)
        if isinstance(content, InboxProgress):
            found.append(content)

    step = FIRST_STEP
    while True:
        found.clear()
        start = max(0, claim.offset - step)
        await read_up_to(bus, claim, take, start, passed)
        if start == 0 or max(len(found), sum(len(one.accepted) for one in found)) >= remembered:
            break
        step *= 8
    moved = Moved(claim.partition, remembered)
    for progress in found:
        moved.take(progress)
    return moved
