"""The bins worker of one partition: from ``artifacts`` to signed bins on the log.

Workflow. Take the partition over; make the bins that do not exist yet; then for ever: take what is there, sort it by bin, and write the
touched bins piece by piece: apply, encode, sign, and append bins, heads and receipts in one transaction. A piece holds at most as much as a
transaction may; each bin of a batch is in one piece, so that it is rewritten once however large the batch is. The last piece moves the
progress. In between, bins that near their expiry are signed anew.

What a crash leaves behind is told by each head's ``applied``: on the second reading a bin passes over what it has already.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog
from tuf.api.metadata import Root, Targets

from tufline import metafile, records, topics, trust
from tufline.bins import Bin
from tufline.bus import MAX_TRANSACTION_BYTES, Bus, Message, Position, Reader
from tufline.clock import Clock
from tufline.config import SignerConfig
from tufline.errors import RecordGoneError
from tufline.follow import AdminFollower
from tufline.health import Health
from tufline.records import PROGRESS_KEY, Bootstrap, Head, Progress
from tufline.tasks import one_behind
from tufline.trust import RoleKeys
from tufline_signer import metrics, renewal
from tufline_signer.bins import Batch, BinCache, KeyedReceipt, apply_changes
from tufline_signer.errors import InconsistentLogError
from tufline_signer.signing import Keyring, SignedFile, ToSign
from tufline_signer.takeover import Owned, take_over

PIECE_BINS: Final = 400
"""The most bins in one transaction; as many signatures as Vault takes in one call."""

PIECE_BYTES: Final = MAX_TRANSACTION_BYTES * 3 // 4
"""The most bytes of bins in one transaction, as foreseen before the changes are applied."""

CHANGE_BYTES: Final = 400
"""What a change is foreseen to add to a bin."""

FETCH_BYTES: Final = 256 * 1024
"""How many bytes of records are sorted in one go: nothing else happens in that time."""

BACKLOG_BYTES: Final = 2_000_000
"""Where there is as much, there is a backlog: partitions take turns, each with as large a batch as memory allows."""

HEAVY_SECONDS: Final = 0.3
"""A batch that took longer, and that touched most bins of its partition, shows a backlog too."""

LINGER_SECONDS: Final = 10.0
"""Under backlog, how long a batch waits at most for more."""

TICK_SECONDS: Final = 0.5
TICK_GROWTH: Final = 0.1
"""It waits no longer when in a tick what waits has grown by less than this part."""

BUSY_SECONDS: Final = 0.05
"""How soon to ask again for a turn at renewing."""

_log = structlog.get_logger(__name__)


class Pace:
    """Leaves half of the time free: who renews everything at once must not hold up what is new, nor leave the publisher behind."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self._is_working = False
        self._next = 0.0

    @property
    def wait(self) -> float:
        """How long to wait before there may be more work, in seconds."""
        return BUSY_SECONDS if self._is_working else max(0.0, self._next - asyncio.get_running_loop().time())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work; then there is a pause as long as the work.

        Yields:
            Nothing.
        """
        loop = asyncio.get_running_loop()
        began, self._is_working = loop.time(), True
        try:
            yield
        finally:
            self._is_working = False
            self._next = 2 * loop.time() - began


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
        backlog: held by the partition whose turn it is.
        renewal: when the next bins may be renewed.
    """

    bus: Bus
    config: SignerConfig
    clock: Clock
    health: Health
    admin: AdminFollower
    keyring: Keyring
    cache: BinCache
    backlog: asyncio.Lock = field(default_factory=asyncio.Lock)
    renewal: Pace = field(default_factory=Pace)


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


