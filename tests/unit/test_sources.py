"""The sources of an import, and how it resumes after an interruption."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tufline_cli.commands.journal import PREFIX, open_journal
from tufline_cli.commands.sources import SourceItem, check_source, items
from tufline_cli.exit_codes import Failure

DIGEST = "ab" * 32
ARTIFACTS = [{"path": f"p/{number}", "info": {"length": str(number), "hashes": {"sha256": DIGEST}}} for number in range(4)]


def sent(source: Path, path: Path, accept: int | None = None) -> list[SourceItem]:
    """Import a source while the server acknowledges only some items, and return what was sent; the journal stays."""
    check_source(source)
    with open_journal(path, source, "log") as journal:
        every = list(items(source, journal))
        journal.add([item.mark for item in every[:accept]])
    return every


def bodies(found: Iterable[SourceItem]) -> list[dict[str, Any]]:
    return [json.loads(item.line) for item in found]


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
    """A CSV with columns in any order, and JSON lines with empty lines between, yield the listed artifacts."""
    assert bodies(sent(make(tmp_path, kind), tmp_path / "journal")) == ARTIFACTS


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """A byte order mark is not part of the first column's name."""
    source = make(tmp_path, "csv")
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes().replace(b"length,path", b"path,length").replace(b"0,p/0", b"p/0,0"))
    assert bodies(sent(source, tmp_path / "journal"))[0] == ARTIFACTS[0]


def test_directory_is_hashed(tmp_path: Path) -> None:
    """Every file of a directory is an artifact under its relative path, with its real length and hash."""
    found = bodies(sent(make(tmp_path, "directory"), tmp_path / "journal"))
    assert [(one["path"], one["info"]["length"]) for one in found] == [(f"p/{number}", number) for number in range(4)]
    assert found[0]["info"]["hashes"]["sha256"].startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize("kind", ["csv", "ndjson", "directory"])
def test_an_import_continues_where_it_stopped(tmp_path: Path, kind: str) -> None:
    """Items in the journal are skipped; a line truncated by a crash does not count, and does not damage later lines."""
    source, path = make(tmp_path, kind), tmp_path / "journal"
    every = sent(source, path, accept=2)
    with path.open("a") as file:
        file.write(every[2].mark.hex()[:-1])
    assert sent(source, path, accept=1) == every[2:]
    assert sent(source, path) == every[3:]
    with open_journal(path, source, "log") as journal:
        assert list(items(source, journal)) == []
        assert journal.skipped == 4
        journal.done()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_rebuilt_source_is_imported_as_it_is_now(tmp_path: Path, kind: str) -> None:
    """Whatever lines were added, removed, moved or changed since the interruption, each one not acknowledged in this form is sent."""
    source, path = make(tmp_path, kind), tmp_path / "journal"
    sent(source, path, accept=3)
    header, new = ("length,path,sha256\n", "9,new/{0},{1}") if kind == "csv" else ("", '{{"path": "new/{0}"}}')
    old = [line for line in source.read_text().splitlines() if "p/" in line]
    edited = old[2].replace("2,p/2", "22,p/2").replace('"length": "2"', '"length": "22"')
    source.write_text(header + "\n".join([new.format(0, DIGEST), old[3], edited, old[0], new.format(1, DIGEST)]))
    assert [one["path"] for one in bodies(sent(source, path))] == ["new/0", "p/3", "p/2", "new/1"]
    assert sent(source, path) == []


def replay(found: Iterable[SourceItem], state: dict[str, Any]) -> dict[str, Any]:
    """Apply what was sent to the server's state."""
    return state | {one["path"]: one["info"] for one in bodies(found)}


@pytest.mark.parametrize("accepted", range(5))
@pytest.mark.parametrize("order", [(1, 2, 1, 3), (2, 1), (1, 3, 2), (3, 1, 1, 2, 1)])
def test_the_last_line_of_a_path_is_the_servers_last(tmp_path: Path, accepted: int, order: tuple[int, ...]) -> None:
    """If a source has several lines of one path, the server finally has the last one, after any interruption and any edit."""
    source, path = tmp_path / "source.ndjson", tmp_path / "journal"

    def write(numbers: Iterable[int]) -> None:
        source.write_text("".join(json.dumps({"path": "p", "info": number}) + "\n" for number in numbers))

    write([1, 2, 1, 3])
    had = replay(sent(source, path, accept=accepted)[:accepted], {})
    write(order)
    assert replay(sent(source, path), had) == {"p": order[-1]}


