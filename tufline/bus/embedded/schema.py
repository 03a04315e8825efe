"""The file of the embedded log: its lock, its tables, its partitions.

One table holds the records; its integer key is made of the partition's number and the offset, so that a partition is one contiguous range
and the newest records of a partition are next to each other. ``newest`` and ``superseded`` say what compaction may drop and when, so that
it never searches.

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
"""Bits of a record's key that are its offset: a trillion records a partition."""

BUSY_TIMEOUT_SECONDS: Final = 5.0
"""How long another program's lock on the file (a backup, a shell) is waited for."""

CHECKPOINT_PAGES: Final = 4_000
"""The WAL is copied to the file when it has this many pages of 4 KiB: fewer, and commits of large records copy all the time."""

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
        number: of the partition in this file.
        topic: that it is of.
        partition: from 0.
        next_offset: what the next record gets.
        last_time: of the newest record; the next one's is not less.
        trimmed: what is below may go.
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
    """Make sure that no other process has a log, and make its directory.

    Args:
        path: of the log.

    Returns:
        A file; closing it gives the log free, as does the death of the process.

    Raises:
        BusBusyError: if another process has the log.
        ConfigError: if there can be no log at this place.
    """
    try:
        _make_directory(path.parent)
        held = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"the log can't be at {path}: {error}; choose another place in bus.url") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise BusBusyError(f"the log {path} is open in another process: stop that one, or choose another file in bus.url") from None
    except OSError as error:
        held.close()
        raise ConfigError(f"the log {path} can't be locked: {error}; choose a place on a local disk in bus.url") from error
    return held


def _make_directory(directory: Path) -> None:
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        # Else a loss of power could take the directory, with all that was acknowledged in it.
        descriptor = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for writing, and make the tables if there are none.

    Args:
        path: of the file, locked.

    Returns:
        A connection in autocommit mode whose commits are durable.

    Raises:
        ConfigError: if it is not a log that this Tufline can use.
        sqlite3.DatabaseError: if it is no SQLite file, or can't be opened.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != SCHEMA_VERSION and tables:
            raise ConfigError(
                f"{path} is no log of this Tufline (form {version}, not {SCHEMA_VERSION}): use the Tufline that made it, or choose another "
                "file in bus.url"
            )
        if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise ConfigError(f"the log {path} needs a disk that several connections can share: choose a place on a local disk in bus.url")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not tables:
            # In one transaction with its version: half made, it would be refused for ever.
            db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION};")
            db.execute("INSERT INTO facts VALUES ('log_id', ?)", (secrets.token_hex(8),))
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def load_partitions(db: sqlite3.Connection, path: Path, topics: Mapping[str, Topic]) -> dict[Place, Partition]:
    """Read the partitions, and make those of topics that the log does not have yet.

    Args:
        db: from ``connect``.
        path: of the file, for messages.
        topics: all that the log is to have.

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
                f"the log {path} has {existing} partitions of {topic.name}, and bus.partitions asks for {topic.partitions}: the number is "
                "fixed when the log is made; set it as it was, or choose another file in bus.url"
            )
        if not existing:
            made += [Partition(number + 1 + partition, topic, partition) for partition in range(topic.partitions)]
            number += topic.partitions
    # In one transaction: a topic with some of its partitions would be refused for ever.
    db.execute("BEGIN IMMEDIATE")
    try:
        inserted = [(part.number, part.topic.name, part.partition) for part in made]
        db.executemany("INSERT INTO partitions (number, topic, partition) VALUES (?, ?, ?)", inserted)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return found | {(part.topic.name, part.partition): part for part in made}
