"""The log in a SQLite file: the synchronous part of the embedded bus, which writes the file.

WAL mode with ``synchronous=FULL``: a batch is on the disk when ``execute`` returns, and readers on their own connections see only whole
batches. The state in memory (next offsets, the newest record of each key, epochs) changes only once the batch is committed.

Space: deleted records leave free pages, which later records reuse; the file itself does not shrink.

Only one thread at a time may write (``execute``); other threads read through ``reader``, each on a connection of its own.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tufline.bus import Message, Position, Record, Then
from tufline.bus.embedded.log_reader import LogReader
from tufline.bus.embedded.rows import decode_key, encode_headers, encode_key
from tufline.bus.embedded.schema import Partition, Place, connect, load_partitions, lock
from tufline.bus.headers import check_message, make_headers, pairs_of
from tufline.bus.topic import Cleanup, Topic
from tufline.clock import Clock, in_milliseconds, milliseconds_of, moment_of
from tufline.errors import BusError, ConfigError, FencedError, PushbackError
from tufline.reference_clock import SteadyClock

MAINTENANCE_RECORDS: Final = 200
MAINTENANCE_BYTES: Final = 8_000_000
"""How many records, and about how many bytes of values, one step of maintenance deletes. A commit waits for at most one step."""

DISK_FULL_RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Append:
    """The operation that appends messages. If a writer is set, it fails unless that is still the newest writer of its id.

    Attributes:
        messages: appended in this order.
        then: see ``Writer.commit``.
        writer: id and epoch; None outside a transaction.
    """

    messages: Sequence[Message]
    then: Then | None = None
    writer: tuple[str, int] | None = None


Operation = Append | Callable[[], int]
"""A write operation: an append, or a function that writes and returns a number."""

Result = list[Record] | int | BaseException
"""The result of an operation: the records that it appended, the number that it returned, or its error."""


@dataclass(frozen=True, slots=True)
class _Staged:
    """Changes of a batch to the state in memory, applied once the batch is committed.

    Attributes:
        moved: each changed partition, with its next offset and last time.
        newest: the number of a partition and a key, with the id of the newest record.
        writers: each changed writer id, with its epoch.
    """

    moved: dict[Place, tuple[int, int]] = field(default_factory=dict)
    newest: dict[tuple[int, str], int] = field(default_factory=dict)
    writers: dict[str, int] = field(default_factory=dict)


class Log:
    """A log in a file that only this process has open for writing."""

    def __init__(self, path: Path, topics: Mapping[str, Topic], clock: Clock, monotonic: Callable[[], float] | None = None) -> None:
        """Open a log, or create a new one.

        Args:
            path: the SQLite file; its directory is created.
            topics: all topics of the log, by name.
            clock: the source of the records' times.
            monotonic: see ``open_embedded``.

        Raises:
            BusBusyError: if another process has it open.
            ConfigError: if the log has another number of partitions, the file is not a log, or the path can't hold one.
        """
        self.path = path
        self._clock = clock
        self._lock = lock(path)
        try:
            self._db = connect(path)
            try:
                self.log_id: str = self._db.execute("SELECT value FROM facts WHERE name = 'log_id'").fetchone()[0]
                self._partitions = load_partitions(self._db, path, topics)
                self._writers: dict[str, int] = dict(self._db.execute("SELECT id, epoch FROM writers"))
                newest = self._db.execute("SELECT number, key, id FROM newest")
                self._newest: dict[tuple[int, str], int] = {(number, decode_key(key)): row for number, key, row in newest}
            except BaseException:
                self._db.close()
                raise
        except BaseException as error:
            self._lock.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise ConfigError(f"{path} can't be opened as a log of Tufline ({error}): choose another file in bus.url") from error
            raise
        if monotonic is not None:
            last = max((part.last_time for part in self._partitions.values()), default=0)
            self._clock = SteadyClock(clock, monotonic, moment_of(last))
        self.reader = LogReader(path, self._partitions)
        """Reads the log."""
        self._staged = _Staged()

    def close(self) -> None:
        """Close the file and release its lock."""
        self._db.close()
        self._lock.close()

    @property
    def ends(self) -> dict[Place, int]:
        """The next offset of every partition."""
        return {place: part.next_offset for place, part in self._partitions.items()}

    def execute(self, operations: Sequence[Operation]) -> Sequence[Result]:
        """Execute operations in order, in one durable commit.

        Args:
            operations: writes that may come from different callers.

        Returns:
            The result of each operation. An operation that fails writes nothing; if the disk fails, all fail and nothing is written.
        """
        self._staged = staged = _Staged()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = [self._execute_one(operation) for operation in operations]
            moved = [(*after, self._partitions[place].number) for place, after in staged.moved.items()]
            self._db.executemany("UPDATE partitions SET next_offset = ?, last_time = ? WHERE number = ?", moved)
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 (as an executor does)
            self._roll_back()
            return [_as_bus_error(error, self.path) for _ in operations]
        for place, (next_offset, last_time) in staged.moved.items():
            self._partitions[place].next_offset, self._partitions[place].last_time = next_offset, last_time
        self._newest |= staged.newest
        self._writers |= staged.writers
        return results

    def _roll_back(self) -> None:
        # SQLite rolls back by itself after some errors. If this fails too, the next BEGIN raises the reason.
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            return

    def _execute_one(self, operation: Operation) -> Result:
        if not isinstance(operation, Append):
            return operation()
        if operation.writer is not None and self._epoch(operation.writer[0]) != operation.writer[1]:
            return FencedError(f"another writer of {operation.writer[0]!r} has taken over")
        moved: dict[Place, tuple[int, int]] = {}
        try:
            appended = self._plan(operation.messages, moved)
            if operation.then is not None:
                positions = [Position(record.topic, record.partition, record.offset, record.time) for record in appended]
                appended += self._plan(operation.then(positions), moved)
        except Exception as error:  # noqa: BLE001 (as an executor does)
            return error
        self._insert(appended)
        self._staged.moved.update(moved)
        return appended

    def _plan(self, messages: Sequence[Message], moved: dict[Place, tuple[int, int]]) -> list[Record]:
        now = self._now()
        planned: list[Record] = []
        for message in messages:
            place = message.topic, message.partition
            part = self._partitions[place]
            check_message(part.topic, message.partition, message.key, message.headers)
            offset, last_time = moved.get(place) or self._staged.moved.get(place) or (part.next_offset, part.last_time)
            time = max(now, last_time)
            moved[place] = offset + 1, time
            planned.append(Record(*place, offset, time, message.key, message.value, make_headers(pairs_of(message.headers))))
        return planned

    def _insert(self, appended: Sequence[Record]) -> None:
        rows: list[tuple[int, int, str | bytes, str | None, bytes]] = []
        newest: dict[tuple[int, str], int] = {}
        superseded: list[tuple[int, int]] = []
        for record in appended:
            part = self._partitions[record.topic, record.partition]
            row = part.first_id | record.offset
            rows.append((row, record.time, encode_key(record.key), encode_headers(record.headers), record.value))
            if part.topic.cleanup is Cleanup.COMPACT:
                known = part.number, record.key
                old = newest.get(known) or self._staged.newest.get(known) or self._newest.get(known)
                if old is not None:
                    superseded.append((record.time + in_milliseconds(part.topic.seconds), old))
                newest[known] = row
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        keys = [(number, encode_key(key), row) for (number, key), row in newest.items()]
        self._db.executemany("INSERT OR REPLACE INTO newest VALUES (?, ?, ?)", keys)
        self._db.executemany("INSERT INTO superseded VALUES (?, ?)", superseded)
        self._staged.newest.update(newest)

    def _epoch(self, writer_id: str) -> int:
        return self._staged.writers.get(writer_id) or self._writers.get(writer_id, 0)

    def _now(self) -> int:
        return milliseconds_of(self._clock())

    def new_epoch(self, writer_id: str) -> int:
        """Fence all writers of an id. Run it as an operation of ``execute``.

        Args:
            writer_id: such as ``bins.3``.

        Returns:
            The new writer's epoch.
        """
        epoch = self._epoch(writer_id) + 1
        self._db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?)", (writer_id, epoch))
        self._staged.writers[writer_id] = epoch
        return epoch

    def trim(self, place: Place, offset: int) -> int:
        """Allow deletion of all records below an offset. Run it as an operation of ``execute``.

        Args:
            place: topic and partition; has no effect on a compacted topic.
            offset: the lowest offset to keep.

        Returns:
            Always 0.
        """
        part = self._partitions[place]
        part.trimmed = max(part.trimmed, min(offset, part.next_offset))
        self._db.execute("UPDATE partitions SET trimmed = ? WHERE number = ?", (part.trimmed, part.number))
        return 0

    def maintain(self) -> int:
        """Delete some of the records that may be deleted. Run it as an operation of ``execute``.

        Returns:
            How many records were deleted; 0 if no more can be deleted now.
        """
        now = self._now()
        query = "SELECT due, id, length(value) FROM superseded JOIN records USING (id) WHERE due < ? ORDER BY due LIMIT ?"
        due = _one_step(self._db.execute(query, (now, MAINTENANCE_RECORDS)))
        self._db.executemany("DELETE FROM superseded WHERE due = ? AND id = ?", [row[:2] for row in due])
        if due:
            return self._drop(due)
        query = "SELECT 0, id, length(value) FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        for part in self._partitions.values():
            if below := self._deletable_below(part, now):
                old = _one_step(self._db.execute(query, (part.first_id, part.first_id | below, MAINTENANCE_RECORDS)))
                if old:
                    return self._drop(old)
        return 0

    def _drop(self, rows: Sequence[tuple[int, int, int]]) -> int:
        self._db.executemany("DELETE FROM records WHERE id = ?", [(row,) for _, row, _ in rows])
        return len(rows)

    def _deletable_below(self, part: Partition, now: int) -> int:
        match part.topic.cleanup:
            case Cleanup.COMPACT:
                return 0
            case Cleanup.KEEP:
                return part.trimmed
            case Cleanup.DELETE:
                place = part.topic.name, part.partition
                return max(
                    part.trimmed, self.reader.offset_at(self._db, place, now - in_milliseconds(part.topic.seconds), part.next_offset)
                )


def _one_step(rows: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    # Rows are (when, id, size).
    taken: list[tuple[int, int, int]] = []
    size = 0
    for row in rows:
        size += row[2]
        if taken and size > MAINTENANCE_BYTES:
            break
        taken.append(row)
    return taken


def _as_bus_error(error: Exception, path: Path) -> BusError:
    failure: BusError
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        message = f"the disk of the log {path} is full: free some space; no accepted record is lost, and writing resumes by itself"
        failure = PushbackError(message, DISK_FULL_RETRY_SECONDS)
    else:
        failure = BusError(f"can't write to the log {path}: {error}")
    failure.__cause__ = error
    return failure
