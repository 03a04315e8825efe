"""Tasks whose id was made before their records were appended, because the records have the id in them (``added_by_task_id``).

Such an id names the request and an offset in one partition. The first record with that name, at or above that offset, says where the others
are (``Changes.parts``). Usually it is within a few records; a read that is too long ends without a result.
"""

import asyncio
from contextlib import aclosing

from tufline.bus import Bus, Record
from tufline.bus.scan import scan
from tufline.records import Part, cursor, topics
from tufline.records.cursor import Cursor
from tufline.runtime.passed_over import PassedOver
from tufline.views.task_receipts import FETCH_BYTES
from tufline_ingest.rest.bulk_tasks import read_changes


async def find_records(bus: Bus, named: Cursor, most_bytes: int, passed: PassedOver) -> Cursor | None:
    """Find the records of a named request.

    Args:
        bus: the log.
        named: a cursor in ``NAMED_FORMAT``.
        most_bytes: how many bytes of records may be read in all.
        passed: notified of records that can't be read.

    Returns:
        A cursor with the positions of all records; None if they are not on the log (yet), or can't be found by reading that much.

    Raises:
        BusError: if the log can't be read now.
    """
    search = _Search(bus, named.request, most_bytes, passed)
    ((partition, (start,)),) = named.positions.items()
    if partition >= bus.partitions(topics.ARTIFACTS):
        return None
    first = await search.find(Part(partition, start, 1))
    changes = read_changes(first[0].value) if first else None
    parts = changes.parts if changes is not None else None
    if not isinstance(parts, tuple) or changes is None or changes.request != named.request:
        return None
    found: list[Record] = []
    for part in parts:
        is_place = 0 <= part.partition < bus.partitions(topics.ARTIFACTS) and part.start >= 0 < part.records
        of_part = await search.find(part) if is_place else []
        if not of_part or len(of_part) < part.records:
            return None
        found += of_part
    positions: dict[int, list[int]] = {}
    for record in found:
        positions.setdefault(record.partition, []).append(record.offset)
    return Cursor(cursor.FORMAT, named.task, named.log, max(record.time for record in found), positions, hold=named.hold)


class _Search:
    """Reads records of ``artifacts`` by the name of their request, up to a number of bytes."""

    def __init__(self, bus: Bus, request: str, most_bytes: int, passed: PassedOver) -> None:
        self._bus = bus
        self._request = request
        self._room = most_bytes
        self._passed = passed

    async def find(self, part: Part) -> list[Record]:
        found: list[Record] = []
        reading = scan(self._bus, topics.ARTIFACTS, part.partition, part.start, max_bytes=FETCH_BYTES, passed=self._passed)
        async with aclosing(reading) as batches:
            async for batch in batches:
                for record in batch:
                    self._room -= len(record.value)
                    if record.key == self._request:
                        found.append(record)
                    if len(found) >= part.records or self._room < 0:
                        return found
                await asyncio.sleep(0)  # a fetch from memory does not yield to other tasks
        return found