class _Signed(NamedTuple):
    file: SignedFile
    content: Bin


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
        self.partition = owned.partition
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
        missing = [role for role in self._settings.layout.names_in(self.partition, self._settings.partitions) if role not in self._heads]
        async with one_behind() as follow:
            for start in range(0, len(missing), PIECE_BINS):
                signed = await self._sign({role: Bin() for role in missing[start : start + PIECE_BINS]})
                await follow(self._commit(signed))

    def new_batch(self) -> Batch:
        """Make an empty batch of this partition."""
        return Batch(self._settings.layout, self.partition, self._settings.partitions)

    def is_most(self, bins: int) -> bool:
        """Say whether so many bins are most of this partition's.

        Args:
            bins: how many.
        """
        return 2 * bins > len(self._heads)

    async def apply(self, batch: Batch) -> int:
        """Bring a batch into the bins.

        Args:
            batch: the next records; used up.

        Returns:
            How many bins it touched.
        """
        touches = len(batch.by_bin)
        await self._shared.admin.wait_for(lambda state: state.next_offset >= batch.admin)
        pieces = list(self._pieces({role: len(changes) for role, changes in batch.by_bin.items()})) or [[]]
        receipts = batch.receipts
        # While a piece goes to the log, the next one is read, changed and signed.
        async with one_behind() as follow:
            for roles in pieces:
                contents = await self._load(roles)
                touched: dict[str, Bin] = {}
                for role in roles:
                    changed, of_bin = apply_changes(contents[role], batch.by_bin.pop(role), self._heads[role].applied)
                    receipts += of_bin
                    if changed:
                        touched[role] = contents[role]
                    else:
                        self._shared.cache.put(role, self._heads[role].version, contents[role])
                progress = batch.next_offset if roles is pieces[-1] else None
                await follow(self._commit(await self._sign(touched), receipts, progress, batch.next_offset))
                receipts = []
        metrics.changes.inc(batch.changes)
        return touches

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
        found.update(zip(absent, await asyncio.gather(*map(self._read_back, absent)), strict=True))
        metrics.bins_read_back.inc(len(absent))
        return found

    async def _read_back(self, role: str) -> Bin:
        head = self._heads[role]
        try:
            content = await self._shared.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)
        except RecordGoneError as error:
            raise InconsistentLogError(f"{role} version {head.version} is not where its head says: {error}") from error
        return Bin.decode(metafile.disassemble(content).signed)

    async def _sign(self, contents: dict[str, Bin]) -> list["_Signed"]:
        expires = metafile.expiry(self._shared.clock(), self._lifetime)
        versions = {role: self._heads[role].version + 1 if role in self._heads else 1 for role in contents}
        to_sign = [ToSign(role, versions[role], expires, content.encode(versions[role], expires)) for role, content in contents.items()]
        files = await self._shared.keyring.sign(self._keys, to_sign) if to_sign else []
        return [_Signed(file, content) for file, content in zip(files, contents.values(), strict=True)]

    async def _commit(
        self, signed: Sequence["_Signed"], receipts: Sequence[KeyedReceipt] = (), progress: int | None = None, applied: int = 0
    ) -> None:
        """Append bins with their heads, receipts and the progress in one transaction.

        Args:
            signed: the bins; taken from the cache.
            receipts: to append with them.
            progress: the new one; None if there is more to come before it moves.
            applied: see ``Head``; no bin's goes back.
        """
        heads: dict[str, Head] = {}

        def then(positions: Sequence[Position]) -> list[Message]:
            for (file, _), position in zip(signed, positions, strict=False):
                known = self._heads.get(file.role)
                heads[file.role] = file.head(position, max(applied, known.applied if known else 0))
            return [*(self._head_message(role, records.encode(head)) for role, head in heads.items()), *self._progress_message(progress)]

        await self._owned.writer.commit([*(file.message() for file, _ in signed), *self._receipt_messages(receipts)], then)
        self._heads.update(heads)
        for file, content in signed:
            self._shared.cache.put(file.role, file.version, content)
        if progress is not None:
            self.progress = progress
        self._observe([file for file, _ in signed])

    def _head_message(self, key: str, value: bytes) -> Message:
        return Message(topics.HEADS, key, value, self.partition)

    def _progress_message(self, progress: int | None) -> list[Message]:
        # Every transaction says the progress, also where it has not moved: so the newest one is always near the end of the partition.
        offset = self.progress if progress is None else progress
        return [self._head_message(PROGRESS_KEY, records.encode(Progress(offset=offset)))]

    def _receipt_messages(self, receipts: Sequence[KeyedReceipt]) -> list[Message]:
        partition = self.partition
        return [Message(topics.RECEIPTS, request, records.encode(receipt), partition) for request, receipt in receipts]

    def _observe(self, signed: Sequence[SignedFile]) -> None:
        metrics.bins_signed.inc(len(signed))
        metrics.bin_bytes.inc(sum(len(file.content) for file in signed))
        metrics.cache_bytes.set(self._shared.cache.memory)
        _log.debug("bins.written", partition=self.partition, bins=len(signed), progress=self.progress)

    async def renew(self) -> float:
        """Sign anew some of the bins whose time has come.

        Returns:
            After how many seconds to look again.
        """
        now, pace = self._shared.clock(), self._shared.renewal
        if now < self._next_renewal_check:
            return (self._next_renewal_check - now).total_seconds()
        if wait := pace.wait:
            return wait
        # The most urgent first: where renewing takes longer than the time that it is spread over, all bins still have their turn.
        moments = {role: self._renewal(role, head) for role, head in self._heads.items()}
        due = sorted((role for role, moment in moments.items() if moment <= now), key=moments.__getitem__)
        piece = next(self._pieces(dict.fromkeys(due, 0)), [])
        if piece:
            with pace.working():
                await self._commit(await self._sign(await self._load(piece)))
            metrics.renewals.inc(len(piece))
        if len(piece) < len(due):
            return pace.wait
        self._next_renewal_check = now + timedelta(seconds=self._shared.config.renewal_check)
        return self._shared.config.renewal_check

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


