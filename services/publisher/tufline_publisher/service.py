"""The publisher as a service: brings ``metadata`` to one origin.

Workflow. Wait for root and targets, and find out where this origin stands; then follow ``metadata``: put versioned files as they come (they
are harmless until a snapshot names them); at the newest timestamp of what was read, make sure that all its snapshot names is at the
origin, make it durable, replace ``timestamp.json``, and append to ``published`` what is live. Steady state, catching up, a new mirror and a
rebuild are this one way, from another offset.

In: ``metadata``. Out: the origin, ``published``.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import structlog
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import metafile, origins, records, topics
from tufline.bus import Bus, Message, Record
from tufline.bus.partitions import own_partitions
from tufline.clock import Clock, utc_now
from tufline.config import PublisherConfig
from tufline.errors import ForeignOriginError, MetadataError, RecordError, StoreBusyError, StoreChangedError
from tufline.health import Health
from tufline.origins import parse_name
from tufline.records import VECTOR_HEADER, VERSION_HEADER, FileRef, Published, Vector
from tufline.store import TIMESTAMP, Store
from tufline.store.owner import check_owner
from tufline_publisher import metrics
from tufline_publisher.chain import Chain
from tufline_publisher.errors import FilesLostError, ReadAgainError
from tufline_publisher.finding import SnapshotFile, find_origin
from tufline_publisher.heads import wait_for_trust
from tufline_publisher.origin import Origin
from tufline_publisher.roots import Roots, before_each_root, is_root

POLL_SECONDS: Final = 30.0
"""How long to wait for something new before looking for files to delete."""

LOOK_SECONDS: Final = 60.0
"""How often to look whether the origin still shows what was put there."""

DELETE_AT_ONCE: Final = 1000
"""The most files that are deleted between two batches."""

SNAPSHOTS_KEPT: Final = 4
"""How many snapshots' contents are kept while their timestamps have not come."""

