"""The cache of parts that tests fetch or build: none is ever incomplete or damaged, whatever happens while it is made."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tufline_testing.servers import parts
from tufline_testing.servers.parts import SUMS, MissingPartError, kept

DEADLINE_SECONDS = 60.0

PROGRAM = """\
import sys
import time
from pathlib import Path

from tufline_testing.servers.parts import kept

work = Path(sys.argv[1])

def make(directory):
    with (work / "made").open("a") as made:
        made.write("made\\n")
    (directory / "first").write_text("first")
    while not (work / "go-on").exists():
        time.sleep(0.01)
    (directory / "second").write_text("second")

(work / f"asks-{sys.argv[2]}").touch()
print(kept("part", [work / "lock"], make))
"""
"""Makes a part with two files; the second one is written once ``go-on`` exists."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Make a directory with the lock file of a part."""
    (tmp_path / "lock").write_text("part==1")
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, in this process and in others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "PARTS", tmp_path / "cache" / "tufline" / "parts")
    return parts.PARTS


def ask(work: Path, number: int) -> "subprocess.Popen[str]":
    """Start a process that needs the part."""
    command = [sys.executable, "-c", PROGRAM, str(work), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def entries(cache: Path) -> set[str]:
    """List the cache, without locks."""
    return {path.name for path in cache.iterdir() if not path.name.startswith(".")}


def one_file(content: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / "file").write_text(content)

    return make


def make_again_in_a_new_process(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ask for the part as a process that has not looked at it yet."""
    monkeypatch.setattr(parts, "_intact", set())
    return kept("part", [work / "lock"], one_file("again"))


def test_a_killed_fetch_leaves_no_part(work: Path, cache: Path) -> None:
    """After SIGKILL in the middle of a fetch there is no part; the next process makes it completely, and removes what was left."""
    killed = ask(work, 1)
    wait_for(lambda: any(cache.glob("part-*.*/first")))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert all("." in name for name in entries(cache))
    (work / "go-on").touch()
    said, errors = ask(work, 2).communicate(timeout=DEADLINE_SECONDS)
    part = Path(said.strip())
    assert entries(cache) == {part.name}, errors
    assert {path.name for path in part.iterdir()} == {"first", "second", SUMS}


def test_processes_at_once_make_a_part_once(work: Path, cache: Path) -> None:
    """If several processes need a part at the same time, one makes it, and the others wait."""
    processes = [ask(work, number) for number in range(4)]
    wait_for(lambda: len(list(work.glob("asks-*"))) == len(processes))
    (work / "go-on").touch()
    said = {process.communicate(timeout=DEADLINE_SECONDS)[0].strip() for process in processes}
    assert len(said) == 1
    assert (Path(said.pop()) / "second").read_text() == "second"
    assert (work / "made").read_text() == "made\n"
    assert len(entries(cache)) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda part: (part / "file").write_text("agaim"), "file has changed"),
        (lambda part: (part / "file").unlink(), "file is missing"),
        (lambda part: (part / SUMS).unlink(), f"it has no {SUMS}"),
    ],
    ids=["changed", "missing", "without sums"],
)
def test_a_damaged_part_is_made_again(
    work: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    """A part whose files no longer match its checksums is made again, and the message names the file."""
    part = kept("part", [work / "lock"], one_file("first"))
    damage(part)
    assert make_again_in_a_new_process(work, monkeypatch) == part
    assert (part / "file").read_text() == "again"
    assert f"{part} is damaged ({message}), so it is made again" in capsys.readouterr().err


def test_an_intact_part_is_used_as_it_is(work: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is not made a second time; bytecode that Python rewrites, and new files, are no damage."""

    def make(directory: Path) -> None:
        (directory / "file").write_text("first")
        (directory / "module.pyc").write_text("old")

    part = kept("part", [work / "lock"], make)
    (part / "module.pyc").write_text("new")
    (part / "new").touch()
    make_again_in_a_new_process(work, monkeypatch)
    assert (part / "file").read_text() == "first"


def test_a_part_that_was_deleted_is_made_again(work: Path, cache: Path) -> None:
    """The cache may be emptied between two uses."""
    part = kept("part", [work / "lock"], one_file("first"))
    (part / "file").unlink()
    (part / SUMS).unlink()
    part.rmdir()
    assert kept("part", [work / "lock"], one_file("again")) == part
    assert (part / "file").read_text() == "again"


def test_a_failed_fetch_leaves_nothing(work: Path, cache: Path) -> None:
    """If a part can't be made, none of its files stays, and the caller gets the reason."""

    def fail(directory: Path) -> None:
        (directory / "file").write_text("half")
        raise MissingPartError("no network")

    with pytest.raises(MissingPartError, match="no network"):
        kept("part", [work / "lock"], fail)
    assert entries(cache) == set()


def test_versions_do_not_disturb_each_other(work: Path, cache: Path) -> None:
    """A different lock file makes a different part, so that two checkouts with different versions can use the same cache."""
    first = kept("part", [work / "lock"], one_file("first"))
    (work / "lock").write_text("part==2")
    second = kept("part", [work / "lock"], one_file("second"))
    assert [(part / "file").read_text() for part in (first, second)] == ["first", "second"]
    assert os.path.commonpath([first, second]) == str(cache)
