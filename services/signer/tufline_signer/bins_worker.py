"""The bins worker of one partition: from ``artifacts`` to signed bins on the log.

Workflow. Take the partition over; make the bins that do not exist yet; then for ever: take what is there, sort it by bin, and write the
touched bins piece by piece: apply, encode, sign, and append bins, heads and receipts in one transaction. A piece holds at most as much as a
transaction may; each bin of a batch is in one piece, so that it is rewritten once however large the batch is. The last piece moves the
progress. In between, bins that near their expiry are signed anew.

What a crash leaves behind is told by each head's ``applied``: on the second reading a bin passes over what it has already.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from tuf.api.metadata import Root, Targets

from tufline import metafile, records, topics, trust
from tufline.bins import Bin
from tufline.bus import MAX_TRANSACTION_BYTES, Bus, Message, Position, Reader, Record
from tufline.clock import Clock
from tufline.config import SignerConfig
from tufline.errors import RecordGoneError
from tufline.follow import AdminFollower
from tufline.health import Health
from tufline.records import PROGRESS_KEY, Bootstrap, Head, Progress
from tufline.trust import RoleKeys
from tufline_signer import metrics, renewal
from tufline_signer.bins import BinCache, KeyedReceipt, apply_changes, sort_batch
from tufline_signer.errors import InconsistentLogError
from tufline_signer.signing import Keyring, SignedFile, ToSign
from tufline_signer.takeover import Owned, take_over

PIECE_BINS: Final = 400
"""The most bins in one transaction; as many signatures as Vault takes in one call."""

PIECE_BYTES: Final = MAX_TRANSACTION_BYTES * 3 // 4
"""The most bytes of bins in one transaction, as foreseen before the changes are applied."""

CHANGE_BYTES: Final = 400
"""What a change is foreseen to add to a bin."""

LARGE_BATCH_BYTES: Final = 1_000_000
"""Where there is as much, partitions take turns: a batch takes several times its size in memory, and while one partition is worked on, the
others' batches grow."""

BACKLOG_SECONDS: Final = 0.5
"""A batch that takes longer than this says that there is a backlog."""

QUIET_SECONDS: Final = 0.2
"""Under backlog, a batch is full when for so long nothing has come."""

LOADS: Final = 8
"""How many bins are read back from the log at once."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a process share.

    Attributes:
        bus: the log.
        config: of the signer.
        clock: the wall clock.
        health: where the parts say how they are.
        admin: the state folded from ``admin``.
        keyring: the online keys.
        cache: the bins in memory.
        large_batches: held while one is worked on.
    """

    bus: Bus
    config: SignerConfig
    clock: Clock
    health: Health
    admin: AdminFollower
    keyring: Keyring
    cache: BinCache
    large_batches: asyncio.Lock = field(default_factory=asyncio.Lock)


def keys_of_bins(bootstrap: Bootstrap) -> RoleKeys:
    """Say who signs the bins.

    Args:
        bootstrap: of the repository.

    Returns:
        The keys: of the offline targets' delegation, or the online targets' own (``trust.make_targets`` delegates to them).
    """
    if bootstrap.targets is None:
        return trust.root_keys(trust.parse(Root, bootstrap.root).signed, Targets.type)
    return trust.bin_keys(trust.parse(Targets, bootstrap.targets).signed)


