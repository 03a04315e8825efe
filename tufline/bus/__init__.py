"""The bus: all that the services share.

A bus is a set of topics; a topic has partitions; a partition is a log of records, each at an offset. The contract below is written so that
Apache Kafka fulfils it with one transactional producer for each input partition, and one process fulfils it with SQLite (``embedded``).
Nothing in the services may know which one runs. ``tests/contract`` holds every implementation to it.

What every implementation MUST keep:

1. **Durable**: when ``append`` or ``commit`` returns, the records survive the death of every process, and the loss of power.
2. **Ordered**: offsets of a partition grow in the order in which records become visible. They need not be consecutive. A reader never
   sees a record while one at a lower offset of the same partition may still appear.
3. **Atomic**: of a transaction all records become visible, or none; in one partition perhaps a moment before another. A reader sees
   committed records only.
4. **Fenced**: from the moment ``writer(id)`` returns, no earlier writer of the same id can make anything visible; what it had not
   committed by then never appears; its calls raise ``FencedError``.
5. **Exact**: ``append`` and ``commit`` put a record on the log once, also when the implementation tries again. If they raise anything but
   a refusal (``PushbackError``, ``FencedError``), the records may be on the log or not: the caller finds out by reading.
6. **Kept**: a record goes only by its topic's policy: after its time (``delete``), when a later one has its key and the compaction lag is
   over (``compact``), or after ``trim``. The newest record of a key in a compacted topic stays for ever.
7. **Anybody's**: a record that others wrote is read whatever bytes it holds. Key and headers are text in which bytes that are not UTF-8 are
   escaped (``headers.ESCAPE``), and are appended again as the same bytes; no key, or no value, is an empty one.

What a service MUST do:

- Take a partition over thus: ``writer(id)``, then commit a claim to its own partition of ``heads``, then read that partition up to the
  claim, then read its input from the progress found there. Never from a group's offset nor from ``end``.
- Check what ``read`` gives: it does so itself by key and hash, and raises ``RecordGoneError``.
- Not stop at a record that can't be decoded (``RecordUnreadableError``): report it, then ``Reader.seek`` to the offset after it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

MAX_TRANSACTION_BYTES: Final = 16_000_000
"""The largest transaction, in bytes of values: longer ones hold back every reader of the same topics."""

DEFAULT_FETCH_BYTES: Final = 4_000_000
"""How much a reader takes at once, in bytes of values; one record may be larger than that."""


DEFAULT_SESSION_SECONDS: Final = 6.0
"""After so long without a sign of life a member of a group counts as dead."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record to append.

    Attributes:
        topic: without the prefix.
        key: what compaction goes by; empty for none, where the topic is not compacted.
        value: the record's bytes.
        partition: from 0.
        headers: names to values, beside the value; ``Headers`` where a name stands more than once.
    """

    topic: str
    key: str
    value: bytes
    partition: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record is.

    Attributes:
        topic: without the prefix.
        partition: from 0.
        offset: in the partition.
        time: when the bus took it, in milliseconds since 1970; grows with the offset.
    """

    topic: str
    partition: int
    offset: int
    time: int


@dataclass(frozen=True, slots=True)
class Record:
    r"""A record of the log.

    Attributes:
        topic: without the prefix.
        partition: from 0.
        offset: in the partition.
        time: when the bus took it, in milliseconds since 1970; grows with the offset.
        key: as appended.
        value: as appended.
        headers: as appended. A name that is not UTF-8, which only others can write, has ``\xff`` in place of such a byte.
    """

    topic: str
    partition: int
    offset: int
    time: int
    key: str
    value: bytes
    headers: Mapping[str, str]


Then = Callable[[Sequence[Position]], Sequence[Message]]
Assigned = Callable[[frozenset[int]], Awaitable[None]]


class Reader(Protocol):
    """Reads one partition in order. Not to be used by two tasks at once."""

    @property
    def position(self) -> int:
        """The offset from which the next ``fetch`` reads."""

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        """Read the next records, waiting for the first.

        Args:
            max_wait: how long to wait when there is none, in seconds; 0 for not at all.
            max_bytes: about how many bytes of values to take at most; at least one record is taken.

        Returns:
            Records in the order of their offsets; none if ``max_wait`` is over. Never one below ``position``; the first may be above it
            where records are gone.

        Raises:
            RecordUnreadableError: if the next record can't be decoded. What is before it was returned, the position stays, so
                that a caller that does not expect this never passes over the record; ``seek`` does.
            BusError: if the bus can't be read now.
        """

    def seek(self, offset: int) -> None:
        """Read on from another offset, without waiting for anything.

        Args:
            offset: the lowest that the next ``fetch`` may return; after a ``RecordUnreadableError``, its offset + 1.
        """

    async def close(self) -> None:
        """Give the reader back."""


