"""Tasks: the results of requests, in RSTUF's format."""

from datetime import datetime
from typing import Any, Literal

import msgspec


class RefusedArtifact(msgspec.Struct, frozen=True):
    """A change that was accepted first, and refused later.

    Attributes:
        path: the target path; empty if the record with it is no longer kept, or if it is unknown whether and which changes were refused.
        reason: why it was refused, for people.
    """

    path: str
    reason: str


class TaskResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a task, or how far it is.

    Attributes:
        message: one sentence for people.
        task: RSTUF's name for the kind of request.
        last_update: when the request was accepted.
        details: depends on the task. If the result of some artifacts can't be read any more, ``unknown_artifacts`` has their paths, and the
            task is ERRORED. ``held`` is true if the changes are held until a publish. ``refused_artifacts`` has the changes that were
            refused, each with ``path`` and ``reason``; of a bulk task, those of this page. Of a bulk task also: ``refused``, how many
            changes were refused, on this page and those before; and ``after``, where there is another page: the parameter ``after`` for it.
            Of an update whose bins must be signed with other keys, while it is RUNNING: ``bins_signed``, how many are, of
            ``number_of_bins``.
        status: whether the task succeeded; left out until it is finished.
        error: why the task failed; left out if it did not.
    """

    message: str
    task: str
    last_update: datetime
    details: dict[str, Any]
    status: bool | None = None
    error: str | None = None


class TaskData(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task with its state and result.

    Attributes:
        task_id: the id that was asked for.
        state: RSTUF's: PENDING if this repository does not know the task, or no longer knows it; RUNNING until it is finished; then SUCCESS
            or ERRORED.
        result: the result of the task; while it is RUNNING it tells how far an update is, and is left out for other tasks.
    """

    task_id: str
    state: Literal["PENDING", "RUNNING", "SUCCESS", "ERRORED"]
    result: TaskResult | None = None


class TaskAnswer(msgspec.Struct, frozen=True):
    """The answer to a question about a task.

    Attributes:
        data: the state of the task.
        message: one sentence for people.
    """

    data: TaskData
    message: str = "Task state."
