"""Where an import takes its artifacts from, and what of it the server has already.

A directory's files are hashed as they are read; a CSV or NDJSON file says lengths and hashes itself. Every item has a mark, which the
journal remembers once the server has acknowledged it: an import that was interrupted goes on where it stopped, also when files were added
or changed meanwhile. The mark of a file is made of its size and time, so that one that the server has is not read again.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tufline.cli.exits import Exit, Failure
from tufline.cli.journal import Journal, make_mark

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


def _of_csv(path: Path, journal: Journal) -> Iterator[Item]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "length", "sha256"} - set(reader.fieldnames or ())
        if missing:
            raise Failure(f"{path} has no column {' and '.join(sorted(missing))}", "its first line must be: path,length,sha256", Exit.USAGE)
        for row in reader:
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


def items(source: Path, journal: Journal) -> Iterator[Item]:
    """Give the artifacts of a source that the server has not.

    Args:
        source: a directory, a ``.csv`` or a ``.ndjson`` (``.jsonl``) file.
        journal: says what to pass over.

    Yields:
        The items.

    Raises:
        Failure: if the source is none of these.
    """
    if source.is_dir():
        yield from _of_directory(source, journal)
    elif source.suffix == ".csv":
        yield from _of_csv(source, journal)
    elif source.suffix in {".ndjson", ".jsonl"}:
        yield from _of_lines(source, journal)
    else:
        raise Failure(f"{source} can't be imported", "give a directory, a .csv or a .ndjson file", Exit.USAGE)
