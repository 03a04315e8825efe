"""The commit worker: the one writer of root, targets, snapshot and timestamp.

Workflow. Take the last partition of ``heads`` over; at the bootstrap, publish root and targets; follow all other partitions of ``heads``;
when every bin exists, and from then on whenever something has changed, append one new snapshot with its timestamp: at once after a quiet
time, else at most once in the commit interval. The vector of progress that a commit covers goes with the timestamp; when only that has
moved, the same timestamp is appended again with the new vector. What nears its expiry is made anew, also when nothing else happens.

A snapshot never goes below the last one: it begins from what that names, and waits until the heads have been read as far as it covered.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import metafile, records, topics, trust
from tufline.bus import Message, Position, Record
from tufline.errors import RecordError, SchemaError
from tufline.follow import follow
from tufline.metafile import parse_expires
from tufline.records import PROGRESS_KEY, VECTOR_HEADER, Bootstrap, Committed, Head, Progress, Vector
from tufline.snapshot import Snapshot as SnapshotContent
from tufline.snapshot import encode_timestamp, read_snapshot
from tufline.tasks import all_of
from tufline.trust import RoleKeys
from tufline_signer import metrics, renewal
from tufline_signer.bins_worker import Shared, keys_of_bins
from tufline_signer.signing import SignedFile, ToSign
from tufline_signer.takeover import Owned, take_over

PART: Final = "signer.commits"
"""Names this work, in health, logs and as writer id."""

_log = structlog.get_logger(__name__)


def last_vector(owned: Owned, partitions: int) -> Vector:
    """Say how far the last commit goes.

    Args:
        owned: the last partition of ``heads``.
        partitions: of ``artifacts``.

    Returns:
        Its vector; nothing at all before the first commit.
    """
    return owned.progress.vector if isinstance(owned.progress, Committed) else Vector([0] * partitions, 0)


class CommitWorker:
    """Makes the commits, once it has taken the last partition of ``heads`` over."""

    def __init__(self, shared: Shared, owned: Owned, bootstrap: Bootstrap) -> None:
        """Begin with what the log says.

        Args:
            shared: of the process.
            owned: the last partition of ``heads``, taken over.
            bootstrap: of the repository.
        """
        self._shared = shared
        self._owned = owned
        self._bootstrap = bootstrap
        self._root = trust.parse(Root, bootstrap.root).signed
        self._bin_keys = keys_of_bins(bootstrap)
        self._bins_missing = {bootstrap.settings.layout.name(index) for index in range(bootstrap.settings.number_of_bins)}
        self._snapshot = SnapshotContent()
        self._folded = [0] * bootstrap.settings.partitions
        self._committed = last_vector(owned, bootstrap.settings.partitions)
        self._changed = False
        self._news = asyncio.Event()

    @property
    def _heads(self) -> dict[str, Head]:
        return self._owned.heads

    async def restore(self) -> None:
        """Read the last snapshot back, so that no version goes below it."""
        if head := self._heads.get(Snapshot.type):
            content = await self._read_back(Snapshot.type, head)
            for role, version in read_snapshot(metafile.disassemble(content).signed).items():
                self._snapshot.set(role, version)

    async def _read_back(self, role: str, head: Head) -> bytes:
        return await self._shared.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)

    async def publish_trust(self) -> None:
        """Append root and targets of the bootstrap, unless they are there."""
        if Root.type in self._heads:
            return
        root = self._given(Root.type, self._bootstrap.root)
        given = self._bootstrap.targets
        targets = await self._make_targets(1) if given is None else self._given(Targets.type, given)
        root_message = Message(topics.METADATA, f"{root.version}.root", root.content, headers=root.message().headers)
        await self._append([root, targets], [root_message, targets.message()])

    def _given(self, role: str, metadata: dict[str, object]) -> SignedFile:
        content = trust.file_bytes(metadata)
        file = metafile.disassemble(content)
        common = metafile.read_common(file.signed)
        return SignedFile(role, common.version, common.expires, content, [entry.keyid for entry in file.signatures])

    async def _make_targets(self, version: int) -> SignedFile:
        expires = metafile.expiry(self._shared.clock(), self._lifetime(Targets.type))
        signed, shown = trust.make_targets(self._root, self._bootstrap.settings, version, parse_expires(expires))
        return await self._sign(ToSign(Targets.type, version, expires, signed, shown))

    async def _sign(self, payload: ToSign) -> SignedFile:
        (file,) = await self._shared.keyring.sign(self._keys(payload.role), [payload])
        return file

    def _keys(self, role: str) -> RoleKeys:
        return trust.root_keys(self._root, role)

    def _lifetime(self, role: str) -> timedelta:
        return timedelta(days=self._bootstrap.settings.expiration_days[role])

    async def _append(self, files: Sequence[SignedFile], messages: Sequence[Message], vector: Vector | None = None) -> None:
        heads: dict[str, Head] = {}

        def then(positions: Sequence[Position]) -> list[Message]:
            heads.update({file.role: file.head(position) for file, position in zip(files, positions, strict=True)})
            named = {role: records.encode(head) for role, head in heads.items()}
            named[PROGRESS_KEY] = records.encode(Committed(vector=vector or self._committed))
            return [Message(topics.HEADS, key, value, self._owned.partition) for key, value in named.items()]

        await self._owned.writer.commit(messages, then)
        self._heads.update(heads)
        self._committed = vector or self._committed
        for role, head in heads.items():
            metrics.expires.labels(role).set(parse_expires(head.expires).timestamp())

    async def fold(self, partition: int, batch: Sequence[Record]) -> None:
        """Take note of new heads and progress.

        Args:
            partition: of ``heads``.
            batch: its next records.
        """
        for record in batch:
            try:
                content = records.decode(records.heads_decoder, record.value)
            except SchemaError:
                raise
            except RecordError as error:
                _log.error("commits.unreadable_head", partition=partition, offset=record.offset, error=str(error))
                continue
            match content:
                case Head() as head if len(self._bin_keys.keys.keys() & set(head.keyids)) < self._bin_keys.threshold:
                    _log.error("commits.foreign_head", role=record.key, version=head.version, reason="not signed by the keys of the bins")
                case Head() as head:
                    self._changed |= self._snapshot.set(record.key, head.version)
                    self._bins_missing.discard(record.key)
                case Progress() as progress:
                    self._folded[partition] = max(self._folded[partition], progress.offset)
        self._news.set()

    async def run(self) -> None:
        """Commit whenever there is something new or something nears its expiry, for ever."""
        config = self._shared.config
        loop = asyncio.get_running_loop()
        while True:
            # A request's changes lie in several partitions, whose workers end within moments of each other: one commit is to hold them all.
            await asyncio.sleep(config.commit_delay)
            began = loop.time()
            if await self.commit():
                await asyncio.sleep(max(0.0, began + config.commit_interval - loop.time()))
            try:
                async with asyncio.timeout(config.renewal_check):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def commit(self) -> bool:
        """Make one commit, if there is one to make.

        Returns:
            Whether there was.
        """
        self._news.clear()
        vector = Vector(list(self._folded), self._shared.admin.state.next_offset)
        if self._bins_missing or not vector.covers(self._committed):
            total = self._bootstrap.settings.number_of_bins
            waiting = f"{len(self._bins_missing)} of {total} bins do not exist yet" if self._bins_missing else "reading the heads"
            self._shared.health.problem(PART, f"waiting for the bins' signers: {waiting}")
            return False
        now = self._shared.clock()
        with metrics.commit_seconds.time():
            kind = await self._commit(vector, now)
        self._say_how_it_is(now)
        if kind:
            metrics.commits.labels(kind).inc()
        return bool(kind)

    async def _commit(self, vector: Vector, now: datetime) -> str:
        files: list[SignedFile] = []
        if self._bootstrap.targets is None and self._is_due(Targets.type, now):
            files.append(await self._make_targets(self._heads[Targets.type].version + 1))
            self._changed = True
        self._changed |= self._snapshot.set(Targets.type, files[0].version if files else self._heads[Targets.type].version)
        if self._changed or self._is_due(Snapshot.type, now):
            # What is folded from here on is for the next snapshot: this one is encoded before anything else can run.
            self._changed = False
            files.append(await self._make_snapshot(now))
            files.append(await self._make_timestamp(files[-1].version, files[-1].content, now))
        elif self._is_due(Timestamp.type, now):
            head = self._heads[Snapshot.type]
            files.append(await self._make_timestamp(head.version, await self._read_back(Snapshot.type, head), now))
        elif vector != self._committed:
            return await self._append_vector(vector)
        else:
            return ""
        header = {VECTOR_HEADER: records.encode_vector(vector)}
        await self._append(files, [*(file.message() for file in files[:-1]), files[-1].message(header)], vector)
        _log.info("commits.committed", version=files[-1].version, roles=[file.role for file in files], vector=vector.artifacts)
        return files[0].role

    async def _append_vector(self, vector: Vector) -> str:
        head = self._heads[Timestamp.type]
        content = await self._read_back(Timestamp.type, head)
        file = SignedFile(Timestamp.type, head.version, head.expires, content, head.keyids)
        await self._append([file], [file.message({VECTOR_HEADER: records.encode_vector(vector)})], vector)
        return "vector"

    def _is_due(self, role: str, now: datetime) -> bool:
        head = self._heads.get(role)
        return head is None or renewal.latest(head, self._lifetime(role), self._shared.config.renew_fraction) <= now

    async def _make_snapshot(self, now: datetime) -> SignedFile:
        version = self._next_version(Snapshot.type)
        expires = metafile.expiry(now, self._lifetime(Snapshot.type))
        return await self._sign(ToSign(Snapshot.type, version, expires, self._snapshot.encode(version, expires)))

    async def _make_timestamp(self, snapshot_version: int, snapshot: bytes, now: datetime) -> SignedFile:
        version = self._next_version(Timestamp.type)
        expires = metafile.expiry(now, self._lifetime(Timestamp.type))
        return await self._sign(ToSign(Timestamp.type, version, expires, encode_timestamp(version, expires, snapshot_version, snapshot)))

    def _next_version(self, role: str) -> int:
        head = self._heads.get(role)
        return head.version + 1 if head else 1

    def _say_how_it_is(self, now: datetime) -> None:
        offline = [Root.type] if self._bootstrap.targets is None else [Root.type, Targets.type]
        expired = [role for role in offline if parse_expires(self._heads[role].expires) <= now]
        if expired:
            self._shared.health.problem(
                PART, f"{' and '.join(expired)} has expired, so clients refuse the repository: sign a newer version offline"
            )
        else:
            self._shared.health.ok(PART)


async def work(shared: Shared) -> None:
    """Take the last partition of ``heads`` over and make the commits, for ever.

    Args:
        shared: of the process.

    Raises:
        FencedError: if another worker took it over.
        TuflineError: what the bus or the keys can't do; begin again.
    """
    partitions = shared.bus.partitions(topics.ARTIFACTS)
    async with take_over(shared.bus, PART, partitions) as owned:
        await _work(shared, owned, partitions)


async def _work(shared: Shared, owned: Owned, partitions: int) -> None:
    if shared.admin.state.bootstrap is None:
        shared.health.problem(PART, "waiting for the bootstrap: post it to /api/v1/bootstrap (see tufline init)")
    known = last_vector(owned, partitions).admin
    state = await shared.admin.wait_for(lambda state: state.bootstrap is not None and state.next_offset >= known)
    assert state.bootstrap is not None
    worker = CommitWorker(shared, owned, state.bootstrap)
    await worker.restore()
    await worker.publish_trust()
    folding = (follow(shared.bus, topics.HEADS, partition, 0, partial(worker.fold, partition)) for partition in range(partitions))
    await all_of(*folding, worker.run())
