"""Fetching single files of the log: what a commit names and nothing has brought to the origin.

Such a file was refused before its keys were known, by a publisher before this one perhaps, or it has vanished from the origin. Where it is
on the log says the list of what was refused, or its head.

In: roles and versions. Out: their records of ``metadata``, as if they were read now.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import structlog

from tufline.bus import Bus, Record
from tufline.errors import BusError
from tufline.records import FileRef, Head, topics
from tufline.records.metadata import VERSION_HEADER, metadata_key
from tufline_publisher.refused_bins import RefusedFiles

FETCHED_AT_ONCE: Final = 64
"""How many files are fetched together, and are in memory at once."""

_log = structlog.get_logger(__name__)


async def fetch_files(
    bus: Bus, wanted: Mapping[str, int], heads: Mapping[str, Head], refused: RefusedFiles
) -> AsyncIterator[Sequence[Record]]:
    """Fetch files.

    Args:
        bus: the log.
        wanted: role name to version.
        heads: role name to its newest head.
        refused: what was refused.

    Yields:
        The records of those that are on the log and can be read, some at a time.

    Raises:
        BusError: if the log can't be read now.
    """
    found: list[tuple[str, FileRef]] = []
    for role, version in wanted.items():
        ref, head = refused.find(role, version), heads.get(role)
        if ref is None and head is not None and head.version == version:
            ref = FileRef(version, head.offset, head.sha256)
        if ref is not None:
            found.append((role, ref))
    for start in range(0, len(found), FETCHED_AT_ONCE):
        some = await asyncio.gather(*(_fetch(bus, role, ref) for role, ref in found[start : start + FETCHED_AT_ONCE]))
        yield [record for record in some if record is not None]


async def _fetch(bus: Bus, role: str, ref: FileRef) -> Record | None:
    key = metadata_key(role, ref.version)
    try:
        content = await bus.read(topics.METADATA, 0, ref.offset, key=key, sha256=ref.sha256)
    except BusError as error:
        if error.retriable:
            raise
        _log.error("publisher.fetch_failed", key=key, offset=ref.offset, error=str(error))
        return None
    return Record(topics.METADATA, 0, ref.offset, 0, key, content, {VERSION_HEADER: str(ref.version)})
