"""The log in a SQLite file: the synchronous half of the embedded bus.

WAL mode with ``synchronous=FULL``: a batch is on the disk when ``execute`` returns, and readers on their own connections see only whole
batches. The state in memory (next offsets, the newest record of each key, epochs) changes only once the batch is committed.

Space: deleted records leave free pages, which later records reuse; the file itself does not shrink.

Only one thread at a time may write (``execute``). ``open_reader`` returns a connection for reading in another thread.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tufline.bus import Message, Position, Record, Then
from tufline.bus.embedded.schema import BUSY_TIMEOUT_SECONDS, Partition, Place, connect, load_partitions, lock
from tufline.bus.headers import ESCAPE, Headers, check_message, make_headers, pairs_of
from tufline.bus.topic import Cleanup, Topic
from tufline.clock import Clock, in_milliseconds, milliseconds_of, moment_of
from tufline.errors import BusError, ConfigError, FencedError, PushbackError, RecordGoneError, RecordUnreadableError
from tufline.reference_clock import SteadyClock

MAINTENANCE_RECORDS: Final = 200
MAINTENANCE_BYTES: Final = 8_000_000
"""How many records, and about how many bytes of values, one step of maintenance deletes. A commit waits for at most one step."""

DISK_FULL_RETRY_SECONDS: Final = 5.0

UNDECODABLE: Final = (ValueError, TypeError, RecursionError)
"""The exceptions that decoding a row may raise if its bytes were not written by Tufline."""


@dataclass(frozen=True, slots=True)
class Append:
    """Append messages; with a writer, only if it is still the newest one of its id.

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
        moved: partition to its next offset and last time.
        newest: number of a partition and key to the id of the newest record.
        writers: id to epoch.
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
                self._newest: dict[tuple[int, str], int] = {(number, _key(key)): row for number, key, row in newest}
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
        self._staged = _Staged()

    def close(self) -> None:
        """Close the file and release its lock."""
        self._db.close()
        self._lock.close()

    @property
    def ends(self) -> dict[Place, int]:
        """The next offset of every partition."""
        return {place: part.next_offset for place, part in self._partitions.items()}

    def open_reader(self) -> sqlite3.Connection:
        """Open a connection for reading. It returns text as bytes, so that invalid UTF-8 fails one record and not the whole query.

        Returns:
            The connection; close it.
        """
        uri = self.path.absolute().as_uri() + "?mode=ro"
        db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
        db.text_factory = bytes
        return db

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
            rows.append((row, record.time, _stored(record.key), _headers_stored(record.headers), record.value))
            if part.topic.cleanup is Cleanup.COMPACT:
                known = part.number, record.key
                old = newest.get(known) or self._staged.newest.get(known) or self._newest.get(known)
                if old is not None:
                    superseded.append((record.time + in_milliseconds(part.topic.seconds), old))
                newest[known] = row
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        keys = [(number, _stored(key), row) for (number, key), row in newest.items()]
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
            offset: the lowest to keep.

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
            if below := self._goes_below(part, now):
                old = _one_step(self._db.execute(query, (part.first_id, part.first_id | below, MAINTENANCE_RECORDS)))
                if old:
                    return self._drop(old)
        return 0

    def _drop(self, rows: Sequence[tuple[int, int, int]]) -> int:
        self._db.executemany("DELETE FROM records WHERE id = ?", [(row,) for _, row, _ in rows])
        return len(rows)

    def _goes_below(self, part: Partition, now: int) -> int:
        match part.topic.cleanup:
            case Cleanup.COMPACT:
                return 0
            case Cleanup.KEEP:
                return part.trimmed
            case Cleanup.DELETE:
                place = part.topic.name, part.partition
                return max(part.trimmed, self.offset_at(self._db, place, now - in_milliseconds(part.topic.seconds), part.next_offset))

    def fetch(self, db: sqlite3.Connection, place: Place, offset: int, end: int, max_bytes: int) -> list[Record]:
        """Read records.

        Args:
            db: from ``open_reader``.
            place: topic and partition.
            offset: the lowest to read.
            end: the offset to stop at (exclusive).
            max_bytes: about how many bytes of values to read.

        Returns:
            The next records, at least one if any exists in the range.

        Raises:
            RecordUnreadableError: if the first record can't be decoded.
        """
        first = self._partitions[place].first_id
        query = "SELECT id, time, key, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id"
        found: list[Record] = []
        size = 0
        for row, time, key, headers, value in db.execute(query, (first | offset, first | end)):
            try:
                record = Record(*place, row - first, time, _key(key), _bytes(value), _headers(headers))
            except UNDECODABLE as error:
                if found:
                    break
                raise RecordUnreadableError(*place, row - first, f"{type(error).__name__}: {error}") from error
            size += len(value)
            if found and size > max_bytes:
                break
            found.append(record)
        return found

    def read(
        self, db: sqlite3.Connection, place: Place, offset: int, key: str, sha256: str
    ) -> bytes | RecordGoneError | RecordUnreadableError:
        """Read one record; see ``Bus.read``. Returns the error instead of raising it, as one of several records read together may fail."""
        row = self._partitions[place].first_id | offset
        found = db.execute("SELECT key, value FROM records WHERE id = ?", (row,)).fetchone()
        try:
            if found is not None and _key(found[0]) == key and hashlib.sha256(value := _bytes(found[1])).hexdigest() == sha256:
                return value
        except UNDECODABLE as error:
            return RecordUnreadableError(*place, offset, f"{type(error).__name__}: {error}")
        return RecordGoneError(
            f"the record {key} with sha256 {sha256[:12]}… is not (or no longer) at offset {offset} of {place[0]}/{place[1]}"
        )

    def start(self, db: sqlite3.Connection, place: Place, end: int) -> int:
        """Find the oldest record.

        Args:
            db: from ``open_reader``.
            place: topic and partition.
            end: the offset to stop at (exclusive).

        Returns:
            Its offset; ``end`` if none exists below it.
        """
        first = self._partitions[place].first_id
        query = "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1"
        row = db.execute(query, (first, first | end)).fetchone()
        return end if row is None else int(row[0]) - first

    def offset_at(self, db: sqlite3.Connection, place: Place, time: int, end: int) -> int:
        """Find the first record at or after a time.

        Args:
            db: from ``open_reader``.
            place: topic and partition.
            time: in milliseconds since 1970.
            end: the offset to stop at (exclusive).

        Returns:
            The offset of the first record of that time or later; ``end`` if there is none.
        """
        first = self._partitions[place].first_id
        query = "SELECT id, time FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1"
        low, high, found = 0, end, end
        while low < high:
            middle = (low + high) // 2
            row = db.execute(query, (first | middle, first | high)).fetchone()
            if row is not None and row[1] < time:
                low = row[0] - first + 1
            else:
                high = middle
                found = found if row is None else row[0] - first
        return found


def _stored(key: str) -> str | bytes:
    # SQLite's text is UTF-8; any other key has to be a blob.
    return key if key.isascii() else _as_text_or_blob(key.encode(errors=ESCAPE))


def _as_text_or_blob(key: bytes) -> str | bytes:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key


def _key(stored: str | bytes) -> str:
    return stored if isinstance(stored, str) else stored.decode(errors=ESCAPE)


def _headers_stored(headers: Mapping[str, str]) -> str | None:
    if not headers:
        return None
    return json.dumps(headers.pairs if isinstance(headers, Headers) else headers)


def _bytes(stored: object) -> bytes:
    # Not an assertion: SQLite accepts a number in a BLOB column if another program puts one there.
    if not isinstance(stored, bytes):
        raise TypeError(f"the value is {type(stored).__name__}, not bytes")
    return stored


def _headers(stored: str | bytes | None) -> Mapping[str, str]:
    if not stored:
        return {}
    found = json.loads(stored)
    pairs = tuple(found.items() if isinstance(found, dict) else map(tuple, found))
    if not all(isinstance(part, str) for name, value in pairs for part in (name, value)):
        raise TypeError("a header is not text")
    return found if isinstance(found, dict) else Headers(pairs)


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
