"""The bus: the only thing that the services share.

A bus is a set of topics; a topic has partitions; a partition is a log of records, each at an offset. Two implementations keep the contract
below: Apache Kafka with one transactional producer per input partition (``kafka``), and SQLite within one process (``embedded``). No
service may depend on which one runs. ``tests/contract`` runs the same tests against both.

What every implementation MUST keep:

1. **Durable**: when ``append`` or ``commit`` returns, the records survive the death of every process and a loss of power.
2. **Ordered**: offsets of a partition grow in the order in which records become visible. They need not be consecutive. A reader never
   sees a record while one at a lower offset of the same partition may still appear.
3. **Atomic**: either all records of a transaction become visible or none, though perhaps in one partition a moment before another. A
   reader sees committed records only.
4. **Fenced**: from the moment ``writer(id)`` returns, no earlier writer of the same id can make anything visible. Records that it had not
   committed by then never appear, and its calls raise ``FencedError``.
5. **Exact**: ``append`` and ``commit`` put each record on the log once, even when the implementation retries. After a ``PushbackError`` or
   ``FencedError`` none of the records are on the log. After any other error they may be: the caller finds out by reading.
6. **Retained**: a record is deleted only under its topic's policy: after the retention time (``delete``), when a later record has its key
   and the compaction lag is over (``compact``), or after ``trim``. A compacted topic always keeps the newest record of each key.
7. **Readable**: a record that another program wrote can be read whatever bytes it holds. Keys and headers are text in which bytes that are
   not UTF-8 are escaped (``headers.ESCAPE``); appending them again writes the same bytes. A missing key or value is read as an empty one.

What a service MUST do:

- Take a partition over in this order: call ``writer(id)``, commit a claim to its own partition of ``heads``, read that partition up to the
  claim, then read its input from the progress found there. Never start from a group's offset or from ``end``.
- Handle ``RecordGoneError``: ``read`` compares the record's key and hash with the expected ones, and raises it if they differ.
- Go on past a record that can't be decoded (``RecordUnreadableError``): report it, then ``Reader.seek`` to the offset after it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

MAX_TRANSACTION_BYTES: Final = 16_000_000
"""The largest transaction, in bytes of values. A larger one would hold back every reader of the same topics."""

DEFAULT_FETCH_BYTES: Final = 4_000_000
"""How much one fetch returns, in bytes of values; a single record may be larger than that."""


DEFAULT_SESSION_SECONDS: Final = 6.0
"""A group member that sends no heartbeat for this long counts as dead."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record to append.

    Attributes:
        topic: without the prefix.
        key: identifies the record for compaction; may be empty if the topic is not compacted.
        value: the record's bytes.
        partition: from 0.
        headers: name to value; an instance of ``Headers`` if a name occurs more than once.
    """

    topic: str
    key: str
    value: bytes
    partition: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a record on the log.

    Attributes:
        topic: without the prefix.
        partition: from 0.
        offset: in the partition.
        time: when the bus accepted it, in milliseconds since 1970; never less than that of a lower offset.
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
        time: when the bus accepted it, in milliseconds since 1970; never less than that of a lower offset.
        key: as appended.
        value: as appended.
        headers: as appended. A byte of a name that is not UTF-8 is written as ``\xff``; only other programs can write such a name.
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
    """Reads one partition in order. Only one task may use it at a time."""

    @property
    def position(self) -> int:
        """The offset from which the next ``fetch`` reads."""

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        """Read the next records, waiting for the first.

        Args:
            max_wait: how long to wait if none exists yet, in seconds; 0 to return at once.
            max_bytes: about how many bytes of values to return at most; at least one record is returned.

        Returns:
            Records in the order of their offsets; empty if ``max_wait`` passed without one. No offset is below ``position``; the first may
            be above it if records were deleted.

        Raises:
            RecordUnreadableError: if the next record can't be decoded. All records before it have been returned. The position stays at
                it, so that no caller skips it by accident; ``seek`` skips it.
            BusError: if the bus is temporarily unavailable.
        """

    def seek(self, offset: int) -> None:
        """Continue at another offset. Does no I/O.

        Args:
            offset: the lowest offset that the next ``fetch`` may return; to skip an unreadable record, the error's offset + 1.
        """

    async def close(self) -> None:
        """Release the reader."""


class Writer(Protocol):
    """Writes transactions under a writer id. One transaction at a time."""

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        """Append messages to any topics in one transaction.

        Args:
            messages: appended in this order.
            then: called inside the transaction with the positions of ``messages`` once they are known; the messages that it returns are
                appended to the same transaction. It MUST be quick and MUST NOT wait for anything. It may run in another thread while the
                caller waits, and may be called again if the bus retries.

        Returns:
            The positions of ``messages``, followed by those of the messages that ``then`` returned.

        Raises:
            FencedError: if another writer of this id exists; nothing of this transaction is or will be visible.
            PushbackError: if the log accepts no more for now; nothing was appended.
            BusError: if the outcome is unknown; take the partition over again to find out.
        """

    async def close(self) -> None:
        """Release the writer. Nobody holds the id until ``Bus.writer`` is called with it again."""


class Member(Protocol):
    """A member of a consumer group."""

    async def leave(self) -> None:
        """Release all partitions, wait for ``revoked``, and leave the group."""


class Bus(Protocol):
    """A log of topics that all services share; the module's docstring has the contract."""

    @property
    def log_id(self) -> str:
        """Identifies this log: another cluster, prefix or file has another id. At most 64 characters of ``[A-Za-z0-9_-]``."""

    @property
    def session_seconds(self) -> float:
        """A group member that sends no heartbeat for this long counts as dead, and its partitions go to other members."""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic.

        Args:
            topic: without the prefix.

        Returns:
            At least 1.

        Raises:
            KeyError: if the topic does not exist.
        """

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        """Append messages outside any transaction; they may become visible one after another.

        Args:
            messages: for any topics.

        Returns:
            The positions, in the order of the messages.

        Raises:
            PushbackError: if the log accepts no more for now; none was appended.
            BusError: if the outcome is unknown; some may be on the log.
        """

    async def writer(self, writer_id: str) -> Writer:
        """Become the only writer of an id, and fence the previous one.

        Args:
            writer_id: such as ``bins.3``.

        Returns:
            The writer; close it.

        Raises:
            BusError: if the bus can't be reached.
        """

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """Read a partition from an offset, outside any group.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: the lowest offset to read; 0 for the oldest existing record.

        Returns:
            The reader; close it.
        """

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """Read one record by its offset, and check that it is the expected one.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: the record's offset.
            key: the key that the record must have.
            sha256: the digest that the record's value must have, in lower-case hexadecimal.

        Returns:
            The value.

        Raises:
            RecordGoneError: if the record was deleted, for example by compaction, or is not the expected one.
            RecordUnreadableError: if the record's bytes can't be decoded.
            BusError: if the bus is temporarily unavailable.
        """

    async def end(self, topic: str, partition: int) -> int:
        """Return the end of the records that are visible now. For read models only: briefly, a committed record may lie above it.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            An offset above that of every record visible now.
        """

    async def start(self, topic: str, partition: int) -> int:
        """Return the offset at which the existing records start. All records below it have been deleted.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            An offset not above that of the oldest record; the same as ``end`` if the partition is empty.

        Raises:
            BusError: if the bus is temporarily unavailable.
        """

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """Find the first record at or after a time.

        Args:
            topic: without the prefix.
            partition: from 0.
            time: in milliseconds since 1970.

        Returns:
            The offset of the first record that the bus accepted at that time or later; the same as ``end`` if there is none.
        """

    async def trim(self, topic: str, partition: int, offset: int) -> None:
        """Allow the bus to delete all records below an offset. A compacted topic still keeps the newest record of each key.

        Args:
            topic: without the prefix.
            partition: from 0.
            offset: the lowest offset to keep.
        """

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> Member:
        """Join a consumer group, which shares a topic's partitions among its members.

        Args:
            group: the group's name, without the prefix.
            topic: the topic whose partitions are shared, without the prefix.
            assigned: awaited after each rebalance with the partitions that this member gained, perhaps none; it keeps those that were not
                revoked. It MUST return soon: start a task for the work.
            revoked: awaited with the partitions that this member loses, before another member gets them. If the group took this member for
                dead, it is awaited only after another member got them, and nothing but the fence protects the partitions. It MUST return
                only when all work on them has stopped. A member that has to join again is told so with no partitions.

        Returns:
            The member.
        """

    async def close(self) -> None:
        """Finish pending work and release everything."""
