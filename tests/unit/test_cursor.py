"""Task ids: when a task is done, and to which log it belongs."""

from typing import Any

import msgspec
import pytest

from tufline.clock import MAX_MILLISECONDS
from tufline.errors import InvalidCursorError
from tufline.records import Vector, cursor
from tufline.records.cursor import Cursor, Task


def test_a_task_is_done_when_its_last_record_is_covered() -> None:
    """A task is done only once the published vector covers the last record of each of its partitions, and not one record earlier."""
    change = Cursor(cursor.FORMAT, Task.ADD, "log", 0, {0: [4, 7], 2: [5]})
    assert change.is_covered(Vector([8, 0, 6], 0))
    for artifacts in ([7, 0, 6], [8, 0, 5], [7, 9, 9], [0, 0, 0]):
        assert not change.is_covered(Vector(artifacts, 9))
    given = Cursor(cursor.FORMAT, Task.METADATA, "log", 0, {0: [3]})
    assert given.is_covered(Vector([0, 0, 0], 4))
    assert not given.is_covered(Vector([9, 9, 9], 3))


def test_a_change_of_the_delegations_that_waits_keeps_no_later_task_waiting() -> None:
    """Only the waiting ones are not done; nothing is done that is at or above the end."""
    vector = Vector([0, 0], 3, admin_end=7, waiting=(3, 5))
    done = [offset for offset in range(9) if Cursor(cursor.FORMAT, Task.DELEGATE, "log", 0, {0: [offset]}).is_covered(vector)]
    assert done == [0, 1, 2, 4, 6]


def test_a_task_id_with_an_unknown_partition_is_refused() -> None:
    """A task id with a partition that the repository does not have is refused, and counts neither as done nor as pending."""
    with pytest.raises(InvalidCursorError):
        Cursor(cursor.FORMAT, Task.ADD, "log", 0, {3: [4]}).is_covered(Vector([9, 9, 9], 9))
    with pytest.raises(InvalidCursorError):
        Cursor(cursor.FORMAT, Task.BOOTSTRAP, "log", 0, {1: [4]}).is_covered(Vector([9, 9, 9], 9))


def test_a_task_id_is_of_one_log() -> None:
    """A task id can be read back only with its own log: offsets of another log mean nothing."""
    task = Cursor(cursor.FORMAT, Task.ADD, "log", 1_800_000_000_000, {0: [4, 7], 2: [5]})
    assert cursor.decode(cursor.encode(task), "log") == task
    for other in ("another log", "my log", ""):
        with pytest.raises(InvalidCursorError, match="another repository"):
            cursor.decode(cursor.encode(task), other)


GOOD = Cursor(cursor.FORMAT, Task.ADD, "log", 1_800_000_000_000, {0: [4, 7], 2: [5]})
ACCEPTED: dict[str, dict[str, Any]] = {
    "first record": {"positions": {0: [0]}},
    "last offset": {"positions": {0: [2**63 - 1]}},
    "last partition": {"positions": {2**31 - 1: [0]}},
    "many offsets": {"positions": {0: [3, 4, 9]}},
    "earliest time": {"time": 0},
    "latest time": {"time": MAX_MILLISECONDS},
    "request without changes": {"positions": {}},
    "named": {"format": 3, "positions": {2: [5]}, "request": "r"},
    "bulk": {"format": 2, "task": Task.BULK, "request": "r"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "unknown format": {"format": 4},
    "format zero": {"format": 0},
    "named without a name": {"format": 3, "positions": {2: [5]}},
    "named of two partitions": {"format": 3, "request": "r"},
    "named of two offsets": {"format": 3, "positions": {0: [4, 7]}, "request": "r"},
    "named without a place": {"format": 3, "positions": {}, "request": "r"},
    "a named request for a task that has none": {"format": 3, "task": Task.REMOVE, "positions": {2: [5]}, "request": "r"},
    "a partition without offsets": {"positions": {0: [4], 1: []}},
    "negative offset before a good one": {"positions": {0: [-1, 4]}},
    "equal offsets": {"positions": {0: [4, 4]}},
    "descending at the end": {"positions": {0: [4, 7, 5]}},
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_every_place_of_a_log_has_a_task_id(fields: dict[str, Any]) -> None:
    """A task id can name the first and the last possible positions of a log, and is read back unchanged."""
    task = msgspec.structs.replace(GOOD, **fields)
    assert cursor.decode(cursor.encode(task), "log") == task


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_a_task_id_with_impossible_values_is_refused(fields: dict[str, Any]) -> None:
    """A task id whose positions, time or format are impossible is refused, whoever made it."""
    with pytest.raises(InvalidCursorError):
        cursor.decode(cursor.encode(msgspec.structs.replace(GOOD, **fields)), "log")


@pytest.mark.parametrize("length", range(4))
def test_a_task_id_of_any_length_is_read(length: int) -> None:
    """A task id can be read whatever padding was cut off its end."""
    task = msgspec.structs.replace(GOOD, log="l" * length)
    assert cursor.decode(cursor.encode(task), "l" * length) == task


@pytest.mark.parametrize("text", ["", "é", "!!!!", "A", "A" * 6001])
def test_text_that_is_not_a_task_id_is_refused(text: str) -> None:
    """Text that was never issued as a task id is refused as bad input, and an overlong text is not even parsed."""
    with pytest.raises(InvalidCursorError, match="too long" if len(text) > 6000 else "is not valid"):
        cursor.decode(text, "log")


def test_the_longest_task_id_is_read() -> None:
    """A task id of 6000 characters is checked by its content, not by its length."""
    with pytest.raises(InvalidCursorError, match="is not valid"):
        cursor.decode("A" * 6000, "log")


def test_task_ids_of_earlier_versions_are_read() -> None:
    """Clients keep task ids for a long time, so ids of both formats are read and written as in the first version."""
    one, bulk = "lgGtYWRkX2FydGlmYWN0c6Nsb2fPAAABoxhcUACCAJIEBwKRBaA", "lgKuYnVsa19hcnRpZmFjdHOjbG9nzwAAAaMYXFAAgQCSBAehcg"
    of_bulk = Cursor(cursor.BULK_FORMAT, Task.BULK, "log", 1_800_000_000_000, {0: [4, 7]}, "r")
    assert (cursor.decode(one, "log"), cursor.decode(bulk, "log")) == (GOOD, of_bulk)
    assert (cursor.encode(GOOD), cursor.encode(of_bulk)) == (one, bulk)
