"""The index of receipts: whatever batches there were, the one with a record's receipts is found in few steps."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tufline.records.receipt_index import ReceiptIndex, Run, step

BATCHES = st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(1, 3)), max_size=300)
"""For each batch of a partition: how many records it has, whether any has a receipt, and in how many transactions they are written."""


def find(trail: ReceiptIndex, older: dict[int, Sequence[Run]], offset: int) -> tuple[Run | None, int]:
    """Search as a reader does, and count the receipts that are read for it."""
    runs: Sequence[Run] = trail.runs
    steps = 0
    while (run := step(runs, offset)) is not None and run.since > offset:
        runs, steps = older[run.first], steps + 1
    return run, steps


@given(batches=BATCHES, start=st.integers(0, 10))
def test_the_run_of_a_record_is_found(batches: list[tuple[int, bool, int]], start: int) -> None:
    """The search ends at the batch with the record, or at one that ends before it if that batch has no receipt."""
    trail, older = ReceiptIndex(start), dict[int, Sequence[Run]]()
    expected: list[tuple[int, int] | None] = []
    offset, place = start, 0
    for size, has_receipts, transactions in batches:
        first = place
        for _ in range(transactions if has_receipts else 0):
            if trail.begins(offset):
                older[place] = trail.runs
            trail = trail.extended(offset, offset + size, place, place + 1)
            place += 3  # of others
        expected += [(first, place - 2) if has_receipts else None] * size
        offset += size
    assert len(trail.runs) <= max(1, len(older).bit_length())
    for number, where in enumerate(expected):
        run, steps = find(trail, older, start + number)
        assert steps <= len(older).bit_length()
        found = (run.first, run.last) if run is not None and start + number < run.until else None
        assert found == where


def test_a_trail_names_the_newest_run_of_each_power_of_two() -> None:
    """Of a hundred runs the index names only the newest one, and for each power of two the newest run whose number it divides."""
    trail = ReceiptIndex(0)
    for number in range(100):
        trail = trail.extended(number, number + 1, number, number)
    assert [run.number for run in trail.runs] == [100, 96, 64]
    trail = trail.extended(100, 101, 100, 100)
    assert [run.number for run in trail.runs] == [101, 100, 96, 64]


def test_a_step_goes_back_as_far_as_it_can() -> None:
    """A step leads to the oldest named run that starts after the offset, to the newest run if that starts before it, or nowhere."""
    runs = [Run(number, since, since + 10, 0, 0) for number, since in ((7, 70), (6, 60), (4, 40))]
    assert [step(runs, offset) for offset in (71, 70)] == [runs[0]] * 2
    assert [step(runs, offset) for offset in (69, 60)] == [runs[0]] * 2
    assert [step(runs, offset) for offset in (59, 40)] == [runs[1]] * 2
    assert step(runs, 39) == runs[2]
    assert step([], 0) is None


def test_records_that_are_read_again_continue_their_run() -> None:
    """After a crash in the middle of a batch, its receipts continue in one run, even if it is read again in batches of another size."""
    trail = ReceiptIndex(0).extended(0, 5, 10, 12).extended(5, 8, 20, 21).extended(5, 11, 30, 33)
    assert not trail.begins(5)
    assert trail.runs == (Run(2, 5, 11, 20, 33),)
    assert not trail.begins(7)
    assert trail.extended(7, 9, 40, 41).extended(9, 12, 50, 51).runs == (Run(2, 5, 12, 20, 51),)
    assert trail.begins(11)


def test_a_trail_is_written_as_arrays() -> None:
    """The encoding on existing logs stays: without the names of fields, which would be a large part of each receipt."""
    trail = ReceiptIndex(3, (Run(1, 2, 3, 4, 5),))
    assert msgspec.json.encode(trail) == b"[3,[[1,2,3,4,5]]]"
    assert msgspec.json.decode(b"[3,[[1,2,3,4,5]]]", type=ReceiptIndex) == trail
