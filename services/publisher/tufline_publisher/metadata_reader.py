"""Fetches single files from the log: files that a commit names and that are missing at the origin.

Such a file was refused before its keys were known, possibly by an earlier publisher process, or it has vanished from the origin. Its
offset comes from the list of refused files or from its role's head.

In: roles and versions. Out: their records of ``metadata``, as a reader would return them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import structlog

from tufline.bus import Bus, Record
from tufline.errors import BusError
from tufline.records import FileRef, Head, topics
from tufline.records.metadata import VERSION_HEADER, metadata_key
from tufline_publisher.refused_files import RefusedFiles

FETCHED_AT_ONCE: Final = 64
"""How many files are fetched concurrently and held in memory at once."""

_log = structlog.get_logger(__name__)


async def fetch_files(
    bus: Bus, wanted: Mapping[str, int], heads: Mapping[str, Head], refused: RefusedFiles
) -> AsyncIterator[Sequence[Record]]:
    """Fetch files from the log.

    Args:
        bus: the log.
        wanted: role name to version.
        heads: role name to its newest head.
        refused: the files that were refused, with their offsets.

    Yields:
        The records of the files that are on the log and can be read, at most ``FETCHED_AT_ONCE`` at a time.

    Raises:
        BusError: if the log is temporarily unavailable.
    """
    found: list[tuple[str, FileRef]] = []
    for role, version in wanted.items():
        # The head first: it is the signer's, while anyone who can write to the topic can add a file of the same version.
        head = heads.get(role)
        if head is not None and head.version == version:
            ref: FileRef | None = FileRef(version, head.offset, head.sha256)
        else:
            ref = refused.find(role, version)
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
