"""The publisher's work on one origin.

Workflow. Wait for root and targets, and read the state of the origin. Then follow ``metadata``, and upload versioned files as they are
read (they are harmless until a snapshot names them). At the newest timestamp read so far, check that every file its snapshot names is at
the origin, flush the files to durable storage, replace ``timestamp.json``, and record the commit in ``published``. Steady state, catching
up, a new mirror and a rebuild all work this way; only the start offset differs.

Files that a client would refuse are skipped. If a commit names such a file nevertheless (its keys were not known yet), the publisher
fetches it from the offset in its head, once it has read the rest of the log. Older commits are published meanwhile. A file that clients do
not read, because targets does not delegate to its role, is only published for a commit that names it.

In: ``metadata``. Out: the origin, ``published``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final

import structlog
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.scan import fetch_past_damaged
from tufline.config.settings import PublisherConfig
from tufline.errors import ForeignOriginError, MetadataError, RecordError
from tufline.metadata import envelope
from tufline.origin import provenance
from tufline.origin.owner import check_owner
from tufline.origin.store import TIMESTAMP, Store
from tufline.records import FileRef, Head, Published, topics
from tufline.records.metadata import metadata_key, version_of
from tufline.reference_clock import ReferenceClock
from tufline.runtime import clock_watch
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.turns import Turns
from tufline_publisher import metrics
from tufline_publisher.delegated_roles import read_file
from tufline_publisher.errors import EarlyError, FilesLostError, UndelegatedError, UntrustedError
from tufline_publisher.metadata_reader import fetch_files
from tufline_publisher.named_versions import read_heads, wait_for_trust
from tufline_publisher.origin_writer import OriginWriter, now
from tufline_publisher.publication import Commit, Commits, vector_of
from tufline_publisher.refused_files import Refused, RefusedFiles
from tufline_publisher.resume import SnapshotFile, find_origin
from tufline_publisher.roots import Roots, before_each_root, is_root
from tufline_publisher.trust_chain import TrustChain

POLL_SECONDS: Final = 30.0
"""How long to wait for new records before checking for files to delete, in seconds."""

SIGNATURE_BYTES: Final = 1_000
"""The work of verifying a file's signatures, in bytes of JSON that take as long (``tufline.runtime.turns``)."""

_log = structlog.get_logger(__name__)


