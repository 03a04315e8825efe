"""The log in a SQLite file: the synchronous half of the embedded bus.

One table holds the records; its integer key is made of the partition's number and the offset, so that a partition is one contiguous range
and the newest records are appended at its end. WAL mode with ``synchronous=FULL``: a batch is on the disk when ``execute`` returns, and
readers on their own connections see whole batches only.

Space: deleted records leave free pages, which later records use again; the file itself does not shrink.

One thread at a time may write (``execute``). ``open_reader`` gives a connection for reading in another thread.
"""

import fcntl
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tufline.bus import Message, Position, Record, Then
from tufline.clock import Clock
from tufline.errors import BusBusyError, BusError, ConfigError, FencedError, PushbackError, RecordGoneError
from tufline.topics import Cleanup, Topic

SCHEMA_VERSION: Final = 1
OFFSET_BITS: Final = 40
"""Bits of a record's key that are its offset: a trillion records a partition."""

MAINTENANCE_RECORDS: Final = 500
"""How many records one step of maintenance deletes: commits wait for no more than that."""

BUSY_TIMEOUT_SECONDS: Final = 5.0

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    number INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL, last_time INTEGER NOT NULL, trimmed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE records (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, value BLOB NOT NULL);
CREATE TABLE newest (number INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (number, key))
    WITHOUT ROWID;
