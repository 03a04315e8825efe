"""Where an import takes its artifacts from, and what of it the server has already.

A directory's files are hashed as they are read; a CSV or NDJSON file says lengths and hashes itself. Every item has a mark, which the
journal remembers once the server has acknowledged it: an import that was interrupted goes on where it stopped, also when files were added
or changed meanwhile. The mark of a file is made of its size and time, so that one that the server has is not read again.
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


class Item(NamedTuple):
    """An artifact to import.

    Attributes:
        mark: names it in the journal.
        line: of the bulk request.
    """

    mark: bytes
    line: bytes


def describe_file(path: Path, target_path: str) -> dict[str, Any]:
    """Say of a file what its metadata will.

    Args:
        path: of the file.
        target_path: of the artifact.

    Returns:
        An artifact of a request.
    """
    length, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            length += len(block)
            digest.update(block)
    return {"path": target_path, "info": {"length": length, "hashes": {"sha256": digest.hexdigest()}}}


def _of_directory(directory: Path, journal: Journal) -> Iterator[Item]:
    for path in sorted(directory.rglob("*")):
        try:
            if not path.is_file():
                continue
            stat, target_path = path.stat(), path.relative_to(directory).as_posix()
            mark = make_mark(target_path, b"%d:%d" % (stat.st_size, stat.st_mtime_ns))
            if not journal.is_journal(path.name, stat) and not journal.passes(mark):
                yield Item(mark, json.dumps(describe_file(path, target_path)).encode())
        except OSError as error:
            hint = "mend it, and import again: what is accepted is passed over"
            raise Failure(f"{path} can't be read: {error.strerror}", hint) from error


@contextmanager
def _csv_rows(path: Path) -> "Iterator[csv.DictReader[str]]":
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark before UTF-8
            yield csv.DictReader(file)
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is not UTF-8: {error.reason}", "save it as UTF-8, or convert it: iconv -f … -t UTF-8", Exit.USAGE) from error
    except csv.Error as error:
        raise Failure(f"{path} is no CSV file: {error}", "its first line must be: path,length,sha256", Exit.USAGE) from error


def _of_csv(path: Path, journal: Journal) -> Iterator[Item]:
    with _csv_rows(path) as rows:
        for row in rows:
            info = {"length": row["length"], "hashes": {"sha256": row["sha256"]}}
            line = json.dumps({"path": row["path"], "info": info}).encode()
            mark = make_mark(row["path"] or "", line)
            if not journal.passes(mark):
                yield Item(mark, line)


class _Named(msgspec.Struct):
    path: str


def _of_lines(path: Path, journal: Journal) -> Iterator[Item]:
    decode = msgspec.json.Decoder(_Named).decode
    with path.open("rb") as file:
        for full_line in file:
            if not full_line.strip():
                continue
            line = full_line.rstrip(b"\r\n")
            try:
                name = decode(line).path
            except (msgspec.MsgspecError, ValueError, RecursionError):
                name = ""  # the server says what is wrong with it
            mark = make_mark(name, line)
            if not journal.passes(mark):
                yield Item(mark, line)


_KINDS: Final = MappingProxyType({".csv": _of_csv, ".ndjson": _of_lines, ".jsonl": _of_lines})


def check_source(source: Path) -> None:
    """Check what can be checked of a source before anything is sent.

    Args:
        source: a directory, a ``.csv`` or a ``.ndjson`` (``.jsonl``) file.

    Raises:
        Failure: if it is none of these, or a ``.csv`` without the columns.
    """
    if source.is_dir():
        return
    if source.suffix not in _KINDS:
        raise Failure(f"{source} can't be imported", "give a directory, a .csv or a .ndjson file", Exit.USAGE)
    if source.suffix == ".csv":
        with _csv_rows(source) as rows:
            missing = {"path", "length", "sha256"} - set(rows.fieldnames or ())
        if missing:
            said = " and ".join(sorted(missing))
            raise Failure(f"{source} has no column {said}", "its first line must be: path,length,sha256", Exit.USAGE)


def items(source: Path, journal: Journal) -> Iterator[Item]:
    """Give the artifacts of a source that the server has not.

    Args:
        source: that ``check_source`` has passed.
        journal: says what to pass over.

    Returns:
        The items, in the order of the source.

    Raises:
        Failure: while they are read, if one can't be.
    """
    return (_of_directory if source.is_dir() else _KINDS[source.suffix])(source, journal)