_log = structlog.get_logger(__name__)


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

    def __init__(self, bus: Bus, config: PublisherConfig, store: Store, clock: Clock, health: Health, *, from_start: bool) -> None:
        """Begin with nothing known.

        Args:
            bus: the log.
            config: of this publisher.
            store: the origin.
            clock: the wall clock.
            health: where the publisher says how it is.
            from_start: whether to bring everything to the origin again, whatever it shows.
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
        self._roots = Roots(store, self._replace)
        self._origin = Origin(set())
        self._snapshots: OrderedDict[int, SnapshotFile] = OrderedDict()
        self._candidate: Record | None = None
        self._unflushed = False
        self._from_start = from_start
        self._next_look = _now() + LOOK_SECONDS

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
                await self._look()
                await self._delete_superseded()
                if not batch:
                    self._check_stands()
        finally:
            await reader.close()

    async def _wait_for_trust(self) -> None:
        """Read the newest root and targets: whatever else is on the log can be checked only with them."""
        self._health.problem(self._part, "waiting for the signer's first root and targets")
        heads = await wait_for_trust(self._bus)
        root, targets = (FileRef(heads[role].version, heads[role].offset, heads[role].sha256) for role in (Root.type, Targets.type))
        self._trusted_from = max(root.offset, targets.offset)
        self._chain.check_root(root.version, await self._read(f"{root.version}.{Root.type}", root))
        self._chain.check_targets(targets.version, await self._read(Targets.type, targets))

    async def _read(self, key: str, ref: FileRef) -> bytes:
        return await self._bus.read(topics.METADATA, 0, ref.offset, key=key, sha256=ref.sha256)

    async def _find_origin(self) -> int:
        found = await find_origin(self._bus, self._store, self._config.origin, self._clock())
        self._origin = found.origin
        if found.snapshot is not None:
            self._remember(found.snapshot)
        if self._from_start or not found.offset:
            self._from_start = True
            return 0
        self._health.ok(self._part)
        return found.offset

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
            await self._put(files)
            metrics.files.inc(len(files))
            metrics.file_bytes.inc(sum(len(content) for _, content in files))

    async def _put(self, files: Sequence[tuple[str, bytes]]) -> None:
        others = set(await self._store.put_many(files))
        for name, content in files:
            role, version = parse_name(name) or (name, 0)
            is_other = False
            if name in others and (there := await self._store.get(name)) != content:
                # What a crash left half-written is put again; but a version that clients accept has one content, ever.
                is_other = there is not None and self._chain.is_valid(role, version, there)
                if is_other:
                    _log.error("publisher.other_content", origin=self._config.origin, name=name)
                else:
                    await self._replace(name, content, there)
            self._origin.put(role, name, is_other=is_other)

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
            timestamp = FileRef(version, record.offset, metafile.sha256(record.value))
            if version < self._origin.least:
                return  # on the way to what has been shown before
            vector = records.decode(records.vector_decoder, record.headers[VECTOR_HEADER].encode())
            named = self._chain.read_timestamp(version, record.value)
            snapshot = self._snapshots.get(named.version)
            if snapshot is None or (snapshot.length, snapshot.ref.sha256) != (named.length, named.sha256):
                raise MetadataError(f"timestamp {version} names a snapshot {named.version} that is not on the log")
            self._origin.check_forward(timestamp, named.version, snapshot.versions)
            if missing := self._origin.missing(snapshot.versions):
                raise MetadataError(f"snapshot {named.version} names {len(missing)} files that are not there (yet), such as {missing[0]}")
        except (MetadataError, RecordError, KeyError, ValueError) as error:
            self._health.problem(self._part, f"the newest commit can't be published, waiting for the next: {error}")
            _log.warning("publisher.waiting", offset=record.offset, error=str(error))
            return
        await self._show(timestamp, snapshot, record.value, vector, next_offset)
        self._candidate = None
        metrics.publish_seconds.observe(perf_counter() - began)

    async def _show(self, timestamp: FileRef, snapshot: SnapshotFile, content: bytes, vector: Vector, next_offset: int) -> None:
        is_new = content != self._origin.content
        if is_new:
            await check_owner(self._store, self._bus.log_id)
            await self._roots.before(content, snapshot.ref.version, self._origin)
        if self._unflushed:
            # Also without a new timestamp: a restart begins at next_offset, and takes what is before it for durable.
            await self._store.flush()
            self._unflushed = False
        if is_new:
            await self._replace(TIMESTAMP, content, self._origin.content)
        self._origin.show(timestamp, content, snapshot.ref, snapshot.versions, _now())
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

    async def _replace(self, name: str, content: bytes, expected: bytes | None) -> None:
        # To begin again would change nothing while another process keeps the origin locked; health names it until it does not.
        while True:
            try:
                return await self._store.replace(name, content, expected=expected)
            except StoreBusyError as error:
                self._health.problem(self._part, str(error))
                _log.warning("publisher.locked_out", origin=self._config.origin, error=str(error))

    def _check_stands(self) -> None:
        """Say what no further record of the log will settle, now that all of it is read."""
        if self._candidate is None:
            return
        version = int(self._candidate.headers[VERSION_HEADER])
        if version < self._origin.least:
            raise ForeignOriginError(origins.ahead(self._origin.least, version))
        if not self._from_start:
            raise FilesLostError("files that the newest commit names are not at the origin: they are put again")

    async def _look(self) -> None:
        """Find out whether the origin still shows what was put there."""
        if _now() < self._next_look:
            return
        self._next_look = _now() + LOOK_SECONDS
        if await self._store.get(TIMESTAMP) != self._origin.content:
            raise StoreChangedError(f"{TIMESTAMP} was changed or deleted by somebody else; the origin is looked at again")
        if lost := self._origin.look(await self._store.names(), _now()):
            raise FilesLostError(f"{len(lost)} files have vanished from the origin, such as {lost[0]}: they are put again")

    async def _delete_superseded(self) -> None:
        names = self._origin.take_expired(_now(), self._config.keep_superseded, DELETE_AT_ONCE)
        if names:
            await self._store.delete_many(names)
            self._origin.deleted(names)
            metrics.deleted.inc(len(names))
            _log.info("publisher.deleted", files=len(names))


def _now() -> float:
    # How long a file is kept is counted from when it was superseded, whatever happens to the wall clock.
    return asyncio.get_running_loop().time()


async def run(bus: Bus, config: PublisherConfig, store: Store, *, clock: Clock = utc_now, health: Health) -> None:
    """Publish to one origin, until cancelled.

    Args:
        bus: the log.
        config: of this publisher.
        store: the origin.
        clock: the wall clock.
        health: where the publisher says how it is.
    """
    from_start = False

    async def work(_: int) -> None:
        nonlocal from_start
        publisher = Publisher(bus, config, store, clock, health, from_start=from_start)
        from_start = False
        try:
            await publisher.run()
        except FilesLostError:
            from_start = True
            raise

    await own_partitions(bus, part(config.origin), topics.METADATA, lambda _: part(config.origin), work, health)