class Publisher:
    """Publishes the log to one origin."""

    def __init__(
        self, bus: Bus, config: PublisherConfig, store: Store, part: str, clock: ReferenceClock, health: Health, *, from_start: bool
    ) -> None:
        """Start without any state.

        Args:
            bus: the log.
            config: this publisher's settings.
            store: the origin.
            part: the name of the work in health and logs.
            clock: the wall clock, compared with the log's time.
            health: where the publisher reports problems.
            from_start: whether to upload everything again, whatever is at the origin.
        """
        self._bus = bus
        self._config = config
        self._store = store
        self._clock = clock
        self._health = health
        self._part = part
        self._chain = TrustChain()
        self._trusted_from = 0
        self._passed = PassedOver(health, self._part)
        self._refused = RefusedFiles()
        self._writer = OriginWriter(store, config, self._part, health)
        self._roots = Roots(store, self._writer.replace)
        self._commits = Commits()
        self._from_start = from_start

    async def run(self) -> None:
        """Publish until cancelled.

        Raises:
            TuflineError: if the bus or the store fails; the caller starts again.
        """
        try:
            await self._wait_for_trust()
            await self._follow(await self._find_origin())
        finally:
            self._passed.forget()
            self._health.gone(f"{self._part}.refused")

    async def _follow(self, offset: int) -> None:
        reader = self._bus.reader(topics.METADATA, 0, offset)
        wait = POLL_SECONDS
        try:
            while True:
                batch = await fetch_past_damaged(reader, self._passed, max_wait=wait)
                began = perf_counter()
                for some in before_each_root(batch):
                    await self._take(some)
                    await self._fetch_early(some)
                    await self._publish_newest(some[-1].offset + 1 if some else reader.position, began)
                if self._commits.waiting and not batch:
                    await self._fetch_what_is_missing()
                    await self._publish_newest(reader.position, began)
                # While a commit waits, its missing files are fetched as soon as the whole log is read.
                wait = 0.0 if self._commits.waiting and batch else POLL_SECONDS
                await self._writer.check()
                await self._writer.delete_superseded()
                if not batch:
                    await self._forget_unnamed()
                    self._check_stands()
        finally:
            await reader.close()

    async def _wait_for_trust(self) -> None:
        """Read the newest root and targets: everything else on the log is verified with their keys."""
        self._health.problem(self._part, "waiting for the signer's first root and targets")
        heads = await wait_for_trust(self._bus, self._passed)
        root, targets = (FileRef(heads[role].version, heads[role].offset, heads[role].sha256) for role in (Root.type, Targets.type))
        self._trusted_from = max(root.offset, targets.offset)
        self._chain.check_root(root.version, await self._read(metadata_key(Root.type, root.version), root))
        await asyncio.to_thread(self._chain.check_targets, targets.version, await self._read(Targets.type, targets))

    async def _read(self, key: str, ref: FileRef) -> bytes:
        return await self._bus.read(topics.METADATA, 0, ref.offset, key=key, sha256=ref.sha256)

    async def _find_origin(self) -> int:
        found = await find_origin(self._bus, self._store, self._config.origin, self._clock.wall(), self._passed)
        self._writer.resume(found.origin, await check_owner(self._store, self._bus.log_id))
        if found.snapshot is not None:
            self._commits.add_snapshot(found.snapshot)
        if self._from_start or not found.offset:
            self._from_start = True
            return 0
        self._health.ok(self._part)
        return found.offset

    async def _take(self, batch: Sequence[Record], *, is_named: bool = False) -> None:
        files: list[tuple[str, bytes]] = []
        turns = Turns()
        for record in batch:
            await turns.take(SIGNATURE_BYTES + len(record.value))
            try:
                name = await self._check(record, is_named=is_named)
            except (MetadataError, RecordError, ValueError) as error:
                self._refuse(record, error)
                continue
            self._passed.good(record)
            if is_root(record):
                await self._roots.take(record, self._writer.state)
            elif name is not None:
                files.append((name, record.value))
        await self._writer.put(files, self._chain)
        self._say_what_is_refused()

    def _refuse(self, record: Record, error: Exception) -> None:
        if record.offset < self._trusted_from:
            # Signed with earlier keys, which the chain no longer trusts; the current files have been signed again since.
            _log.debug("publisher.passed_over", key=record.key, offset=record.offset, error=str(error))
            return
        is_early = isinstance(error, EarlyError)
        if is_early:
            _log.info("publisher.early", key=record.key, offset=record.offset, error=str(error))
        else:
            metrics.refused.inc()
            _log.error("publisher.refused", key=record.key, offset=record.offset, error=str(error))
        if isinstance(error, UntrustedError):
            ref = FileRef(version_of(record), record.offset, envelope.sha256(record.value))
            self._refused.add(Refused(record.key, ref, str(error), now(), is_early))
        else:
            self._passed.add(record, str(error))

    def _say_what_is_refused(self) -> None:
        self._health.warn(f"{self._part}.refused", self._refused.problem)

    async def _check(self, record: Record, *, is_named: bool) -> str | None:
        version = version_of(record)
        role, content = record.key, record.value
        if role == Timestamp.type:
            read_file(role, role, version, content)
            vector_of(record)  # raises an error if the header is missing
            self._commits.add_timestamp(record)
            return None
        if role == metadata_key(Root.type, version):
            self._chain.check_root(version, content)
            return f"{role}.json"
        if role == Targets.type:
            # In a thread: thousands of custom roles take longer than other tasks may wait.
            await asyncio.to_thread(self._chain.check_targets, version, content)
        elif role == Snapshot.type:
            ref = FileRef(version, record.offset, envelope.sha256(content))
            self._commits.add_snapshot(SnapshotFile(ref, len(content), self._chain.read_snapshot(version, content)))
        else:
            self._check_delegated(role, version, content, is_named=is_named)
        self._refused.accepted(role, version)
        return envelope.file_name(role, version)

    def _check_delegated(self, role: str, version: int, content: bytes, *, is_named: bool) -> None:
        try:
            self._chain.delegated.take(role, version, content)
        except UndelegatedError:
            if not is_named:
                raise
            self._chain.delegated.take_unread(role, version, content)

    async def _publish_newest(self, next_offset: int, began: float) -> None:
        """Publish the newest complete commit, and report why a newer one can't be published.

        Args:
            next_offset: the offset after the last record read from ``metadata``.
            began: when the last batch was read, by ``perf_counter``.
        """
        problem = ""
        self._commits.drop_passed(self._writer.state.timestamp)
        for number, record in reversed([*enumerate(self._commits.waiting)]):
            if version_of(record) < self._writer.state.least:
                continue  # older than the published timestamp
            try:
                await self._verify_again(record)
                commit = self._commits.check(record, self._chain, self._writer.state)
            except MetadataError as error:
                problem = problem or f"the newest commit can't be published: {error}; waiting for what it lacks, or for the next commit"
                _log.warning("publisher.waiting", offset=record.offset, error=str(error))
                continue
            waiting = self._commits.waiting[number + 1 :]
            # A publisher that starts again must also read the commits that wait.
            await self._show(commit, record.offset + 1 if waiting else next_offset)
            self._commits.waiting = waiting
            metrics.publish_seconds.observe(perf_counter() - began)
            break
        if problem:
            self._health.problem(self._part, problem)

    async def _verify_again(self, record: Record) -> None:
        named = self._chain.read_timestamp(version_of(record), record.value)
        if (snapshot := self._commits.snapshot(named)) is not None:
            await self._writer.verify_again(snapshot.versions, self._chain)

    async def _fetch_what_is_missing(self) -> None:
        """Fetch the files that the newest commit names and that are missing at the origin.

        They were refused before their keys were known, possibly by an earlier publisher process, or they have vanished from the origin.
        """
        heads = await self._read_heads()
        known = {Root.type: self._chain.root_version, Targets.type: self._chain.targets_version}
        await self._fetch({role: heads[role].version for role in known if role in heads and heads[role].version > known[role]}, heads)
        newest = self._commits.newest(self._chain)
        if newest is None:
            return
        named = newest[1]
        if self._commits.snapshot(named) is None:
            await self._fetch({Snapshot.type: named.version}, heads)
        if (snapshot := self._commits.snapshot(named)) is None:
            return
        missing = set(self._writer.state.missing(snapshot.versions))
        wanted = {role: version for role, version in snapshot.versions.items() if envelope.file_name(role, version) in missing}
        # Targets first: they delegate to the bins' keys.
        for first in (True, False):
            some = {role: version for role, version in wanted.items() if (role == Targets.type) is first}
            await self._fetch(some, heads, is_named=True)
        await self._writer.count_what_was_left(snapshot.versions, self._chain)

    async def _fetch_early(self, batch: Sequence[Record]) -> None:
        """Fetch the files of custom roles that were refused before the targets that makes them valid, if that is in a batch."""
        if any(record.key == Targets.type for record in batch):
            refused = self._refused.newest
            await self._fetch({role: version for role, version in refused.items() if self._chain.delegated.is_named(role)}, {})

    async def _forget_unnamed(self) -> None:
        """Forget refused files that the signer did not write: ``next_offset`` must not wait for them."""
        if self._refused.first_offset is None:
            return
        before = now()
        heads = await self._read_heads()
        for one in self._refused.take_unnamed(heads, lambda role: self._passed.is_in_doubt(topics.HEADS, role), before):
            self._passed.add(Record(topics.METADATA, 0, one.ref.offset, 0, one.role, b"", {}), f"no head names it; {one.reason}")
        self._say_what_is_refused()

    async def _read_heads(self) -> dict[str, Head]:
        return await read_heads(self._bus, range(self._bus.partitions(topics.HEADS)), self._passed)

    async def _fetch(self, wanted: Mapping[str, int], heads: Mapping[str, Head], *, is_named: bool = False) -> None:
        async for some in fetch_files(self._bus, wanted, heads, self._refused):
            await self._take(some, is_named=is_named)

    async def _show(self, commit: Commit, next_offset: int) -> None:
        timestamp, snapshot, content = commit.timestamp, commit.snapshot, commit.content
        is_new = content != self._writer.state.content
        if is_new:
            await self._roots.before(content, snapshot.ref.version, self._writer.state)
        # Also without a new timestamp: a restart resumes at next_offset, and relies on all files before it being durable.
        await self._writer.flush()
        if is_new:
            await self._writer.replace(TIMESTAMP, content, self._writer.state.content)
        self._writer.state.show(timestamp, content, snapshot.ref, snapshot.versions, now())
        await self._roots.after(content, snapshot.ref.version, self._writer.state)
        self._refused.drop_passed(snapshot.versions | {Snapshot.type: snapshot.ref.version})
        # A publisher that starts again must read the held and refused records again: later keys may make them valid.
        held = [offset for offset in (self._roots.first_held, self._refused.first_offset) if offset is not None]
        published = Published(
            origin=self._config.origin,
            timestamp=timestamp,
            snapshot=snapshot.ref,
            vector=commit.vector,
            next_offset=min([next_offset, *held]),
        )
        message = Message(topics.PUBLISHED, self._config.origin, records.encode(published))
        await clock_watch.append(self._bus, [message], self._clock)
        self._health.ok(self._part)
        self._say_what_is_refused()
        metrics.published.inc()
        metrics.timestamp_version.set(timestamp.version)
        _log.info("publisher.published", version=timestamp.version, snapshot=snapshot.ref.version, new=is_new)

    def _check_stands(self) -> None:
        """Raise an error, once the whole log is read, for a commit that waits for something no further record can provide."""
        newest = self._commits.newest(self._chain)
        if newest is None:
            return
        version = version_of(newest[0])
        if version < self._writer.state.least:
            raise ForeignOriginError(provenance.ahead(self._writer.state.least, version))
        if not self._from_start:
            raise FilesLostError("files that the newest commit names are missing at the origin: uploading them again")
