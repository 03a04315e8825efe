"""Freezing: whether changes of artifacts wait."""

from datetime import datetime

import msgspec


class FreezeState(msgspec.Struct, frozen=True):
    """Whether changes of artifacts wait.

    Attributes:
        frozen_since: since when they wait; null if they are applied.
    """

    frozen_since: datetime | None


class FreezeAnswer(msgspec.Struct, frozen=True):
    """The answer to a request to freeze or to thaw.

    Attributes:
        data: the state from now on.
        message: one sentence for people.
    """

    data: FreezeState
    message: str
