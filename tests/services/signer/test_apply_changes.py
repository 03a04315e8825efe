"""The effect of the log's changes on a bin, and the receipts for changes that had no effect or were rejected."""

import pytest

import tufline.metadata.bins
from tufline import records
from tufline.bus import Record
from tufline.metadata.bins import Bin, BinLayout
from tufline.metadata.target import Target, encode_entry
from tufline.records import Add, Changes, topics
from tufline.records.partitioning import Partitioning
from tufline.records.routing import Routing
from tufline_signer.bins.batch import Batch, Change, apply_changes


def add(offset: int, path: str, length: int = 1, filling: str = "") -> Change:
    custom = {"filling": filling} if filling else None
    return Change("r", offset, 0, path, encode_entry(Target(path, length, {"sha256": "0" * 64}, custom)).encoded)


def remove(offset: int, path: str) -> Change:
    return Change("r", offset, 0, path, None)


def test_a_bin_does_not_apply_a_change_again() -> None:
    """Changes below a bin's ``applied`` are skipped without a receipt; all later ones are applied, in the log's order."""
    mine, wanted = Bin(), Bin()
    apply_changes(mine, [add(5, "a"), add(6, "b")], 0)
    assert apply_changes(mine, [add(5, "a", 2), add(6, "c"), remove(6, "b")], 7) == (False, [])
    assert apply_changes(mine, [add(6, "a", 3), add(7, "a", 4), add(8, "d"), remove(9, "d"), add(10, "a", 5)], 7) == (True, [])
    apply_changes(wanted, [add(0, "b"), add(1, "a", 5)], 0)
    assert mine.encode(1, "2040-01-01T00:00:00Z") == wanted.encode(1, "2040-01-01T00:00:00Z")


@pytest.mark.parametrize("bulk", [set[int](), {0, 1, 2, 3}])
def test_changes_without_effect_have_receipts(monkeypatch: pytest.MonkeyPatch, bulk: set[int]) -> None:
    """Changes that do not fit, and removals of missing paths, have a receipt; repeated additions too, unless they are bulk."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", 2000)
    changes = [add(0, "a"), add(1, "big", filling="x" * 3000), add(2, "a"), remove(3, "b")]
    mine = Bin()
    is_changed, receipts = apply_changes(mine, changes, 0, bulk)
    assert is_changed
    assert len(mine) == 1
    said = [(request, receipt.offset, receipt.path, receipt.outcome) for request, receipt in receipts]
    assert said == [("r", 1, "big", "refused"), *([] if bulk else [("r", 2, "a", "unchanged")]), ("r", 3, "b", "not_found")]
    assert "more bins" in receipts[0].receipt.reason


@pytest.mark.parametrize("bits", [None, 1])
def test_a_change_of_another_partition_is_refused(bits: int | None) -> None:
    """A record in a partition that does not have its bin changes nothing, and has a receipt: each bin has one writer."""
    partitioning = Partitioning(BinLayout.of(4), 2, bits)
    changes = Changes(request="r", admin=0, changes=[Add(f"p/{number}", 1, {"sha256": "0" * 64}) for number in range(20)])
    batches = [Batch(Routing(partitioning), partition) for partition in range(2)]
    for partition, batch in enumerate(batches):
        batch.add([Record(topics.ARTIFACTS, partition, 7, 0, "r", records.encode(changes), {})])
    for batch, other in (batches, reversed(batches)):
        taken = {change.path for of_bin in batch.by_bin.values() for change in of_bin}
        assert 0 < len(taken) < 20
        refused = {receipt.path: (receipt.offset, receipt.outcome) for _, receipt in batch.receipts}
        assert refused == {change.path: (7, "refused") for of_bin in other.by_bin.values() for change in of_bin}
        assert len(taken | refused.keys()) == 20