def test_changed_file_is_imported_again(tmp_path: Path) -> None:
    """A file that changed since it was acknowledged is imported again."""
    source, path = make(tmp_path, "directory"), tmp_path / "journal"
    sent(source, path)
    (source / "p" / "1").write_text("changed")
    assert [one["path"] for one in bodies(sent(source, path))] == ["p/1"]


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b'{"path": 7}', b'{"path": "\\ud800"}', b"[" * 5000, b'{"path": "\xff"}'])
def test_a_line_of_nonsense_is_left_to_the_server(tmp_path: Path, line: bytes) -> None:
    """The server decides which lines are acceptable: they are sent unchanged."""
    source = tmp_path / "source.ndjson"
    source.write_bytes(line + b"\r\n")
    assert [item.line for item in sent(source, tmp_path / "journal")] == [line]


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("a.csv", b"path,size\nx,1\n", "length and sha256"),
        ("a.csv", b"", "length and path and sha256"),
        ("a.csv", "päth,length,sha256\n".encode("utf-16"), "is not UTF-8"),
        ("a.csv", b"path,length,sha256\n" + b"x,1,2\n" * 10_000 + b"\xff,1,2\n", "is not UTF-8"),
        ("a.csv", b"path,length,sha256\n" + b"x" * 200_000, "is not a valid CSV file"),
        ("a.zip", b"", "can't be imported"),
    ],
)
def test_a_source_of_another_form_is_refused(tmp_path: Path, name: str, content: bytes, advice: str) -> None:
    """A source of another form is refused, with the expected form."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Failure, match=advice):
        sent(tmp_path / name, tmp_path / "journal")


def test_each_import_has_a_journal_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports from one directory, of other sources or to other servers, neither see nor change each other's journal."""
    monkeypatch.chdir(tmp_path)
    csv, lines = make(tmp_path, "csv"), make(tmp_path, "ndjson")
    with ExitStack() as stack:
        journals = [stack.enter_context(open_journal(None, *of)) for of in ((csv, "log"), (lines, "log"), (csv, "another log"))]
        journals[0].add([b"m" * 16])
        journals[1].done()
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
    with open_journal(None, Path(csv.name), "log") as again:
        assert again.skips(b"m" * 16)
    with open_journal(None, csv, "another log") as other:
        assert not other.skips(b"m" * 16)


def test_a_journal_in_use_is_refused(tmp_path: Path) -> None:
    """While an import runs, a second one can't use its journal; afterwards it can."""
    source, path = make(tmp_path, "csv"), tmp_path / "journal"
    with open_journal(path, source, "log"), pytest.raises(Failure, match="another import uses"), open_journal(path, source, "log"):
        pass
    with open_journal(path, source, "log"):
        pass


@pytest.mark.parametrize("content", [b"precious\n", b"\xff\x00" * 500, b'{"source": "x"}\n', b"\n"])
def test_a_file_that_is_not_a_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file that is not a journal is neither overwritten nor removed."""
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(Failure, match="is not the journal"), open_journal(path, tmp_path, "log"):
        pass
    assert path.read_bytes() == content


def test_a_journal_of_another_import_is_left_alone(tmp_path: Path) -> None:
    """A journal of another source, or of a server with another log, is refused and left unchanged."""
    source, path = make(tmp_path, "csv"), tmp_path / "journal"
    sent(source, path)
    before = path.read_bytes()
    for of in ((tmp_path, "log"), (source, "another log")):
        with pytest.raises(Failure, match="another source or to another server"), open_journal(path, *of):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "advice"), [("/dev/null", "is not the journal"), ("missing/journal", "No such file"), ("source.csv/x", "Not a directory")]
)
def test_a_journal_that_can_not_be_written(tmp_path: Path, place: str, advice: str) -> None:
    """If the journal can't be created, the reason is reported; a device does not count as a journal."""
    source = make(tmp_path, "csv")
    with pytest.raises(Failure, match=advice), open_journal(tmp_path / place, source, "log"):
        pass
    assert Path("/dev/null").exists()


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_journal_is_not_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """A journal in the imported directory is not imported: neither this import's, under any name, nor another import's."""
    monkeypatch.chdir(tmp_path)
    directory = make(tmp_path, "directory")
    with open_journal(None, tmp_path / "elsewhere", "log") as left:
        left.add([b"m" * 16])
    with open_journal(Path(name) if name else None, tmp_path, "log") as journal:
        found = bodies(items(Path(), journal))
    assert [one["path"] for one in found] == [f"{directory.name}/p/{number}" for number in range(4)]
