"""Lost input: detecting records that were deleted from the log before they were applied, and stopping there until people accept the loss.

If the log starts above the progress of a partition's writer, the records between the two are gone and were never applied. The cause may be
a retention that somebody set, or a disk that a broker lost; ingest trims only applied records, so it never causes this. No loss is skipped
silently: a ``CheckedReader`` raises ``InputLostError``, which says how to accept the loss, and the writer applies nothing more until the
acceptance is on ``admin``.

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
"""The topics for which a loss can be accepted."""


def is_accepted(state: AdminState, lost: InputLostError) -> bool:
    """Return whether people have accepted a loss.

    Args:
        state: folded from ``admin``.
        lost: the loss, from ``find_loss``.
    """
    return state.losses.get((lost.topic, lost.partition), 0) >= lost.below


async def find_loss(bus: Bus, topic: str, partition: int, progress: int) -> InputLostError | None:
    """Check whether records are gone that were not applied.

    Args:
        bus: the log.
        topic: the input topic, without the prefix.
        partition: from 0.
        progress: the offset below which everything is applied.

    Returns:
        The loss, or None.

    Raises:
        BusError: if the bus is temporarily unavailable.
    """
    start = await bus.start(topic, partition)
    return InputLostError(topic, partition, progress, start) if start > progress else None


async def progress_of(bus: Bus, topic: str, partition: int, passed: PassedOver | None = None) -> int:
    """Read the progress of a partition's writer, as a takeover would read it.

    Args:
        bus: the log.
        topic: one of ``ACCEPTABLE``.
        partition: from 0.
        passed: notified of records that can't be read; they are skipped in any case.

    Returns:
        The offset below which everything is applied; 0 if no readable record has it.

    Raises:
        BusError: if the bus is temporarily unavailable.
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
    """A reader of a partition of input. It raises ``InputLostError`` where records are gone, and must not be used after that.

    Only one task may use it.
    """

    def __init__(self, bus: Bus, topic: str, partition: int, offset: int) -> None:
        """Read from an offset.

        Args:
            bus: the log.
            topic: without the prefix.
            partition: from 0.
            offset: where to start: everything below it is applied.
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
            max_wait: see ``Reader.fetch``.
            max_bytes: see ``Reader.fetch``.

        Returns:
            Records as from ``Reader.fetch``.

        Raises:
            InputLostError: if records from ``position`` on are gone.
            RecordUnreadableError: see ``Reader.fetch``.
            BusError: if the bus is temporarily unavailable.
        """
        position = self._reader.position
        if not self._is_checked:
            await self._check(position)
            self._is_checked = True
        found = await self._reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        # A gap before the first record need not be a loss: on Kafka the marker of a transaction takes an offset.
        if found[0].offset > position if found else max_wait > 0:
            await self._check(position)
        return found

    def seek(self, offset: int) -> None:
        """Continue at another offset; see ``Reader.seek``.

        Args:
            offset: the lowest offset that the next ``fetch`` may return.
        """
        self._reader.seek(offset)

    async def _check(self, position: int) -> None:
        if (lost := await find_loss(self._bus, self._topic, self._partition, position)) is not None:
            raise lost

    async def close(self) -> None:
        """Release the reader."""
        await self._reader.close()
