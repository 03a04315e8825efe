"""Task ids: cursors into the log.

A task id has the position on the log where a request was accepted. A task is done when ``published`` covers that position. So any replica
can answer for any task, at once and after any restart, without storing anything.
"""

import base64
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from tufline.clock import MAX_MILLISECONDS
from tufline.decoding import decode as decode_strictly
from tufline.errors import InvalidCursorError
from tufline.records.vector import Vector

FORMAT: Final = 1
BULK_FORMAT: Final = 2
"""The format of a cursor with the request's name, by which the receipts of a bulk request are found."""

NAMED_FORMAT: Final = 3
"""The format of a cursor that was made before its records were appended: with the request's name, and an offset in one partition, at or
above which the first record with this name is (``tufline.records.artifacts.Changes.parts``)."""

MAX_TEXT_LENGTH: Final = 6000
"""The longest task id: enough for a position in each of 256 partitions, and short enough for a URL."""

MAX_PARTITIONS: Final = 2**31
MAX_OFFSET: Final = 2**63 - 1
"""Kafka's limits: no log has a position beyond them."""

NOT_A_TASK_ID: Final = "the task id is not valid: use it exactly as the server returned it"


class Task(StrEnum):
    """The kinds of tasks; the values are RSTUF's task names."""

    ADD = "add_artifacts"
    REMOVE = "remove_artifacts"
    BULK = "bulk_artifacts"
    BOOTSTRAP = "bootstrap"
    METADATA = "metadata_update"
    SIGN = "sign_metadata"
    WITHDRAW = "delete_sign_metadata"
    SETTINGS = "update_settings"
    PUBLISH = "publish_artifacts"
    RENEW = "force_online_metadata_update"
    DELEGATE = "metadata_delegation"
    SIGN_ROLE = "sign_role"
    """A signature of a custom role that people sign: in RSTUF's words, of ``SIGN``. Its record is in ``artifacts``."""
    WITHDRAW_ROLE = "delete_sign_role"

    @property
    def shown(self) -> str:
        """RSTUF's name of the task."""
        return {Task.SIGN_ROLE: Task.SIGN, Task.WITHDRAW_ROLE: Task.WITHDRAW}.get(self, self).value


IN_ADMIN: Final = frozenset(
    {Task.BOOTSTRAP, Task.METADATA, Task.SIGN, Task.WITHDRAW, Task.SETTINGS, Task.PUBLISH, Task.RENEW, Task.DELEGATE}
)
"""The tasks whose records are in ``admin``."""


WITHOUT_RECORDS: Final = frozenset({Task.ADD, Task.REMOVE})
"""The tasks whose request may have no changes. Such a request has no record, and its task is done at once."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The position on the log where a request was accepted.

    Attributes:
        format: the format of this cursor.
        task: the kind of the task.
        log: the id of the log.
        time: when the request was accepted, in milliseconds since 1970, by the bus's clock.
        positions: partition to the offsets of the request's records, in ``artifacts`` or (partition 0) in ``admin``. For a bulk request,
            only the first and the last offset of each partition (in format 1, only the last). Empty if the request had no changes. In
            ``NAMED_FORMAT`` the lowest offset in one partition at which the first record may be.
        request: the request's name on the log, for a bulk request and in ``NAMED_FORMAT``; empty for any other.
        hold: whether the changes are to be held: the task is done when they are held, and nothing has to be published.
    """

    format: int
    task: Task
    log: str
    time: int
    positions: dict[int, list[int]]
    request: str = ""
    hold: bool = False

    def is_covered(self, vector: Vector) -> bool:
        """Return whether a vector covers all records of the request.

        Args:
            vector: the vector of the published commit.

        Returns:
            Whether the task is done.

        Raises:
            InvalidCursorError: if it names a partition that the repository does not have.
        """
        covered = [vector.publishes if self.task is Task.PUBLISH else vector.end] if self.task in IN_ADMIN else vector.artifacts
        if any(not 0 <= partition < len(covered) for partition in self.positions):
            raise InvalidCursorError("the task id does not belong to this repository")
        last = [(partition, offsets[-1]) for partition, offsets in self.positions.items() if offsets]
        if self.task in IN_ADMIN and self.task is not Task.PUBLISH:
            return all(vector.has_applied(offset) for _, offset in last)
        return all(covered[partition] > offset for partition, offset in last)


_decoder: Final = msgspec.msgpack.Decoder(Cursor)


def encode(cursor: Cursor) -> str:
    """Encode a cursor as a task id.

    Args:
        cursor: the position where a request was accepted.

    Returns:
        URL-safe text.
    """
    # The last field is written only if it is set, so that replicas of an earlier version, which do not know it, can read all other ids.
    fields = msgspec.structs.astuple(cursor)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(fields if cursor.hold else fields[:-1])).rstrip(b"=").decode()


def decode(text: str, log_id: str) -> Cursor:
    """Decode a task id.

    Args:
        text: untrusted text from a client.
        log_id: the id of this repository's log.

    Returns:
        The cursor.

    Raises:
        InvalidCursorError: if it is not a task id, or belongs to another log.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidCursorError("the task id is too long to be valid: use it exactly as the server returned it")
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursorError(NOT_A_TASK_ID) from None
    cursor = decode_strictly(_decoder, raw, lambda _: InvalidCursorError(NOT_A_TASK_ID))
    if cursor.format not in {FORMAT, BULK_FORMAT, NAMED_FORMAT}:
        raise InvalidCursorError("the task id has a format that this version of Tufline does not know")
    if cursor.log != log_id:
        raise InvalidCursorError("the task id belongs to another repository, or to this one before its log was created again")
    is_empty = not cursor.positions and cursor.task not in WITHOUT_RECORDS
    if cursor.format == NAMED_FORMAT and not (cursor.request and cursor.task is Task.ADD and [*map(len, cursor.positions.values())] == [1]):
        raise InvalidCursorError(NOT_A_TASK_ID)
    if cursor.hold and cursor.task not in {Task.ADD, Task.REMOVE}:
        raise InvalidCursorError(NOT_A_TASK_ID)
    if not 0 <= cursor.time <= MAX_MILLISECONDS or is_empty or not all(map(_is_valid_position, cursor.positions.items())):
        raise InvalidCursorError(NOT_A_TASK_ID)
    return cursor


def _is_valid_position(position: tuple[int, list[int]]) -> bool:
    partition, offsets = position
    ascending = all(before < after for before, after in pairwise(offsets))
    return 0 <= partition < MAX_PARTITIONS and bool(offsets) and ascending and offsets[0] >= 0 and offsets[-1] <= MAX_OFFSET
