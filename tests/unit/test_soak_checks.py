"""The checks of a soak detect the faults for which they were written."""

import json

import pytest

from tufline import records
from tufline.bus import Record
from tufline.metadata.bins import BinLayout
from tufline.metadata.envelope import sha256
from tufline.records import Head, Progress
from tufline.records.metadata import VERSION_HEADER
from tufline_testing.soak import checks
from tufline_testing.soak.load import History

LAYOUT = BinLayout.of(2)
BIN = LAYOUT.name(LAYOUT.index_of("p"))
HISTORY: History = {"p": [1, 2, None, 4]}


def metadata(*lengths: int | None, versions: list[int] | None = None) -> list[Record]:
    """Make versions of the bin, in each of which ``p`` has a length."""
    made = []
    for offset, (version, length) in enumerate(zip(versions or range(1, 1 + len(lengths)), lengths, strict=True)):
        targets = {} if length is None else {"p": {"length": length}}
        value = json.dumps({"signed": {"targets": targets, "version": version}}).encode()
        made.append(Record("metadata", 0, offset, 0, BIN, value, {VERSION_HEADER: str(version)}))
    return made


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([None, 1, 2, None, 4], ""),
        ([None, 2, 4], ""),
        ([None, 1, 1, 4], "changes nothing"),
        ([None, 1, 2, 1, 4], "out of order"),
        ([None, 2, 4, None, 4], "out of order"),
        ([None, 3, 4], "out of order"),
        ([None, 1, 2], "4 was accepted last"),
        ([None, None, 4], ""),  # added and removed in one batch
    ],
)
def test_states(lengths: list[int | None], found: str) -> None:
    """A path that was reverted, lost or changed twice is detected; states that batches skip are not reported."""
    problems = list(checks.states(metadata(*lengths), HISTORY, LAYOUT))
    assert any(found in problem for problem in problems) if found else problems == []


def test_versions() -> None:
    """A version that is missing, goes back, or has two contents is detected."""
    assert list(checks.versions(metadata(None, 1))) == []
    assert "from version 1 to 3" in next(checks.versions(metadata(None, 1, versions=[1, 3])))
    assert "two contents" in next(checks.versions(metadata(1, 2, versions=[1, 1])))


def test_heads() -> None:
    """A head or progress that goes back, and a head of a file that is not on the log, are detected."""
    files = metadata(None, 1)

    def head(number: int, digest: str = "") -> Head:
        return Head(version=number + 1, sha256=digest or sha256(files[number].value), length=1, expires="", offset=number, keyids=[])

    def problems(*contents: Head | Progress) -> list[str]:
        keys = [BIN if isinstance(one, Head) else records.PROGRESS_KEY for one in contents]
        of_partition = [Record("heads", 0, at, 0, keys[at], records.encode(one), {}) for at, one in enumerate(contents)]
        return list(checks.heads(of_partition, {record.offset: record for record in files}))

    assert problems(head(0), Progress(offset=1), head(1), Progress(offset=2)) == []
    assert "goes back to version 1" in problems(head(1), head(0), Progress(offset=2))[0]
    assert "progress goes back" in problems(Progress(offset=2), Progress(offset=1))[0]
    assert "not on the log" in problems(head(0, "0" * 64), Progress(offset=1))[0]


def test_epochs() -> None:
    """A write of a fenced producer is detected."""
    line = "baseOffset: {} lastOffset: 2 count: 1 baseSequence: 0 lastSequence: 0 producerId: {} producerEpoch: {} isTransactional: true\n"
    right = line.format(0, 7, 0) + line.format(1, 8, 5) + line.format(2, 7, 1)
    assert list(checks.epochs(right)) == []
    assert "wrote in epoch 0, fenced by epoch 1" in next(checks.epochs(right + line.format(3, 7, 0)))
    assert list(checks.epochs("")) == ["the dump has no batch"]
