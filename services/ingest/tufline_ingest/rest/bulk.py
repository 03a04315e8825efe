"""Bulk requests: any number of lines, in bounded memory.

While one batch of lines is appended to the log, the next one is read and checked; memory never holds more than these two. When the log
accepts no more records, reading stops, which stops the sender.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from tufline.bus import Position
from tufline.errors import InvalidTargetError, PushbackError
from tufline.metadata.target import TargetRules
from tufline.records.events import ChangeRequest
from tufline.runtime.turns import Turns
from tufline_ingest.accept import Change, make_change
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.schemas.artifacts import RefusedLine

BATCH_LINES: Final = 2000
BATCH_BYTES: Final = 1024 * 1024
"""The size of a batch of lines: large enough for few records on the log, small enough for memory."""

LISTED_REFUSALS: Final = 1000
"""How many refused lines an answer lists; further ones are only counted."""

MAX_REFUSED_LINES: Final = 10_000
"""How many refused lines a request may have: with more, its sender has made a mistake, and the rest is not read."""

MAX_EMPTY_LINES: Final = 10_000
"""How many empty lines a request may have; a compressed one has a million in a kilobyte."""

MAX_PASSED_OVER_BYTES: Final = 16 * 1024 * 1024
"""How many bytes of lines that are empty or too long a request may have."""

PUSHBACK_SECONDS: Final = 30.0
"""How long to wait in total for a log that accepts no more records, before the request fails."""


@dataclass(slots=True)
class BulkOutcome:
    """The result of the lines so far.

    Attributes:
        accepted: how many.
        refused: how many.
        refused_lines: the first refused lines.
        ends: partition to the first and the last position in it; they may be the same.
    """

    accepted: int = 0
    refused: int = 0
    refused_lines: list[RefusedLine] = field(default_factory=list)
    ends: dict[int, tuple[Position, Position]] = field(default_factory=dict)

    @property
    def positions(self) -> list[Position]:
        """The first and the last position of each partition, each once."""
        return [position for first, last in self.ends.values() for position in ((first,) if first == last else (first, last))]

    def refuse(self, line: int, reason: str) -> None:
        """Record a refused line.

        Args:
            line: its number, from 1.
            reason: for people.

        Raises:
            BadRequestError: if too many are refused.
        """
        self.refused += 1
        if self.refused > MAX_REFUSED_LINES:
            raise BadRequestError(f"more than {MAX_REFUSED_LINES} lines are refused, the last of them line {line}: {reason}")
        if len(self.refused_lines) < LISTED_REFUSALS:
            self.refused_lines.append(RefusedLine(line, reason))

    def accept(self, count: int, positions: Sequence[Position]) -> None:
        """Record lines that are on the log.

        Args:
            count: how many.
            positions: of their records.
        """
        self.accepted += count
        for position in positions:
            first, last = self.ends.get(position.partition, (position, position))
            by_offset = attrgetter("offset")
            self.ends[position.partition] = min(first, position, key=by_offset), max(last, position, key=by_offset)


async def split_lines(chunks: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """Split a stream into lines.

    Args:
        chunks: of any size.
        most_bytes: the longest line.

    Yields:
        For each line that is not empty, its number, from 1, and the line; None for a line that is too long, which is not kept in memory.

    Raises:
        BadRequestError: if too much of the stream is empty lines, or lines that are too long.
    """
    number, rest, too_long = 1, b"", False
    empty = passed_over = 0
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if too_long or len(line) > most_bytes:
                passed_over += len(line)
                yield number, None
            elif line.strip():
                yield number, line
            else:
                empty, passed_over = empty + 1, passed_over + len(line)
            number, too_long = number + 1, False
        if len(rest) > most_bytes:
            passed_over += len(rest)
            rest, too_long = b"", True
        if empty > MAX_EMPTY_LINES:
            raise BadRequestError(f"the request has more than {MAX_EMPTY_LINES} empty lines by line {number}: send one change a line")
        if passed_over > MAX_PASSED_OVER_BYTES:
            reason = f"the request has more than {MAX_PASSED_OVER_BYTES} bytes of lines that are empty or too long by line {number}"
            raise BadRequestError(f"{reason}: send one change a line")
    if too_long or len(rest) > most_bytes:
        yield number, None
    elif rest.strip():
        yield number, rest


def read_line(line: bytes, allowed: TargetRules) -> Change:
    """Make a change from a line.

    Args:
        line: JSON.
        allowed: the rules for targets.

    Returns:
        The change.

    Raises:
        BadRequestError: if it has another format.
        InvalidTargetError: if it can't be accepted.
    """
    return make_change(decode(ChangeRequest, line), allowed)


async def take_lines(
    chunks: AsyncIterator[bytes],
    most_bytes: int,
    allowed: TargetRules,
    append: Callable[[list[Change]], Awaitable[Sequence[Position]]],
    outcome: BulkOutcome,
) -> None:
    """Append all acceptable lines of a stream to the log.

    Args:
        chunks: of the stream.
        most_bytes: the longest line.
        allowed: the rules for targets.
        append: appends changes to the log.
        outcome: kept up to date, even if this raises.

    Raises:
        BadRequestError: if too many lines are empty, too long or refused, or the body is not in its declared encoding.
        PushbackError: if the log accepts no more records for too long; ``outcome`` says which lines are on the log.
        BusError: as ``append`` says.
    """
    batch: list[Change] = []
    size = 0
    under_way: asyncio.Task[None] | None = None
    turns = Turns()

    async def bring(changes: list[Change]) -> None:
        outcome.accept(len(changes), await _patiently(append, changes))

    try:
        async for number, line in split_lines(chunks, most_bytes):
            if line is None:
                outcome.refuse(number, f"the line is longer than {most_bytes} bytes (ingest.bulk_line_bytes)")
                await turns.take()
                continue
            await turns.take(len(line))
            try:
                batch.append(read_line(line, allowed))
            except (BadRequestError, InvalidTargetError) as error:
                outcome.refuse(number, str(error))
                continue
            size += len(line)
            if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
                if under_way is not None:
                    await under_way
                under_way = asyncio.create_task(bring(batch))
                batch, size = [], 0
    finally:
        # Lines that were read before the connection broke are accepted: sending them again is safe.
        if under_way is not None:
            await under_way
    if batch:
        await bring(batch)


async def _patiently(append: Callable[[list[Change]], Awaitable[Sequence[Position]]], changes: list[Change]) -> Sequence[Position]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PUSHBACK_SECONDS
    while True:
        try:
            return await append(changes)
        except PushbackError as error:
            if loop.time() + error.retry_after > deadline:
                raise
            await asyncio.sleep(error.retry_after)
