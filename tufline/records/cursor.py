"""Task ids: cursors into the log.

A task id says where on the log a request was accepted. A task is done when ``published`` covers that place, so that any replica answers for
any task, at once and after any restart, and nothing is stored for it.
"""

import base64
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from tufline.clock import MAX_MILLISECONDS
from tufline.decoding import decode as decode_strictly
from tufline.errors import InvalidCursorError
from tufline.records import Vector

FORMAT: Final = 1
BULK_FORMAT: Final = 2
"""Of a cursor that names its request: the receipts of a bulk request are found by its name."""

MAX_TEXT_LENGTH: Final = 6000
"""Enough for a position in each of 256 partitions, and short enough for a URL."""

MAX_PARTITIONS: Final = 2**31
MAX_OFFSET: Final = 2**63 - 1
"""Kafka's: beyond them no position of a log can be."""

NOT_ONE: Final = "the task id is not one: use it exactly as it was answered"


class Task(StrEnum):
    """What was asked for; the values are RSTUF's task names."""

    ADD = "add_artifacts"
    REMOVE = "remove_artifacts"
    BULK = "bulk_artifacts"
    BOOTSTRAP = "bootstrap"
    METADATA = "metadata_update"


IN_ADMIN: Final = frozenset({Task.BOOTSTRAP, Task.METADATA})
"""The tasks whose records are in ``admin``."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a request was accepted.

    Attributes:
        format: of this cursor.
        task: what was asked for.
        log: the id of the log.
        time: of acceptance, in milliseconds since 1970, by the bus's clock.
        positions: partition to the offsets of the request's records: in ``artifacts``, or (partition 0) in ``admin``.
            Of a bulk request the first and the last of each partition (in format 1, the last alone).
        request: names a bulk request on the log; empty otherwise.
    """

    format: int
    task: Task
    log: str
    time: int
    positions: dict[int, list[int]]
    request: str = ""

    def is_covered(self, vector: Vector) -> bool:
        """Say whether all that the request asked for is below a vector.

        Args:
            vector: what a published commit covers.

        Returns:
            Whether the task is done.

        Raises:
            InvalidCursorError: if it names a partition that the repository does not have.
        """
        covered = [vector.admin] if self.task in IN_ADMIN else vector.artifacts
        if any(not 0 <= partition < len(covered) for partition in self.positions):
            raise InvalidCursorError("the task id is not one of this repository")
        return all(covered[partition] > offsets[-1] for partition, offsets in self.positions.items() if offsets)


_decoder: Final = msgspec.msgpack.Decoder(Cursor)


def encode(cursor: Cursor) -> str:
    """Write a cursor as a task id.

    Args:
        cursor: where a request was accepted.

    Returns:
        URL-safe text.
    """
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode()


def decode(text: str, log_id: str) -> Cursor:
    """Read a task id.

    Args:
        text: whatever a client sent.
        log_id: of this repository's log.

    Returns:
        The cursor.

    Raises:
        InvalidCursorError: if it is not a task id, or one of another log.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidCursorError("the task id is too long to be one")
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursorError(NOT_ONE) from None
    cursor = decode_strictly(_decoder, raw, lambda _: InvalidCursorError(NOT_ONE))
    if cursor.format not in {FORMAT, BULK_FORMAT}:
        raise InvalidCursorError("the task id has a form that this version does not know")
    if cursor.log != log_id:
        raise InvalidCursorError("the task id is one of another repository, or of this one before its log was made anew")
    if not 0 <= cursor.time <= MAX_MILLISECONDS or not cursor.positions or not all(map(_is_place, cursor.positions.items())):
        raise InvalidCursorError(NOT_ONE)
    return cursor


def _is_place(position: tuple[int, list[int]]) -> bool:
    partition, offsets = position
    ascending = all(before < after for before, after in pairwise(offsets))
    return 0 <= partition < MAX_PARTITIONS and bool(offsets) and ascending and offsets[0] >= 0 and offsets[-1] <= MAX_OFFSET