class BinsWorker:
    """Writes the bins of one partition, once it has taken it over."""

    def __init__(self, shared: Shared, owned: Owned, bootstrap: Bootstrap) -> None:
        """Begin with what the log says.

        Args:
            shared: of the process.
            owned: the partition, taken over.
            bootstrap: of the repository.
        """
        self._shared = shared
        self._owned = owned
        self._settings = bootstrap.settings
        self._keys = keys_of_bins(bootstrap)
        self._lifetime = timedelta(days=bootstrap.settings.expiration_days["bins"])
        self._next_renewal_check = shared.clock()
        self.progress = owned.progress.offset if isinstance(owned.progress, Progress) else 0

    @property
    def _heads(self) -> dict[str, Head]:
        return self._owned.heads

    async def create_bins(self) -> None:
        """Make and sign the bins of this partition that do not exist yet."""
        missing = [
            role for role in self._settings.layout.names_in(self._owned.partition, self._settings.partitions) if role not in self._heads
        ]
        for start in range(0, len(missing), PIECE_BINS):
            await self._write({role: Bin() for role in missing[start : start + PIECE_BINS]}, [], None)

    async def apply(self, batch: Sequence[Record]) -> None:
        """Bring records of ``artifacts`` into the bins.

        Args:
            batch: the next ones, in order; not empty.
        """
        settings, partition = self._settings, self._owned.partition
        work = sort_batch(batch, settings.layout, partition, settings.partitions)
        await self._shared.admin.wait_for(lambda state: state.next_offset >= work.admin)
        receipts = work.receipts
        pieces = list(self._pieces({role: len(changes) for role, changes in work.by_bin.items()}))
        for roles in pieces:
            contents = await self._load(roles)
            touched: dict[str, Bin] = {}
            for role in roles:
                changed, of_bin = apply_changes(contents[role], work.by_bin[role], self._heads[role].applied)
                receipts += of_bin
                if changed:
                    touched[role] = contents[role]
                else:
                    self._shared.cache.put(role, self._heads[role].version, contents[role])
            last = roles is pieces[-1]
            await self._write(touched, receipts, work.next_offset if last else None, applied=work.next_offset)
            receipts = []
        if not pieces:
            await self._write({}, receipts, work.next_offset)
        metrics.changes.inc(sum(map(len, work.by_bin.values())))

    def _pieces(self, counts: dict[str, int]) -> Iterator[list[str]]:
        piece: list[str] = []
        size = 0
        for role, changes in counts.items():
            length = self._heads[role].length + changes * CHANGE_BYTES
            if piece and (len(piece) == PIECE_BINS or size + length > PIECE_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(role)
            size += length
        if piece:
            yield piece

    async def _load(self, roles: Iterable[str]) -> dict[str, Bin]:
        found: dict[str, Bin] = {}
        absent = []
        for role in roles:
            content = self._shared.cache.take(role, self._heads[role])
            if content is None:
                absent.append(role)
            else:
                found[role] = content
        for start in range(0, len(absent), LOADS):
            some = absent[start : start + LOADS]
            found.update(zip(some, await asyncio.gather(*map(self._read_back, some)), strict=True))
        metrics.bins_read_back.inc(len(absent))
        return found

    async def _read_back(self, role: str) -> Bin:
        head = self._heads[role]
        try:
            content = await self._shared.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)
        except RecordGoneError as error:
            raise InconsistentLogError(f"{role} version {head.version} is not where its head says: {error}") from error
        return Bin.decode(metafile.disassemble(content).signed)

    async def _write(self, contents: dict[str, Bin], receipts: Sequence[KeyedReceipt], progress: int | None, applied: int = 0) -> None:
        """Sign bins anew, and append them with their heads, receipts and the progress in one transaction.

        Args:
            contents: role name to its content; taken from the cache.
            receipts: to append with them.
            progress: the new one; None if there is more to come before it moves.
            applied: see ``Head``; no bin's goes back.
        """
        expires = metafile.expiry(self._shared.clock(), self._lifetime)
        versions = {role: self._heads[role].version + 1 if role in self._heads else 1 for role in contents}
        to_sign = [ToSign(role, versions[role], expires, content.encode(versions[role], expires)) for role, content in contents.items()]
        signed = await self._shared.keyring.sign(self._keys, to_sign) if to_sign else []
        heads: dict[str, Head] = {}

        def then(positions: Sequence[Position]) -> list[Message]:
            for file, position in zip(signed, positions, strict=False):
                known = self._heads.get(file.role)
                heads[file.role] = file.head(position, max(applied, known.applied if known else 0))
            return [*(self._head_message(role, records.encode(head)) for role, head in heads.items()), *self._progress_message(progress)]

        await self._owned.writer.commit([*(file.message() for file in signed), *self._receipt_messages(receipts)], then)
        self._heads.update(heads)
        for role, content in contents.items():
            self._shared.cache.put(role, versions[role], content)
        if progress is not None:
            self.progress = progress
        self._observe(signed)

    def _head_message(self, key: str, value: bytes) -> Message:
        return Message(topics.HEADS, key, value, self._owned.partition)

    def _progress_message(self, progress: int | None) -> list[Message]:
        # Every transaction says the progress, also where it has not moved: so the newest one is always near the end of the partition.
        offset = self.progress if progress is None else progress
        return [self._head_message(PROGRESS_KEY, records.encode(Progress(offset=offset)))]

    def _receipt_messages(self, receipts: Sequence[KeyedReceipt]) -> list[Message]:
        partition = self._owned.partition
        return [Message(topics.RECEIPTS, request, records.encode(receipt), partition) for request, receipt in receipts]

    def _observe(self, signed: Sequence[SignedFile]) -> None:
        metrics.bins_signed.inc(len(signed))
        metrics.bin_bytes.inc(sum(len(file.content) for file in signed))
        metrics.cache_bytes.set(self._shared.cache.memory)
        _log.debug("bins.written", partition=self._owned.partition, bins=len(signed), progress=self.progress)

    async def renew(self) -> bool:
        """Sign anew some of the bins whose time has come.

        Returns:
            Whether there are more.
        """
        now = self._shared.clock()
        if now < self._next_renewal_check:
            return False
        # The most urgent first: where renewing takes longer than the time that it is spread over, all bins still have their turn.
        moments = {role: self._renewal(role, head) for role, head in self._heads.items()}
        due = sorted((role for role, moment in moments.items() if moment <= now), key=moments.__getitem__)
        piece = next(self._pieces(dict.fromkeys(due, 0)), [])
        if piece:
            await self._write(await self._load(piece), [], None)
            metrics.renewals.inc(len(piece))
        if len(piece) < len(due):
            return True
        self._next_renewal_check = now + timedelta(seconds=self._shared.config.renewal_check)
        return False

    def _renewal(self, role: str, head: Head) -> datetime:
        return renewal.spread(role, head, self._lifetime, self._shared.config.renew_fraction)


