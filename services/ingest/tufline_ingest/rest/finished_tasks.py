"""The answer about a task that has ended."""

from typing import Any

from tufline.clock import moment_of
from tufline.records.cursor import Cursor
from tufline_ingest.rest.schemas.tasks import TaskData, TaskResult


def finished(task_id: str, cursor: Cursor, message: str, details: dict[str, Any], error: str | None = None) -> TaskData:
    """Make the answer.

    Args:
        task_id: as the client sent it.
        cursor: the cursor that the id contains.
        message: one sentence for people.
        details: what RSTUF's clients expect for the kind of task; None values are left out.
        error: why the task failed; None if it did not.

    Returns:
        SUCCESS, or ERRORED if there is an error.
    """
    known = {name: value for name, value in details.items() if value is not None}
    result = TaskResult(message, error is None, cursor.task.value, moment_of(cursor.time), known, error)
    return TaskData(task_id, "SUCCESS" if error is None else "ERRORED", result)
