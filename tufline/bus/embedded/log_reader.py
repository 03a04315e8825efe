"""Reading the log's file: the synchronous part of the embedded bus's readers.

In: a connection, which one thread uses at a time, and what to read. Out: records and offsets of the last commit; a record that can't be
decoded is an error that names it.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from tufline.bus import Record
from tufline.bus.embedded.rows import UNDECODABLE, decode_headers, decode_key, decode_value
from tufline.bus.embedded.schema import BUSY_TIMEOUT_SECONDS, Partition, Place
from tufline.errors import RecordGoneError, RecordUnreadableError


class LogReader:
    """Reads the records of a log."""

    def __init__(self, path: Path, partitions: Mapping[Place, Partition]) -> None:
        """Read a log.

        Args:
            path: the log's file.
            partitions: its partitions.
        """
        self._path = path
        self._partitions = partitions

    def connect(self) -> sqlite3.Connection:
        """Open a connection for reading. It returns text as bytes, so that invalid UTF-8 fails one record and not the whole query.

        Returns:
            The connection; close it.
        """
        uri = self._path.absolute().as_uri() + "?mode=ro"
        db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
        db.text_factory = bytes
        return db

    def fetch(self, db: sqlite3.Connection, place: Place, offset: int, end: int, max_bytes: int) -> list[Record]:
        """Read records.

        Args:
            db: from ``connect``.
            place: topic and partition.
            offset: the lowest offset to read.
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
                record = Record(*place, row - first, time, decode_key(key), decode_value(value), decode_headers(headers))
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
            if found is not None and decode_key(found[0]) == key and hashlib.sha256(value := decode_value(found[1])).hexdigest() == sha256:
                return value
        except UNDECODABLE as error:
            return RecordUnreadableError(*place, offset, f"{type(error).__name__}: {error}")
        return RecordGoneError(
            f"the record {key} with sha256 {sha256[:12]}… is not (or no longer) at offset {offset} of {place[0]}/{place[1]}"
        )

    def start(self, db: sqlite3.Connection, place: Place, end: int) -> int:
        """Find the oldest record.

        Args:
            db: from ``connect``.
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
            db: from ``connect``.
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
