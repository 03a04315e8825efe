"""Where an import takes its artifacts from, and what of it the server has already.

A directory's files are hashed as they are read; a CSV or NDJSON file says lengths and hashes itself. Every item has a mark, which the
journal remembers once the server has acknowledged it: an import that was interrupted goes on where it stopped, also when files were added
meanwhile.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tufline.cli.exits import Exit, Failure

READ_BYTES: Final = 1024 * 1024


class Item(NamedTuple):
    """An artifact to import.

    Attributes:
        mark: names it in the journal.
        line: of the bulk request.
    """

    mark: str
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


def _of_directory(directory: Path, known: set[str]) -> Iterator[Item]:
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        stat, target_path = path.stat(), path.relative_to(directory).as_posix()
        mark = f"{stat.st_size}:{stat.st_mtime_ns}:{target_path}"
        if mark not in known:
            yield Item(mark, json.dumps(describe_file(path, target_path)).encode())


def _of_csv(path: Path, known: set[str]) -> Iterator[Item]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "length", "sha256"} - set(reader.fieldnames or ())
        if missing:
            raise Failure(f"{path} has no column {' and '.join(sorted(missing))}", "its first line must be: path,length,sha256", Exit.USAGE)
        for row in reader:
            mark = str(reader.line_num)
            if mark not in known:
                info = {"length": row["length"], "hashes": {"sha256": row["sha256"]}}
                yield Item(mark, json.dumps({"path": row["path"], "info": info}).encode())


def _of_lines(path: Path, known: set[str]) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and str(number) not in known:
                yield Item(str(number), line.rstrip(b"\r\n"))


def items(source: Path, known: set[str]) -> Iterator[Item]:
    """Give the artifacts of a source.

    Args:
        source: a directory, a ``.csv`` or a ``.ndjson`` (``.jsonl``) file.
        known: marks of items to pass over.

    Yields:
        The items.

    Raises:
        Failure: if the source is none of these.
    """
    if source.is_dir():
        yield from _of_directory(source, known)
    elif source.suffix == ".csv":
        yield from _of_csv(source, known)
    elif source.suffix in {".ndjson", ".jsonl"}:
        yield from _of_lines(source, known)
    else:
        raise Failure(f"{source} can't be imported", "give a directory, a .csv or a .ndjson file", Exit.USAGE)


class Journal:
    """The marks of what a server has acknowledged of a source."""

    def __init__(self, path: Path, source: Path, log: str) -> None:
        """Read what there is, or begin.

        Args:
            path: of the journal.
            source: of the import.
            log: id of the server's log: another log has nothing yet.
        """
        self._path = path
        self._header = json.dumps({"source": str(source.resolve()), "log": log})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        is_ours = bool(lines) and lines[0] == self._header
        self.known = {json.loads(line) for line in lines[1:] if line.endswith('"')} if is_ours else set[str]()
        if not is_ours:
            path.write_text(f"{self._header}\n", encoding="utf-8")

    def add(self, marks: list[str]) -> None:
        """Take note of what the server has acknowledged.

        Args:
            marks: of the items.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{json.dumps(mark)}\n" for mark in marks))

    def done(self) -> None:
        """Forget the journal: all is on the server."""
        self._path.unlink(missing_ok=True)