async def fill(reader: Reader, batch: Batch, most_bytes: int, seconds: float, on_growth: Callable[[int], None] = lambda _: None) -> None:
    """Read into a batch what is there, and what comes meanwhile.

    Args:
        reader: of the partition.
        batch: read into.
        most_bytes: its memory when it is full.
        seconds: how long to wait for more.
        on_growth: told the batch's memory whenever it has grown.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (room := most_bytes - batch.memory) > 0:
        some = await reader.fetch(max_wait=max(0.0, deadline - loop.time()), max_bytes=min(FETCH_BYTES, room))
        if not some:
            return
        batch.add(some)
        on_growth(batch.memory)
        await asyncio.sleep(0)  # what is in memory is fetched without giving others their turn


async def linger(bus: Bus, partition: int, first: int) -> None:
    """Let the log grow, as long as it grows well, so that a bin is written few times for many changes.

    Args:
        bus: the log.
        partition: of ``artifacts``.
        first: the offset at which what waits begins.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LINGER_SECONDS
    end = await bus.end(topics.ARTIFACTS, partition)
    while loop.time() < deadline:
        await asyncio.sleep(TICK_SECONDS)
        before, end = end, await bus.end(topics.ARTIFACTS, partition)
        if end - before < TICK_GROWTH * (end - first):
            return


async def take_turn(shared: Shared, worker: BinsWorker, reader: Reader, batch: Batch, *, is_backlog: bool) -> bool:
    """Bring a batch into the bins, grown by the backlog if there is one.

    Without a backlog partitions work side by side, each as soon as it can. With one, a batch waits for more as long as more comes, then
    for its turn, and takes all that there is by then: so the work for each change falls, and one large batch at a time is in memory, where
    bins make room for it.

    Args:
        shared: of the process.
        worker: of the partition.
        reader: of the partition.
        batch: what was read first; used up.
        is_backlog: whether the last batch showed one.

    Returns:
        Whether this one showed one.
    """
    loop = asyncio.get_running_loop()
    config = shared.config
    await fill(reader, batch, min(BACKLOG_BYTES, config.batch_max_bytes), config.batch_delay)
    if batch.memory < BACKLOG_BYTES and not is_backlog:
        began = loop.time()
        return worker.is_most(await worker.apply(batch)) and loop.time() - began > HEAVY_SECONDS
    await linger(shared.bus, worker.partition, batch.first_offset)
    async with shared.backlog:
        began = loop.time()
        try:
            await fill(reader, batch, config.batch_max_bytes, 0.0, shared.cache.lend)
            return worker.is_most(await worker.apply(batch)) and loop.time() - began > HEAVY_SECONDS
        finally:
            shared.cache.lend(0)


async def work(shared: Shared, partition: int) -> None:
    """Take a partition over and write its bins, for ever.

    Args:
        shared: of the process.
        partition: of ``artifacts``.

    Raises:
        FencedError: if another worker took the partition over.
        TuflineError: what the bus or the keys can't do; begin again.
    """
    async with take_over(shared.bus, part(partition), partition) as owned:
        await _work(shared, owned, partition)


async def _work(shared: Shared, owned: Owned, partition: int) -> None:
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
        wait, is_backlog = 0.0, False
        while True:
            shared.health.ok(part(partition))
            if some := await reader.fetch(max_wait=wait, max_bytes=min(FETCH_BYTES, config.batch_max_bytes)):
                batch = worker.new_batch()
                batch.add(some)
                is_backlog = await take_turn(shared, worker, reader, batch, is_backlog=is_backlog)
            wait = await worker.renew()
    finally:
        await reader.close()
