"""Task ids: when a task is done, and whose it is."""

import pytest

from tufline import cursor
from tufline.cursor import Cursor, Task
from tufline.errors import InvalidCursorError
from tufline.records import Vector


def test_a_task_is_done_when_its_last_record_is_covered() -> None:
    """A task is done only when what is published covers the last record of each of its partitions, and not one record earlier."""
    change = Cursor(cursor.FORMAT, Task.ADD, "log", 0, {0: [4, 7], 2: [5]})
    assert change.is_covered(Vector([8, 0, 6], 0))
    for artifacts in ([7, 0, 6], [8, 0, 5], [7, 9, 9], [0, 0, 0]):
        assert not change.is_covered(Vector(artifacts, 9))
    given = Cursor(cursor.FORMAT, Task.METADATA, "log", 0, {0: [3]})
    assert given.is_covered(Vector([0, 0, 0], 4))
    assert not given.is_covered(Vector([9, 9, 9], 3))


def test_a_task_of_a_partition_that_does_not_exist_is_no_task() -> None:
    """A task id that names a partition that the repository does not have is refused, and not taken for one that is done or under way."""
    with pytest.raises(InvalidCursorError):
        Cursor(cursor.FORMAT, Task.ADD, "log", 0, {3: [4]}).is_covered(Vector([9, 9, 9], 9))
    with pytest.raises(InvalidCursorError):
        Cursor(cursor.FORMAT, Task.BOOTSTRAP, "log", 0, {1: [4]}).is_covered(Vector([9, 9, 9], 9))


def test_a_task_id_is_of_one_log() -> None:
    """A task id is read back as it was written, by its own log alone: offsets of another log say nothing here."""
    task = Cursor(cursor.FORMAT, Task.ADD, "log", 1_800_000_000_000, {0: [4, 7], 2: [5]})
    assert cursor.decode(cursor.encode(task), "log") == task
    with pytest.raises(InvalidCursorError, match="another repository"):
        cursor.decode(cursor.encode(task), "another log")
