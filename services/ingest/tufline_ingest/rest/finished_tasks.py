"""The answer about a task that has ended, or that tells how far it is."""

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
    result = TaskResult(message, cursor.task.shown, moment_of(cursor.time), _known(details), error is None, error)
    return TaskData(task_id, "SUCCESS" if error is None else "ERRORED", result)


def running(task_id: str, cursor: Cursor, message: str, details: dict[str, Any]) -> TaskData:
    """Make the answer about a task that is under way.

    Args:
        task_id: as the client sent it.
        cursor: the cursor that the id contains.
        message: one sentence for people.
        details: how far it is; None values are left out.

    Returns:
        RUNNING.
    """
    return TaskData(task_id, "RUNNING", TaskResult(message, cursor.task.shown, moment_of(cursor.time), _known(details)))


def _known(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}
