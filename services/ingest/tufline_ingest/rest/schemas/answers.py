"""Answers that several resources share."""

from datetime import datetime
from typing import Any

import msgspec


class Submitted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an accepted request is answered with.

    Attributes:
        task_id: for GET /api/v1/task/.
        last_update: when it was accepted.
        artifacts: the paths.
    """

    task_id: str
    last_update: datetime
    artifacts: list[str] | None = None


class SubmittedAnswer(msgspec.Struct, frozen=True):
    """202: the log has it.

    Attributes:
        data: the task.
        message: for people.
    """

    data: Submitted
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """4xx, 5xx: why not.

    Attributes:
        detail: a sentence, or an object with one.
    """

    detail: Any
