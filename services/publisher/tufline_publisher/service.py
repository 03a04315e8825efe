"""The publisher as a service: brings ``metadata`` to one origin.

Workflow. Wait for root and targets, and find out where this origin stands; then follow ``metadata``: put versioned files as they come (they
are harmless until a snapshot names them); at the newest timestamp of what was read, make sure that all its snapshot names is at the
origin, make it durable, replace ``timestamp.json``, and append to ``published`` what is live. Steady state, catching up, a new mirror and a
rebuild are this one way, from another offset.

In: ``metadata``. Out: the origin, ``published``.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Final

import structlog
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import metafile, records, topics
from tufline.bus import Bus, Message, Record
from tufline.bus.last import last_record
from tufline.bus.partitions import own_partitions
from tufline.clock import Clock, utc_now
from tufline.config import PublisherConfig
from tufline.errors import MetadataError, RecordError
from tufline.health import Health
from tufline.records import VECTOR_HEADER, VERSION_HEADER, FileRef, Head, Published, Vector
from tufline.snapshot import read_snapshot
from tufline.store import TIMESTAMP, Store
from tufline_publisher import metrics
from tufline_publisher.chain import Chain
from tufline_publisher.errors import ForeignOriginError, ReadAgainError
from tufline_publisher.origin import Origin
from tufline_publisher.roots import Roots, before_each_root, is_root

POLL_SECONDS: Final = 30.0
"""How long to wait for something new before looking for files to delete."""

DELETE_AT_ONCE: Final = 1000
"""The most files that are deleted between two batches."""

SNAPSHOTS_KEPT: Final = 4
"""How many snapshots' contents are kept while their timestamps have not come."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot of the log.

    Attributes:
        ref: where it is.
        length: in bytes.
        versions: role name to version.
    """

    ref: FileRef
    length: int
    versions: dict[str, int]


def part(origin: str) -> str:
    """Name the work on an origin, in health and logs.

    Args:
        origin: its name.

    Returns:
        The name.
    """
    return f"publisher.{origin}"


class Publisher:
    """Brings the log to one origin."""

    def __init__(self, bus: Bus, config: PublisherConfig, store: Store, clock: Clock, health: Health) -> None:
        """Begin with nothing known.

        Args:
            bus: the log.
            config: of this publisher.
            store: the origin.
            clock: the wall clock.
            health: where the publisher says how it is.
        """
        self._bus = bus
        self._config = config
        self._store = store
        self._clock = clock
        self._health = health
        self._part = part(config.origin)
        self._chain = Chain()
        self._trusted_from = 0
        self._refused = False
        self._roots = Roots(store)
        self._origin = Origin(set())
        self._snapshots: OrderedDict[int, SnapshotFile] = OrderedDict()
        self._candidate: Record | None = None
        self._unflushed = False

    async def run(self) -> None:
        """Publish, for ever.

        Raises:
            TuflineError: what the bus or the store can't do; begin again.
        """
        await self._wait_for_trust()
        offset = await self._find_origin()
        reader = self._bus.reader(topics.METADATA, 0, offset)
        try:
            while True:
                batch = await reader.fetch(max_wait=POLL_SECONDS)
                began = perf_counter()
                for some in before_each_root(batch):
                    await self._take(some)
                    await self._publish_newest(some[-1].offset + 1 if some else reader.position, began)
                await self._delete_superseded()
                if not batch:
                    self._check_not_ahead()
        finally:
            await reader.close()

    async def _wait_for_trust(self) -> None:
        """Read the newest root and targets: whatever else is on the log can be checked only with them."""
        self._health.problem(self._part, "waiting for the signer's first root and targets")
        reader = self._bus.reader(topics.HEADS, self._bus.partitions(topics.ARTIFACTS), 0)
        heads: dict[str, Head] = {}
        try:
            while not {Root.type, Targets.type} <= heads.keys():
                for record in await reader.fetch(max_wait=POLL_SECONDS):
                    content = records.decode(records.heads_decoder, record.value)
                    if isinstance(content, Head):
                        heads[record.key] = content
        finally:
            await reader.close()
        root, targets = (FileRef(heads[role].version, heads[role].offset, heads[role].sha256) for role in (Root.type, Targets.type))
        self._trusted_from = max(root.offset, targets.offset)
        self._chain.check_root(root.version, await self._read(f"{root.version}.{Root.type}", root))
        self._chain.check_targets(targets.version, await self._read(Targets.type, targets))

    async def _read(self, key: str, ref: FileRef) -> bytes:
        return await self._bus.read(topics.METADATA, 0, ref.offset, key=key, sha256=ref.sha256)

    async def _find_origin(self) -> int:
        """Find out what the origin shows, and from which offset to follow ``metadata`` so that nothing is missed.

        Returns:
            The offset; 0 to bring everything there (again).

        Raises:
            ForeignOriginError: if it shows what this log has not made.
        """
        self._origin = Origin(await self._store.names())
        content = await self._store.get(TIMESTAMP)
        if content is None:
            return 0
        last = await self._last_published()
        version = metafile.read_common(metafile.disassemble(content).signed).version
        known = last is not None and (last.timestamp.version, last.timestamp.sha256) == (version, metafile.sha256(content))
        if not known and not await self._is_on_log(version, content, last):
            raise ForeignOriginError(
                f"the origin shows timestamp version {version}, which is not of this log: it holds another repository, or a newer state "
                "than this log; point publisher.directory to an empty directory, or bring the right log back"
            )
        if last is None or not known:
            self._origin.timestamp = FileRef(version, -1, metafile.sha256(content))
            return 0
        snapshot = await self._store.get(metafile.file_name(Snapshot.type, last.snapshot.version))
        if snapshot is None or metafile.sha256(snapshot) != last.snapshot.sha256:
            return 0
        versions = read_snapshot(metafile.disassemble(snapshot).signed)
        if lost := self._origin.missing(versions):
            _log.warning("publisher.files_lost", origin=self._config.origin, files=len(lost), first=lost[0])
            return 0
        self._origin.show(last.timestamp, last.snapshot, versions, self._clock())
        self._origin.find_superseded(self._clock())
        self._remember(SnapshotFile(last.snapshot, len(snapshot), versions))
        self._health.ok(self._part)
        return last.next_offset

    async def _last_published(self) -> Published | None:
        def is_ours(record: Record) -> bool:
            return record.key == self._config.origin

        record = await last_record(self._bus, topics.PUBLISHED, 0, is_ours)
        return None if record is None else records.decode(records.published_decoder, record.value)

    async def _is_on_log(self, version: int, content: bytes, last: Published | None) -> bool:
        if last is not None and version < last.timestamp.version:
            return True  # an older state of ours, from a backup, say
        reader = self._bus.reader(topics.METADATA, 0, last.next_offset if last else 0)
        try:
            while batch := await reader.fetch(max_wait=0):
                if any(record.key == Timestamp.type and record.value == content for record in batch):
                    return True
        finally:
            await reader.close()
        return False

    async def _take(self, batch: Sequence[Record]) -> None:
        files: list[tuple[str, bytes]] = []
        for record in batch:
            try:
                name = self._check(record)
            except (MetadataError, RecordError, KeyError, ValueError) as error:
                if record.offset < self._trusted_from:
                    # Signed with keys of before, which the chain no longer knows; what is shown has been signed anew since.
                    _log.debug("publisher.passed_over", key=record.key, offset=record.offset, error=str(error))
                    continue
                self._refused = True
                metrics.refused.inc()
                self._health.problem(self._part, f"{record.key} at offset {record.offset} of metadata is not what clients accept: {error}")
                _log.error("publisher.refused", key=record.key, offset=record.offset, error=str(error))
                continue
            if is_root(record):
                await self._roots.take(record, self._origin)
            elif name is not None:
                files.append((name, record.value))
        if files:
            self._unflushed = True
            await self._store.put_many(files)
            self._origin.names.update(name for name, _ in files)
            metrics.files.inc(len(files))
            metrics.file_bytes.inc(sum(len(content) for _, content in files))

    def _check(self, record: Record) -> str | None:
        version = int(record.headers[VERSION_HEADER])
        role, content = record.key, record.value
        if role == Timestamp.type:
            self._candidate = record
            return None
        if role == f"{version}.{Root.type}":
            self._chain.check_root(version, content)
            return f"{role}.json"
        if role == Targets.type:
            self._chain.check_targets(version, content)
            if self._refused:
                raise ReadAgainError(f"targets {version} may vouch for what was refused before: reading it again")
        elif role == Snapshot.type:
            ref = FileRef(version, record.offset, metafile.sha256(content))
            self._remember(SnapshotFile(ref, len(content), self._chain.read_snapshot(version, content)))
        else:
            self._chain.check_bin(role, version, content)
        return metafile.file_name(role, version)

    def _remember(self, snapshot: SnapshotFile) -> None:
        self._snapshots[snapshot.ref.version] = snapshot
        while len(self._snapshots) > SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)

    async def _publish_newest(self, next_offset: int, began: float) -> None:
        record = self._candidate
        if record is None:
            return
        try:
            version = int(record.headers[VERSION_HEADER])
            vector = records.decode(records.vector_decoder, record.headers[VECTOR_HEADER].encode())
            named = self._chain.read_timestamp(version, record.value)
            snapshot = self._snapshots.get(named.version)
            if snapshot is None or (snapshot.length, snapshot.ref.sha256) != (named.length, named.sha256):
                raise MetadataError(f"timestamp {version} names a snapshot {named.version} that is not on the log")
            self._origin.check_forward(snapshot.versions)
            if missing := self._origin.missing(snapshot.versions):
                raise MetadataError(f"snapshot {named.version} names {len(missing)} files that are not there (yet), such as {missing[0]}")
        except (MetadataError, RecordError, KeyError, ValueError) as error:
            self._health.problem(self._part, f"the newest commit can't be published, waiting for the next: {error}")
            _log.warning("publisher.waiting", offset=record.offset, error=str(error))
            return
        timestamp = FileRef(version, record.offset, metafile.sha256(record.value))
        if not self._may_show(timestamp):
            return
        await self._show(timestamp, snapshot, record.value, vector, next_offset)
        self._candidate = None
        metrics.publish_seconds.observe(perf_counter() - began)

    def _may_show(self, timestamp: FileRef) -> bool:
        shown = self._origin.timestamp
        if timestamp.version == shown.version and timestamp.sha256 != shown.sha256:
            raise ForeignOriginError(f"the origin shows another timestamp version {shown.version} than the log has: two logs write to it")
        return timestamp.version >= shown.version

    async def _show(self, timestamp: FileRef, snapshot: SnapshotFile, content: bytes, vector: Vector, next_offset: int) -> None:
        is_new = timestamp.version > self._origin.timestamp.version
        if is_new:
            await self._roots.before(content, snapshot.ref.version, self._origin)
        if self._unflushed:
            # Also without a new timestamp: a restart begins at next_offset, and takes what is before it for durable.
            await self._store.flush()
            self._unflushed = False
        if is_new:
            await self._store.replace(TIMESTAMP, content)
        self._origin.show(timestamp, snapshot.ref, snapshot.versions, self._clock())
        await self._roots.after(content, snapshot.ref.version, self._origin)
        if (held := self._roots.first_held) is not None:
            next_offset = min(next_offset, held)
        published = Published(
            origin=self._config.origin, timestamp=timestamp, snapshot=snapshot.ref, vector=vector, next_offset=next_offset
        )
        await self._bus.append([Message(topics.PUBLISHED, self._config.origin, records.encode(published))])
        self._health.ok(self._part)
        metrics.published.inc()
        metrics.timestamp_version.set(timestamp.version)
        _log.info("publisher.published", version=timestamp.version, snapshot=snapshot.ref.version, new=is_new)

    def _check_not_ahead(self) -> None:
        if self._candidate is not None and self._origin.timestamp.version > int(self._candidate.headers[VERSION_HEADER]):
            raise ForeignOriginError(
                f"the origin shows timestamp version {self._origin.timestamp.version}, newer than all of this log: bring the right log back"
            )

    async def _delete_superseded(self) -> None:
        keep = timedelta(seconds=self._config.keep_superseded)
        names = self._origin.take_expired(self._clock(), keep, DELETE_AT_ONCE)
        if names:
            await self._store.delete_many(names)
            self._origin.deleted(names)
            metrics.deleted.inc(len(names))
            _log.info("publisher.deleted", files=len(names))


async def run(bus: Bus, config: PublisherConfig, store: Store, *, clock: Clock = utc_now, health: Health) -> None:
    """Publish to one origin, until cancelled.

    Args:
        bus: the log.
        config: of this publisher.
        store: the origin.
        clock: the wall clock.
        health: where the publisher says how it is.
    """

    async def work(_: int) -> None:
        await Publisher(bus, config, store, clock, health).run()

    await own_partitions(bus, part(config.origin), topics.METADATA, lambda _: part(config.origin), work, health)
