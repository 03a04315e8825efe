"""Where a publisher resumes: the origin's owner, its published commit, and the offset of ``metadata`` from which nothing is missed.

In: the log, the origin. Out: the ``Origin``, and an offset: 0 to upload everything (again), otherwise the one recorded by the last
publication. An origin without an owner is claimed if this log may claim it.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog
from tuf.api.metadata import Snapshot

from tufline.bus import Bus
from tufline.errors import ForeignOriginError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.snapshot import read_snapshot, read_timestamp
from tufline.origin import provenance
from tufline.origin.owner import check_owner, claim, read_owner
from tufline.origin.store import TIMESTAMP, Store
from tufline.records import FileRef, Published
from tufline.runtime.passed_over import PassedOver
from tufline.views.published import last_published
from tufline_publisher.origin_state import Origin

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot of the log.

    Attributes:
        ref: version, offset and digest of the file.
        length: length of the file, in bytes.
        versions: role name to version.
    """

    ref: FileRef
    length: int
    versions: dict[str, int]


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The state of an origin, and where to resume.

    Attributes:
        origin: the files at the origin, and the published commit.
        offset: the offset in ``metadata`` to resume from.
        snapshot: the snapshot at the origin, if it is that of the last recorded publication.
    """

    origin: Origin
    offset: int
    snapshot: SnapshotFile | None = None


async def find_origin(bus: Bus, store: Store, name: str, now: datetime, passed: PassedOver) -> ResumePoint:
    """Read the state of an origin, and claim it if it has no owner.

    Args:
        bus: the log.
        store: the origin.
        name: name of the origin in ``published``.
        now: current time, with a time zone.
        passed: collects the records of ``published`` that can't be decoded.

    Returns:
        The state, and the offset to resume from.

    Raises:
        ForeignOriginError: if this log may not publish there.
        BusError: if the log can't be read.
        StoreError: if the origin can't be read, or has just changed.
    """
    is_claimed = await read_owner(store) is not None
    if is_claimed:
        await check_owner(store, bus.log_id)
    content = await store.get(TIMESTAMP)
    published = await last_published(bus, name, passed)
    last = None if published is None else published[1]
    least = last.timestamp.version if last is not None else 0
    is_known = content is not None and last is not None and envelope.sha256(content) == last.timestamp.sha256
    at_origin = provenance.PublishedAtOrigin(least) if is_known else await provenance.examine(bus, store, passed)
    if at_origin.damage and not is_claimed and not at_origin.has_root:
        raise ForeignOriginError(
            f"the origin's timestamp does not belong to this log ({at_origin.damage}): "
            "set publisher.directory to an empty directory, or to this log's own"
        )
    if not is_claimed:
        await claim(store, bus.log_id, now, expected=None)
        _log.info("publisher.claimed", origin=name, log=bus.log_id)
    if at_origin.damage:
        _log.warning("publisher.timestamp_damaged", origin=name, error=at_origin.damage)
    origin = Origin(await store.names(), content, least)
    if content is None or at_origin.damage:
        return ResumePoint(origin, 0)
    timestamp = last.timestamp if is_known and last is not None else FileRef(at_origin.version, -1, envelope.sha256(content))
    return await _read_shown(store, origin, timestamp, content, last)


async def _read_shown(store: Store, origin: Origin, timestamp: FileRef, content: bytes, last: Published | None) -> ResumePoint:
    origin.timestamp, origin.least = timestamp, max(origin.least, timestamp.version)
    try:
        named = read_timestamp(envelope.disassemble(content).signed)
        snapshot = await store.get(envelope.file_name(Snapshot.type, named.version))
        if snapshot is None or envelope.sha256(snapshot) != named.sha256:
            return ResumePoint(origin, 0)
        versions = read_snapshot(envelope.disassemble(snapshot).signed)
    except MetadataError:
        return ResumePoint(origin, 0)
    is_last = last is not None and last.snapshot.sha256 == named.sha256
    ref = last.snapshot if last is not None and is_last else FileRef(named.version, -1, named.sha256)
    if lost := origin.find(timestamp, ref, versions, asyncio.get_running_loop().time()):
        _log.warning("publisher.files_lost", files=len(lost), first=lost[0])
    if lost or last is None or timestamp.version < last.timestamp.version:
        return ResumePoint(origin, 0)  # the last condition: the origin was restored from an older backup
    return ResumePoint(origin, last.next_offset, SnapshotFile(ref, len(snapshot), versions) if is_last else None)