CREATE TABLE superseded (due INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due, id)) WITHOUT ROWID;
CREATE TABLE writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
"""

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(slots=True)
class _Partition:
    number: int
    topic: Topic
    partition: int
    next_offset: int
    last_time: int
    trimmed: int

    @property
    def first_id(self) -> int:
        return self.number << OFFSET_BITS


@dataclass(frozen=True, slots=True)
class Append:
    """Append messages: of anybody, or of a writer as long as it is the last one of its id.

    Attributes:
        messages: in this order.
        then: see ``Writer.commit``.
        writer: id and epoch; None outside a transaction.
    """

    messages: Sequence[Message]
    then: Then | None = None
    writer: tuple[str, int] | None = None


Operation = Append | Callable[[], int]
"""What can be executed: appending, or anything else that writes."""


class Log:
    """A log in a file, open for writing by this process alone."""

    def __init__(self, path: Path, topics: Mapping[str, Topic], clock: Clock) -> None:
        """Open a log, or make a new one.

        Args:
            path: of the SQLite file; its directory is made.
            topics: all that the log has.
            clock: gives the records' times.

        Raises:
            BusBusyError: if another process has it open.
            ConfigError: if the log has other partitions, or is none.
        """
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(path.name + ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise BusBusyError(f"the log {path} is open in another process: stop that one, or choose another file in bus.url") from None
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
            self.log_id: str = self._db.execute("SELECT value FROM facts WHERE name = 'log_id'").fetchone()[0]
            self._partitions = self._load_partitions(topics)
        except sqlite3.DatabaseError as error:
            self.close()
            raise ConfigError(f"{path} can't be opened as a log of Tufline: {error}") from error
        except BaseException:
            self.close()
            raise
        self._writers: dict[str, int] = dict(self._db.execute("SELECT id, epoch FROM writers"))
        self._newest: dict[tuple[int, str], tuple[int, int]] = {
            (number, key): (record, time) for number, key, record, time in self._db.execute("SELECT number, key, id, time FROM newest")
        }

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ConfigError(f"the log {self.path} was written by a newer Tufline: upgrade this one")
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        self._db.execute("INSERT OR IGNORE INTO facts VALUES ('log_id', ?)", (secrets.token_hex(8),))

    def _load_partitions(self, topics: Mapping[str, Topic]) -> dict[Place, _Partition]:
        found: dict[Place, _Partition] = {}
        for number, name, partition, next_offset, last_time, trimmed in self._db.execute("SELECT * FROM partitions"):
            if name in topics:
                found[name, partition] = _Partition(number, topics[name], partition, next_offset, last_time, trimmed)
        numbers = {part.number for part in found.values()}
        for topic in topics.values():
            existing = sum(1 for name, _ in found if name == topic.name)
            if existing not in {0, topic.partitions}:
                raise ConfigError(
                    f"the log {self.path} has {existing} partitions of {topic.name}, and bus.partitions asks for {topic.partitions}: "
                    "the number is fixed when the log is made"
                )
            for partition in range(existing, topic.partitions):
                number = max(numbers, default=0) + 1
                numbers.add(number)
                self._db.execute(
                    "INSERT INTO partitions (number, topic, partition, next_offset, last_time) VALUES (?, ?, ?, 0, 0)",
                    (number, topic.name, partition),
                )
                found[topic.name, partition] = _Partition(number, topic, partition, 0, 0, 0)
        return found

    def close(self) -> None:
        """Close the file and let other processes have it."""
        if hasattr(self, "_db"):
            self._db.close()
        self._lock.close()

    @property
    def places(self) -> dict[Place, int]:
        """All partitions, and the next offset of each."""
        return {place: part.next_offset for place, part in self._partitions.items()}

    def open_reader(self) -> sqlite3.Connection:
        """Open a connection for reading.

        Returns:
            The connection; close it.
        """
        return sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)

    def execute(self, operations: Sequence[Operation]) -> list[Sequence[Record] | int | BaseException]:
        """Execute operations in order, in one durable commit.

        Args:
            operations: what to execute.

        Returns:
            For each operation the records that it appended, the number it gave, or the error that it had; an error leaves nothing behind.
        """
        before = {place: (part.next_offset, part.last_time) for place, part in self._partitions.items()}
        newest_before: dict[tuple[int, str], tuple[int, int] | None] = {}
        writers_before = dict(self._writers)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = [self._execute_one(operation, newest_before) for operation in operations]
            changed = [
                (part.next_offset, part.last_time, part.number)
                for place, part in self._partitions.items()
                if before[place][0] != part.next_offset
            ]
            self._db.executemany("UPDATE partitions SET next_offset = ?, last_time = ? WHERE number = ?", changed)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._writers = writers_before
            for place, (next_offset, last_time) in before.items():
                self._partitions[place].next_offset, self._partitions[place].last_time = next_offset, last_time
            for known, value in newest_before.items():
                if value is None:
                    self._newest.pop(known, None)
                else:
                    self._newest[known] = value
            failure = _as_bus_error(error, self.path)
            return [failure for _ in operations]
        return results

    def _execute_one(
        self, operation: Operation, newest_before: dict[tuple[int, str], tuple[int, int] | None]
    ) -> Sequence[Record] | int | BaseException:
        if not isinstance(operation, Append):
            return operation()
        if operation.writer is not None and self._writers.get(operation.writer[0]) != operation.writer[1]:
            return FencedError(f"another writer {operation.writer[0]!r} has taken over")
        now = int(self._clock().timestamp() * 1000)
        planned = dict[Place, int]()
        try:
            appended = [self._plan(message, now, planned) for message in operation.messages]
            if operation.then is not None:
                positions = [Position(record.topic, record.partition, record.offset, record.time) for record in appended]
                appended += [self._plan(message, now, planned) for message in operation.then(positions)]
        except Exception as error:  # noqa: BLE001 (what the caller's function raises is for the caller alone; nothing is written yet)
            return error
        self._insert(appended, newest_before)
        return appended

    def _plan(self, message: Message, now: int, planned: dict[Place, int]) -> Record:
        place = message.topic, message.partition
        part = self._partitions[place]
        offset = planned.get(place, part.next_offset)
        planned[place] = offset + 1
        time = max(now, part.last_time)
        return Record(message.topic, message.partition, offset, time, message.key, message.value, message.headers)

    def _insert(self, appended: Sequence[Record], newest_before: dict[tuple[int, str], tuple[int, int] | None]) -> None:
        rows, newest, superseded = [], {}, []
        for record in appended:
            part = self._partitions[record.topic, record.partition]
            row = part.first_id | record.offset
            headers = json.dumps(dict(record.headers)) if record.headers else None
            rows.append((row, record.time, record.key, headers, record.value))
            part.next_offset, part.last_time = record.offset + 1, record.time
            if part.topic.cleanup is Cleanup.COMPACT:
                known = part.number, record.key
                old = self._newest.get(known)
                newest_before.setdefault(known, old)
                if old is not None:
                    superseded.append((old[1] + int(part.topic.seconds * 1000), old[0]))
                self._newest[known] = newest[known] = row, record.time
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        if newest:
            self._db.executemany("INSERT OR REPLACE INTO newest VALUES (?, ?, ?, ?)", [(*known, *value) for known, value in newest.items()])
            self._db.executemany("INSERT INTO superseded VALUES (?, ?)", superseded)

    def new_epoch(self, writer_id: str) -> int:
        """Fence all writers of an id; to be executed as an operation.

        Args:
            writer_id: such as ``bins.3``.

        Returns:
            The new writer's epoch.
        """
        epoch = self._writers.get(writer_id, 0) + 1
        self._db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?)", (writer_id, epoch))
        self._writers[writer_id] = epoch
        return epoch

    def trim(self, place: Place, offset: int) -> int:
        """Allow dropping what is below an offset; to be executed as an operation.

        Args:
            place: the partition; a compacted one keeps to its compaction.
            offset: the first one to keep.

        Returns:
            0.
        """
        part = self._partitions[place]
        part.trimmed = max(part.trimmed, min(offset, part.next_offset))
        self._db.execute("UPDATE partitions SET trimmed = ? WHERE number = ?", (part.trimmed, part.number))
        return 0

    def maintain(self) -> int:
        """Drop some of what may go; to be executed as an operation.

        Returns:
            How many records were dropped; 0 when there are no more to drop now.
        """
        now = int(self._clock().timestamp() * 1000)
        due = self._db.execute("SELECT due, id FROM superseded WHERE due < ? LIMIT ?", (now, MAINTENANCE_RECORDS)).fetchall()
        self._db.executemany("DELETE FROM records WHERE id = ?", [(row,) for _, row in due])
        self._db.executemany("DELETE FROM superseded WHERE due = ? AND id = ?", due)
        dropped = len(due)
        for part in self._partitions.values():
            below = part.trimmed
            if part.topic.cleanup is Cleanup.DELETE:
                below = max(below, self.offset_at(self._db, (part.topic.name, part.partition), now - int(part.topic.seconds * 1000)))
            if below and part.topic.cleanup is not Cleanup.COMPACT:
                rows = "SELECT id FROM records WHERE id >= ? AND id < ? LIMIT ?"
                limits = part.first_id, part.first_id | below, MAINTENANCE_RECORDS
                dropped += self._db.execute(f"DELETE FROM records WHERE id IN ({rows})", limits).rowcount  # noqa: S608 (no input in it)
        return dropped

    def fetch(self, db: sqlite3.Connection, place: Place, offset: int, max_bytes: int) -> list[Record]:
        """Read records.

        Args:
            db: from ``open_reader``.
            place: the partition.
            offset: the lowest of interest.
            max_bytes: about how much to read.

        Returns:
            The next records, at least one if there is one.
        """
        first = self._partitions[place].first_id
        query = "SELECT id, time, key, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id"
        found: list[Record] = []
        size = 0
        for row, time, key, headers, value in db.execute(query, (first | offset, first + (1 << OFFSET_BITS))):
            size += len(value)
            if found and size > max_bytes:
                break
            found.append(Record(*place, row - first, time, key, value, json.loads(headers) if headers else {}))
        return found

    def read(self, db: sqlite3.Connection, place: Place, offset: int, key: str, sha256: str) -> bytes:
        """Read one record; see ``Bus.read``."""
        row = self._partitions[place].first_id | offset
        found = db.execute("SELECT key, value FROM records WHERE id = ?", (row,)).fetchone()
        if found is None or found[0] != key or hashlib.sha256(found[1]).hexdigest() != sha256:
            raise RecordGoneError(f"the record at {place[0]}/{place[1]} offset {offset} is not {key} with sha256 {sha256[:12]}… (any more)")
        value: bytes = found[1]
        return value

    def offset_at(self, db: sqlite3.Connection, place: Place, time: int) -> int:
        """Find where a time begins; see ``Bus.offset_at``."""
        part = self._partitions[place]
        low, high = 0, part.next_offset
        query = "SELECT id, time FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            found = db.execute(query, (part.first_id | middle, part.first_id | high)).fetchone()
            if found is None or found[1] >= time:
                high = middle
            else:
                low = found[0] - part.first_id + 1
        return low


def _as_bus_error(error: sqlite3.Error, path: Path) -> BusError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return PushbackError(f"the disk of the log {path} is full: make room; nothing is lost, and it goes on by itself", retry_after=5.0)
    return BusError(f"the log {path} can't be written: {error}")
