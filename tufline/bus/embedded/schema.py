"""The file of the embedded log: its lock, its tables, its partitions.

One table holds the records. Its integer key combines the partition's number and the offset, so that each partition is one contiguous range
in the order of its offsets. ``newest`` and ``superseded`` list the records that compaction may delete, and when, so that it never has to
search for them.

In: a path and the topics. Out: a connection that writes durably, and the partitions; or a ``ConfigError`` that says what to do.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tufline.bus.topic import Topic
from tufline.errors import BusBusyError, ConfigError

SCHEMA_VERSION: Final = 2
OFFSET_BITS: Final = 40
"""How many bits of a record's key are its offset: enough for a trillion records per partition."""

BUSY_TIMEOUT_SECONDS: Final = 5.0
"""How long to wait for another program's lock on the file, such as a backup's or a shell's."""

CHECKPOINT_PAGES: Final = 4_000
"""SQLite copies the WAL to the file when it has this many pages of 4 KiB. A lower number would copy at almost every commit of large
records."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    number INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0, last_time INTEGER NOT NULL DEFAULT 0, trimmed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE records (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, value BLOB NOT NULL);
CREATE TABLE newest (number INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (number, key)) WITHOUT ROWID;
CREATE TABLE superseded (due INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due, id)) WITHOUT ROWID;
CREATE TABLE writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
"""

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(slots=True)
class Partition:
    """A partition as of the last commit.

    Attributes:
        number: identifies the partition in this file.
        topic: the topic that it belongs to.
        partition: from 0.
        next_offset: the offset of the next record.
        last_time: the time of the newest record, in milliseconds since 1970; no later record has a lower one.
        trimmed: records below this offset may be deleted.
    """

    number: int
    topic: Topic
    partition: int
    next_offset: int = 0
    last_time: int = 0
    trimmed: int = 0

    @property
    def first_id(self) -> int:
        """The key of the record at offset 0."""
        return self.number << OFFSET_BITS


def lock(path: Path) -> IO[str]:
    """Lock a log for this process, and create its directory.

    Args:
        path: the log's file.

    Returns:
        The lock file; closing it releases the lock, as does the death of the process.

    Raises:
        BusBusyError: if another process has the log open.
        ConfigError: if the path can't hold a log.
    """
    try:
        _make_directory(path.parent)
        held = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"the log can't be created at {path} ({error}): choose another path in bus.url") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise BusBusyError(f"the log {path} is open in another process: stop that process, or choose another file in bus.url") from None
    except OSError as error:
        held.close()
        raise ConfigError(f"the log {path} can't be locked ({error}): choose a path on a local disk in bus.url") from error
    return held


def _make_directory(directory: Path) -> None:
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        # Otherwise a loss of power could remove the directory, and with it all acknowledged records.
        descriptor = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for writing, and create the tables if there are none.

    Args:
        path: the file, locked by ``lock``.

    Returns:
        A connection in autocommit mode whose commits are durable.

    Raises:
        ConfigError: if it is not a log that this version of Tufline can use.
        sqlite3.DatabaseError: if it is not a SQLite file, or can't be opened.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != SCHEMA_VERSION and tables:
            raise ConfigError(
                f"{path} is not a log that this version of Tufline can use (schema {version}, not {SCHEMA_VERSION}): run the version that "
                "created it, or choose another file in bus.url"
            )
        if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise ConfigError(f"the disk of the log {path} does not support SQLite's WAL mode: choose a path on a local disk in bus.url")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not tables:
            # In one transaction with the version: a half-created file could never be opened again.
            db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION};")
            db.execute("INSERT INTO facts VALUES ('log_id', ?)", (secrets.token_hex(8),))
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def load_partitions(db: sqlite3.Connection, path: Path, topics: Mapping[str, Topic]) -> dict[Place, Partition]:
    """Read the partitions, and create those of topics that the log does not have yet.

    Args:
        db: from ``connect``.
        path: the file, for error messages.
        topics: all topics that the log must have, by name.

    Returns:
        The partitions of these topics.

    Raises:
        ConfigError: if the log has another number of partitions of a topic.
    """
    rows = db.execute("SELECT number, topic, partition, next_offset, last_time, trimmed FROM partitions").fetchall()
    found = {(row[1], row[2]): Partition(row[0], topics[row[1]], *row[2:]) for row in rows if row[1] in topics}
    number = max((row[0] for row in rows), default=0)
    made: list[Partition] = []
    for topic in topics.values():
        existing = sum(1 for name, _ in found if name == topic.name)
        if existing not in {0, topic.partitions}:
            raise ConfigError(
                f"the log {path} has {existing} partitions of {topic.name}, but bus.partitions asks for {topic.partitions}, and the number "
                f"can't change once the log exists: set it to {existing}, or choose another file in bus.url"
            )
        if not existing:
            made += [Partition(number + 1 + partition, topic, partition) for partition in range(topic.partitions)]
            number += topic.partitions
    # In one transaction: a log with only some partitions of a topic could never be opened again.
    db.execute("BEGIN IMMEDIATE")
    try:
        inserted = [(part.number, part.topic.name, part.partition) for part in made]
        db.executemany("INSERT INTO partitions (number, topic, partition) VALUES (?, ?, ?)", inserted)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return found | {(part.topic.name, part.partition): part for part in made}
