"""What an import reads, and how it goes on after an interruption."""

import json
from pathlib import Path
from typing import Any

import pytest

from tufline.cli.exits import Failure
from tufline.cli.sources import Item, Journal, items

DIGEST = "ab" * 32
ARTIFACTS = [{"path": f"p/{number}", "info": {"length": str(number), "hashes": {"sha256": DIGEST}}} for number in range(4)]


def lines(source: Path, known: set[str] | None = None) -> list[dict[str, Any]]:
    return [json.loads(item.line) for item in items(source, known or set())]


def make(tmp_path: Path, kind: str) -> Path:
    source = tmp_path / f"source.{kind}"
    if kind == "csv":
        source.write_text("length,path,sha256\n" + "".join(f"{number},p/{number},{DIGEST}\n" for number in range(4)))
    elif kind == "directory":
        for number in range(4):
            path = source / "p" / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * number)
    else:
        source.write_text("\n\n".join(map(json.dumps, ARTIFACTS)))
    return source


@pytest.mark.parametrize("kind", ["csv", "ndjson", "jsonl"])
def test_lists_are_read(tmp_path: Path, kind: str) -> None:
    """A CSV with its columns in any order and lines of JSON with empty ones between give the artifacts that they list."""
    assert lines(make(tmp_path, kind)) == ARTIFACTS


def test_directory_is_hashed(tmp_path: Path) -> None:
    """Every file of a directory is an artifact under its relative path, with its real length and hash."""
    found = lines(make(tmp_path, "directory"))
    assert [(one["path"], one["info"]["length"]) for one in found] == [(f"p/{number}", number) for number in range(4)]
    assert found[0]["info"]["hashes"]["sha256"].startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize("kind", ["csv", "ndjson", "directory"])
def test_goes_on_where_it_stopped(tmp_path: Path, kind: str) -> None:
    """What the journal knows is passed over, for the same source and the same log alone; a line cut off by a crash does not count."""
    source, path = make(tmp_path, kind), tmp_path / "journal"
    every: list[Item] = list(items(source, set()))
    Journal(path, source, "log").add([item.mark for item in every[:2]])
    with path.open("a") as file:
        file.write(json.dumps(every[2].mark)[:-1])
    known = Journal(path, source, "log").known
    assert list(items(source, known)) == every[2:]
    assert Journal(path, source, "another log").known == set()
    journal = Journal(path, source, "log")
    assert journal.known == set()
    journal.done()
    assert not path.exists()


def test_changed_file_is_imported_again(tmp_path: Path) -> None:
    """A file that changed since it was acknowledged is imported again."""
    source = make(tmp_path, "directory")
    known = {item.mark for item in items(source, set())}
    (source / "p" / "1").write_text("changed")
    assert [one["path"] for one in lines(source, known)] == ["p/1"]


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [("a.csv", "path,size\nx,1\n", "length and sha256"), ("a.zip", "", "can't be imported")],
)
def test_source_that_is_none(tmp_path: Path, name: str, content: str, advice: str) -> None:
    """A source of another form is refused, with what it should be."""
    (tmp_path / name).write_text(content)
    with pytest.raises(Failure, match=advice):
        lines(tmp_path / name)
