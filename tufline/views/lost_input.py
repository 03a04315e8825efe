"""Input that is gone from the log before it was applied: finding it, and stopping at it until people accept the loss.

A partition's writer knows how far it has come, and the log where it starts. A start above the progress means that records are gone which
nobody applied: a retention that somebody set, a disk that a broker lost. Ingest trims only what is applied, so it never makes such a gap.
Nothing is passed over silently: a ``CheckedReader`` raises ``InputLostError``, which says how to accept the loss, and the writer applies
nothing more until the acceptance is on ``admin``.

In: a partition and the progress of its writer. Out: its records, or the error.
"""

from collections.abc import Sequence

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Record
from tufline.bus.scan import last_record
from tufline.errors import InputLostError
from tufline.records import PROGRESS_KEY, InboxProgress, Progress, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust.admin_state import AdminState

ACCEPTABLE = (topics.ARTIFACTS, topics.INBOX)
"""The topics of which a loss can be accepted."""


def is_accepted(state: AdminState, lost: InputLostError) -> bool:
    """Say whether people have accepted a loss.

    Args:
        state: folded from ``admin``.
        lost: the loss.
    """
    return state.losses.get((lost.topic, lost.partition), 0) >= lost.below


async def find_loss(bus: Bus, topic: str, partition: int, progress: int) -> InputLostError | None:
    """Find out whether records are gone that were not applied.

    Args:
        bus: the log.
        topic: of the input, without the prefix.
        partition: from 0.
        progress: the offset below which everything is applied.

    Returns:
        The loss, or None.

    Raises:
        BusError: if the bus can't be asked now.
    """
    start = await bus.start(topic, partition)
    return InputLostError(topic, partition, progress, start) if start > progress else None


async def progress_of(bus: Bus, topic: str, partition: int, passed: PassedOver | None = None) -> int:
    """Say how far the writer of a partition has come, as one that takes it over would read it.

    Args:
        bus: the log.
        topic: of ``ACCEPTABLE``.
        partition: from 0.
        passed: takes the records that can't be read; without it they are passed over, too.

    Returns:
        The offset below which everything is applied; 0 where nothing that can be read says so.

    Raises:
        BusError: if the log can't be read now.
        SchemaError: if the newest progress has a newer schema.
    """
    unreadable = passed or PassedOver(Health(), topic)
    progress = 0

    def take(record: Record) -> bool:
        nonlocal progress
        if topic == topics.ARTIFACTS:
            of_bins = unreadable.decode(records.heads_decoder, record) if record.key == PROGRESS_KEY else None
            found = of_bins.offset if isinstance(of_bins, Progress) else None
        else:
            of_inbox = unreadable.decode(records.inbox_decoder, record)
            found = of_inbox.offset if isinstance(of_inbox, InboxProgress) else None
        progress = progress if found is None else found
        return found is not None

    await last_record(bus, topics.HEADS if topic == topics.ARTIFACTS else topics.INBOX_PROGRESS, partition, take, unreadable)
    return progress


class CheckedReader:
    """A reader of an input that raises where records are gone. Not to be used by two tasks at once, nor after it has raised that."""

    def __init__(self, bus: Bus, topic: str, partition: int, offset: int) -> None:
        """Read from an offset.

        Args:
            bus: to read from.
            topic: without the prefix.
            partition: from 0.
            offset: below which everything is applied.
        """
        self._bus = bus
        self._topic = topic
        self._partition = partition
        self._reader = bus.reader(topic, partition, offset)
        self._is_checked = False

    @property
    def position(self) -> int:
        """The offset from which the next ``fetch`` reads."""
        return self._reader.position

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        """Read the next records; see ``Reader.fetch``.

        Args:
            max_wait: as there.
            max_bytes: as there.

        Returns:
            As there.

        Raises:
            InputLostError: if records from ``position`` on are gone.
            RecordUnreadableError: as there.
            BusError: if the bus can't be read now.
        """
        position = self._reader.position
        if not self._is_checked:
            await self._check(position)
            self._is_checked = True
        found = await self._reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        # Not every offset is a record's: a gap before the first one may be the marker of a transaction.
        if found[0].offset > position if found else max_wait > 0:
            await self._check(position)
        return found

    def seek(self, offset: int) -> None:
        """Read on from another offset; see ``Reader.seek``.

        Args:
            offset: as there.
        """
        self._reader.seek(offset)

    async def _check(self, position: int) -> None:
        if (lost := await find_loss(self._bus, self._topic, self._partition, position)) is not None:
            raise lost

    async def close(self) -> None:
        """Release the reader."""
        await self._reader.close()