def part(partition: int) -> str:
    """Name the work on a partition, in health, logs and as writer id.

    Args:
        partition: of ``artifacts``.

    Returns:
        The name.
    """
    return f"signer.bins.{partition}"


def size_of(batch: Iterable[Record]) -> int:
    """Say how large a batch is.

    Args:
        batch: records.

    Returns:
        Bytes of their values.
    """
    return sum(len(record.value) for record in batch)


async def gather_more(reader: Reader, config: SignerConfig, batch: list[Record], last_took: float) -> None:
    """Let a batch grow: by what is there, and under backlog by what comes, so that a bin is rewritten few times.

    A batch that took long says that there is a backlog. The next one then waits for more, as long as more comes, but no longer than the
    last one took: so the work for each change falls, and nothing becomes visible at less than half the pace.

    Args:
        reader: of the partition.
        config: of the signer.
        batch: what has been read already; what follows it is added.
        last_took: how long the last batch took, in seconds.
    """
    loop = asyncio.get_running_loop()
    linger = config.batch_delay if last_took < BACKLOG_SECONDS else max(config.batch_delay, last_took)
    deadline = loop.time() + linger
    while (room := config.batch_max_bytes - size_of(batch)) > 0:
        left = deadline - loop.time()
        some = await reader.fetch(max_wait=max(0.0, min(left, QUIET_SECONDS)), max_bytes=room)
        if not some:
            break
        batch += some


async def work(shared: Shared, partition: int) -> None:
    """Take a partition over and write its bins, for ever.

    Args:
        shared: of the process.
        partition: of ``artifacts``.

    Raises:
        FencedError: if another worker took the partition over.
        TuflineError: what the bus or the keys can't do; begin again.
    """
    owned = await take_over(shared.bus, part(partition), partition)
    if shared.admin.state.bootstrap is None:
        shared.health.problem(part(partition), "waiting for the bootstrap: post it to /api/v1/bootstrap (see tufline init)")
    state = await shared.admin.wait_for(lambda state: state.bootstrap is not None)
    assert state.bootstrap is not None
    worker = BinsWorker(shared, owned, state.bootstrap)
    await worker.create_bins()
    reader = shared.bus.reader(topics.ARTIFACTS, partition, worker.progress)
    config = shared.config
    _log.info("bins.ready", partition=partition, bins=len(owned.heads), progress=worker.progress)
    try:
        more, last_took = False, 0.0
        loop = asyncio.get_running_loop()
        while True:
            shared.health.ok(part(partition))
            batch = list(await reader.fetch(max_wait=0 if more else config.renewal_check, max_bytes=LARGE_BATCH_BYTES))
            if batch:
                is_large = last_took > BACKLOG_SECONDS or size_of(batch) > LARGE_BATCH_BYTES // 2
                async with shared.large_batches if is_large else nullcontext():
                    await gather_more(reader, config, batch, last_took)
                    gathered = loop.time()
                    await worker.apply(batch)
                    last_took = loop.time() - gathered
            more = await worker.renew()
    finally:
        await reader.close()
