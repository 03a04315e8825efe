"""Answers that several resources share."""

from datetime import datetime
from typing import Any

import msgspec


class Submitted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The task that an accepted request has become.

    Attributes:
        task_id: the id to ask GET /api/v1/task/ with.
        last_update: when the request was accepted.
        artifacts: the target paths of the request; left out if the request is not about artifacts.
    """

    task_id: str
    last_update: datetime
    artifacts: list[str] | None = None


class SubmittedAnswer(msgspec.Struct, frozen=True):
    """The answer to a request that is on the log.

    Attributes:
        data: the task that the request has become.
        message: one sentence for people.
    """

    data: Submitted
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The answer to a request that was refused.

    Attributes:
        detail: why the request was refused and what to do: a sentence, or in RSTUF's form an object with one.
    """

    detail: str | dict[str, Any]
