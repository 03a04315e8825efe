"""Reads the artifacts of an import from its source, without those that the server already has.

A directory's files are hashed as they are read; a CSV or NDJSON file contains lengths and hashes. Every item has a mark, which the journal
records once the server has acknowledged the item. So an interrupted import resumes where it stopped, even if files were added or changed
meanwhile. The mark of a file depends on its size and time, so a file that the server has is not read again.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from tufline_cli.commands.journal import Journal, make_mark
from tufline_cli.exit_codes import Exit, Failure

READ_BYTES: Final = 1024 * 1024


class SourceItem(NamedTuple):
    """An artifact to import.

    Attributes:
        mark: identifies the item in the journal.
        line: the item's line in the bulk request.
    """

    mark: bytes
    line: bytes


def describe_file(path: Path, target_path: str) -> dict[str, Any]:
    """Describe a file as an artifact: path, length and hash.

    Args:
        path: path of the file.
        target_path: path of the artifact in the repository.

    Returns:
        The artifact's object for a request.
    """
    length, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            length += len(block)
            digest.update(block)
    return {"path": target_path, "info": {"length": length, "hashes": {"sha256": digest.hexdigest()}}}


def _of_directory(directory: Path, journal: Journal) -> Iterator[SourceItem]:
    for path in sorted(directory.rglob("*")):
        try:
            if not path.is_file():
                continue
            stat, target_path = path.stat(), path.relative_to(directory).as_posix()
            mark = make_mark(target_path, b"%d:%d" % (stat.st_size, stat.st_mtime_ns))
            if not journal.is_journal(path.name, stat) and not journal.skips(mark):
                yield SourceItem(mark, json.dumps(describe_file(path, target_path)).encode())
        except OSError as error:
            hint = "fix the file, and import again: accepted artifacts are skipped"
            raise Failure(f"{path} can't be read: {error.strerror}", hint) from error


@contextmanager
def _csv_rows(path: Path) -> "Iterator[csv.DictReader[str]]":
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark before UTF-8
            yield csv.DictReader(file)
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is not UTF-8: {error.reason}", "save it as UTF-8, or convert it: iconv -f … -t UTF-8", Exit.USAGE) from error
    except csv.Error as error:
        raise Failure(f"{path} is not a valid CSV file: {error}", "its first line must be: path,length,sha256", Exit.USAGE) from error


def _of_csv(path: Path, journal: Journal) -> Iterator[SourceItem]:
    with _csv_rows(path) as rows:
        for row in rows:
            info = {"length": row["length"], "hashes": {"sha256": row["sha256"]}}
            line = json.dumps({"path": row["path"], "info": info}).encode()
            mark = make_mark(row["path"] or "", line)
            if not journal.skips(mark):
                yield SourceItem(mark, line)


class _Named(msgspec.Struct):
    path: str


def _of_lines(path: Path, journal: Journal) -> Iterator[SourceItem]:
    decode = msgspec.json.Decoder(_Named).decode
    with path.open("rb") as file:
        for full_line in file:
            if not full_line.strip():
                continue
            line = full_line.rstrip(b"\r\n")
            try:
                name = decode(line).path
            except (msgspec.MsgspecError, ValueError, RecursionError):
                name = ""  # the server reports what is wrong with the line
            mark = make_mark(name, line)
            if not journal.skips(mark):
                yield SourceItem(mark, line)


_KINDS: Final = MappingProxyType({".csv": _of_csv, ".ndjson": _of_lines, ".jsonl": _of_lines})


def check_source(source: Path) -> None:
    """Check a source, as far as possible before anything is sent.

    Args:
        source: a directory, a ``.csv`` or a ``.ndjson`` (``.jsonl``) file.

    Raises:
        Failure: if the source is none of these, or a ``.csv`` file without the columns.
    """
    if source.is_dir():
        return
    if source.suffix not in _KINDS:
        raise Failure(f"{source} can't be imported", "use a directory, a .csv or a .ndjson file", Exit.USAGE)
    if source.suffix == ".csv":
        with _csv_rows(source) as rows:
            missing = {"path", "length", "sha256"} - set(rows.fieldnames or ())
        if missing:
            columns = " and ".join(sorted(missing))
            raise Failure(f"{source} has no column {columns}", "its first line must be: path,length,sha256", Exit.USAGE)


def items(source: Path, journal: Journal) -> Iterator[SourceItem]:
    """Read the artifacts of a source that the server does not have.

    Args:
        source: a source that ``check_source`` accepted.
        journal: knows the items to skip.

    Returns:
        The items, in the order of the source.

    Raises:
        Failure: while iterating, if an item can't be read.
    """
    return (_of_directory if source.is_dir() else _KINDS[source.suffix])(source, journal)