class Writer(Protocol):
    """Writes transactions under a writer id. One transaction at a time."""

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        """Append messages to any topics in one transaction.

        Args:
            messages: appended in this order.
            then: called with the positions of ``messages`` once they are known, inside the transaction; what it returns is appended to the
                same transaction. It MUST be quick and MUST NOT wait for anything. It may run in another thread, while the caller
                waits, and may be called again if the bus tries again.

        Returns:
            The positions of ``messages``, then of what ``then`` returned.

        Raises:
            FencedError: another writer of this id exists; nothing was and nothing will be visible.
            PushbackError: the log takes no more for now; nothing was appended.
            BusError: the outcome is unknown: take the partition over anew to find out.
        """

    async def close(self) -> None:
        """Give the writer back. The id stays with nobody until somebody asks for it."""


class Member(Protocol):
    """A place in a consumer group."""

    async def leave(self) -> None:
        """Give all partitions back, waiting for ``revoked``, and leave the group."""


class Bus(Protocol):
    """A log of topics that all services share; see the module for what it MUST keep."""

    @property
    def log_id(self) -> str:
        """Names this very log: another cluster, prefix or file has another one. At most 64 characters ``[A-Za-z0-9_-]``."""

    @property
    def session_seconds(self) -> float:
        """After so long without a sign of life a member of a group counts as dead, and its partitions go to others."""

    def partitions(self, topic: str) -> int:
        """Say how many partitions a topic has.

        Args:
            topic: without the prefix.

        Returns:
            At least 1.

        Raises:
            KeyError: if there is no such topic.
        """

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        """Append messages, outside any transaction; they may become visible one after the other.

        Args:
            messages: to any topics.

        Returns:
            The positions, in the order of the messages.

        Raises:
            PushbackError: the log takes no more for now; none was appended.
            BusError: the outcome is unknown; some may be on the log.
        """

    async def writer(self, writer_id: str) -> Writer:
        """Become the one writer of an id, fencing whoever was it before.

        Args:
            writer_id: such as ``bins.3``.

        Returns:
            The writer.

        Raises:
            BusError: if the bus can't be reached.
        """

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """Read a partition from an offset, outside any group.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: the lowest offset of interest; 0 for the oldest record there is.

        Returns:
            The reader.
        """

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """Read one record by its offset, and make sure that it is the one meant.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: of the record.
            key: that it must have.
            sha256: of its value, lower-case hexadecimal.

        Returns:
            The value.

        Raises:
            RecordGoneError: the record is gone (compaction), or another one.
            RecordUnreadableError: the record's bytes can't be decoded.
            BusError: if the bus can't be read now.
        """

    async def end(self, topic: str, partition: int) -> int:
        """Say after which offset there is nothing to see now. For read models only: a committed record may lie beyond it for a moment.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            An offset above that of every record visible now.
        """

    async def start(self, topic: str, partition: int) -> int:
        """Say from which offset on there is something to see. All records below it are gone.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            An offset not above that of the oldest record; as ``end`` if there is none.

        Raises:
            BusError: if the bus can't be asked now.
        """

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """Find where a time begins.

        Args:
            topic: without the prefix.
            partition: from 0.
            time: in milliseconds since 1970.

        Returns:
            The offset of the first record that the bus took at that time or later; as ``end`` if there is none.
        """

    async def trim(self, topic: str, partition: int, offset: int) -> None:
        """Allow the bus to drop all records below an offset. The newest record of a key in a compacted topic stays.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: the first one to keep.
        """

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> Member:
        """Join a consumer group, which shares a topic's partitions among its members.

        Args:
            group: its name.
            topic: whose partitions are shared.
            assigned: awaited after each rebalance with partitions that are this member's from now on, beside those that it kept; perhaps
                none. It MUST return soon: start a task for the work.
            revoked: awaited with partitions that are no longer this member's, before another member gets them (or, if this member was
                taken for dead, after: then only the fence protects). It MUST return only when no work on them goes on.

        Returns:
            The place in the group.
        """

    async def close(self) -> None:
        """Finish what is under way and give everything back."""
