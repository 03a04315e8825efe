"""Writes the bins of one partition: apply a batch, encode, sign, and append bins, heads and receipts in one transaction.

A batch is written in pieces that each fit into one transaction. Each bin of a batch is in one piece, so that it is rewritten once however
large the batch is. The last piece moves the progress, and has the receipts for changes that belong to no bin.

After a crash, each head's ``applied`` tells what its bin has already applied: those changes are skipped when they are read again.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import structlog

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Message, Position
from tufline.errors import InputLostError, RecordGoneError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.records import PROGRESS_KEY, Bootstrap, Head, Progress, topics
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt
from tufline.runtime.task_groups import one_behind
from tufline.trust.roles import BINS, RoleKeys
from tufline_signer import metrics, renewal
from tufline_signer.bins.batch import Batch, KeyedReceipt, apply_changes, pack
from tufline_signer.bins.context import BinsContext
from tufline_signer.errors import InconsistentLogError
from tufline_signer.heads import Owned
from tufline_signer.signing.key_selection import keys_of_bins
from tufline_signer.signing.keyring import SignedFile, ToSign

PIECE_BINS: Final = 400
"""The most bins in one transaction: the most signatures that Vault makes in one call."""

PIECE_BYTES: Final = MAX_TRANSACTION_BYTES * 3 // 4
"""The most bytes of bins and receipts in one transaction, estimated before the changes are applied; a single bin may need more."""

BIN_OVERHEAD_BYTES: Final = 2_000
"""The most bytes that a new version adds in addition to its entries: signatures of more keys than before, and the head."""

LOST_AT_ONCE: Final = 10_000
"""How many lost records get their receipts in one transaction."""

LOST: Final = "the record was lost from the log before it was applied: send it again"

_log = structlog.get_logger(__name__)


def part(partition: int) -> str:
    """Return the name of the work on a partition: in health, in logs, and as writer id.

    Args:
        partition: partition of ``artifacts``.

    Returns:
        ``signer.bins.`` and the partition's number.
    """
    return f"signer.bins.{partition}"


class _Signed(NamedTuple):
    file: SignedFile
    content: Bin


class BinsWriter:
    """Writes the bins of one partition, after its takeover."""

    def __init__(self, context: BinsContext, owned: Owned, bootstrap: Bootstrap) -> None:
        """Start with the state read from the log.

        Args:
            context: shared by the workers of the process.
            owned: the partition, taken over.
            bootstrap: the repository's bootstrap.
        """
        self._context = context.signer
        self._cache = context.cache
        self._pace = context.renewal
        self._owned = owned
        self.partition = owned.partition
        self._settings = bootstrap.settings
        names = set(bootstrap.settings.partitioning.names_in(owned.partition))
        # A replaced bootstrap may have left other bins.
        owned.heads = {role: head for role, head in owned.heads.items() if role in names}
        self._next_renewal_check = self._context.clock.monotonic()
        found = owned.progress if isinstance(owned.progress, Progress) else Progress(offset=0)
        self.progress = found.offset
        # Without a trail, bins may be ahead of the progress, with receipts that are in no run.
        self._trail = found.trail or ReceiptIndex(max([found.offset, *(head.applied for head in owned.heads.values())]))

    @property
    def _heads(self) -> dict[str, Head]:
        return self._owned.heads

    @property
    def _lifetime(self) -> timedelta:
        return timedelta(days=self._context.admin.repository.settings.expiration_days[BINS])

    def _under(self) -> list[RoleKeys]:
        return keys_of_bins(self._context.admin.repository, self._context.released)

    async def create_bins(self) -> None:
        """Create and sign the bins of this partition that do not exist yet."""
        missing = [role for role in self._settings.partitioning.names_in(self.partition) if role not in self._heads]
        async with one_behind() as follow:
            for start in range(0, len(missing), PIECE_BINS):
                signed = await self._sign({role: Bin() for role in missing[start : start + PIECE_BINS]})
                await follow(self._commit(signed))

    def new_batch(self) -> Batch:
        """Make an empty batch of this partition."""
        return Batch(self._settings.partitioning, self.partition)

    def is_most(self, bins: int) -> bool:
        """Return whether this many bins are more than half of the partition's.

        Args:
            bins: number of bins.
        """
        return 2 * bins > len(self._heads)

    async def apply(self, batch: Batch) -> int:
        """Apply a batch to the bins.

        Args:
            batch: the next records; consumed.

        Returns:
            How many bins it touched.
        """
        touches = len(batch.by_bin)
        await self._wait_for_admin(batch.admin)
        pieces = list(self._pieces(batch.bytes_by_bin, batch.receipt_bytes)) or [[]]
        # While one piece is appended, the next one is read, changed and signed.
        async with one_behind() as follow:
            for roles in pieces:
                is_last = roles is pieces[-1]
                contents = await self._load(roles)
                touched: dict[str, Bin] = {}
                receipts = [*batch.receipts] if is_last else []
                for role in roles:
                    changed, of_bin = apply_changes(contents[role], batch.by_bin.pop(role), self._heads[role].applied, batch.bulk)
                    receipts += of_bin
                    if changed:
                        touched[role] = contents[role]
                    else:
                        self._cache.put(role, self._heads[role].version, contents[role])
                progress = batch.next_offset if is_last else None
                await follow(self._commit(await self._sign(touched), pack(receipts, batch.bulk), progress, batch.next_offset))
        metrics.changes.inc(batch.changes)
        return touches

    async def _wait_for_admin(self, offset: int) -> None:
        admin = self._context.admin
        if offset > admin.state.next_offset:
            # Ingest names an offset that it has applied, which is on the log by now. A record with a later offset must not block the
            # worker.
            offset = min(offset, await self._context.bus.end(topics.ADMIN, 0))
        await admin.wait_for(lambda state: state.next_offset >= offset)

    async def pass_over(self, lost: InputLostError) -> None:
        """Move the progress past lost records, once an operator has accepted the loss; each gets a receipt that reports it.

        Args:
            lost: the range of the lost records.
        """
        for start in range(self.progress, lost.below, LOST_AT_ONCE):
            end = min(start + LOST_AT_ONCE, lost.below)
            gone = [ChangeReceipt(offset=offset, index=0, path="", outcome="refused", reason=LOST) for offset in range(start, end)]
            await self._commit([], [KeyedReceipt("", receipt) for receipt in gone], end)

    def _pieces(self, added: Mapping[str, int], at_last: int = 0) -> Iterator[list[str]]:
        """Distribute bins over transactions.

        Args:
            added: role to the most bytes that its changes add.
            at_last: how many bytes the last piece has in addition.

        Yields:
            The role names of each piece; the last one may be empty.
        """
        piece: list[str] = []
        size = 0
        for role, more in added.items():
            length = self._heads[role].length + BIN_OVERHEAD_BYTES + more
            if piece and (len(piece) == PIECE_BINS or size + length > PIECE_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(role)
            size += length
        if piece:
            yield piece
        if piece and size + at_last > PIECE_BYTES:
            yield []

    async def _load(self, roles: Iterable[str]) -> dict[str, Bin]:
        found: dict[str, Bin] = {}
        absent = []
        for role in roles:
            content = self._cache.take(role, self._heads[role])
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
            content = await self._context.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)
        except RecordGoneError as error:
            raise InconsistentLogError(f"{role} version {head.version} is not at the offset in its head: {error}") from error
        return Bin.decode(envelope.disassemble(content).signed)

    async def _sign(self, contents: dict[str, Bin]) -> list["_Signed"]:
        expires = envelope.expiry(self._context.clock.latest(), self._lifetime)
        versions = {role: self._heads[role].version + 1 if role in self._heads else 1 for role in contents}
        to_sign = [ToSign(role, versions[role], expires, content.encode(versions[role], expires)) for role, content in contents.items()]
        files = await self._context.keyring.sign(self._under(), to_sign, part(self.partition)) if to_sign else []
        return [_Signed(file, content) for file, content in zip(files, contents.values(), strict=True)]

    async def _commit(
        self, signed: Sequence["_Signed"], receipts: Sequence[KeyedReceipt] = (), progress: int | None = None, applied: int = 0
    ) -> None:
        """Append bins with their heads, receipts and the progress in one transaction.

        Args:
            signed: the signed bins, which are out of the cache.
            receipts: receipts to append with them.
            progress: the new progress; None if it does not move yet.
            applied: see ``Head``; it never goes back for any bin.
        """
        heads: dict[str, Head] = {}
        # The progress has not moved since the start of the batch.
        since, until, trail = self.progress, max(applied, progress or 0), self._trail

        def then(positions: Sequence[Position]) -> list[Message]:
            nonlocal trail
            for (file, _), position in zip(signed, positions, strict=False):
                known = self._heads.get(file.role)
                heads[file.role] = file.head(position, max(applied, known.applied if known else 0))
            places = [position.offset for position in positions if position.topic == topics.RECEIPTS]
            trail = self._trail.extended(since, until, places[0], places[-1]) if places else self._trail
            messages = [self._head_message(role, records.encode(head)) for role, head in heads.items()]
            return [*messages, *self._progress_message(progress, trail)]

        began = self._context.clock.monotonic()
        messages = [*(file.message() for file, _ in signed), *self._receipt_messages(receipts)]
        positions = await self._owned.writer.commit(messages, then)
        self._context.clock.observe(positions[-1].time, began)
        self._trail = trail
        self._heads.update(heads)
        for file, content in signed:
            self._cache.put(file.role, file.version, content)
        if progress is not None:
            self.progress = progress
        self._observe([file for file, _ in signed])

    def _head_message(self, key: str, value: bytes) -> Message:
        return Message(topics.HEADS, key, value, self.partition)

    def _progress_message(self, progress: int | None, trail: ReceiptIndex) -> list[Message]:
        # Every transaction repeats the progress, even if it has not moved, so that the newest one is always near the end of the partition.
        offset = self.progress if progress is None else progress
        return [self._head_message(PROGRESS_KEY, records.encode(Progress(offset=offset, trail=trail)))]

    def _receipt_messages(self, receipts: Sequence[KeyedReceipt]) -> list[Message]:
        messages = [Message(topics.RECEIPTS, request, records.encode(receipt), self.partition) for request, receipt in receipts]
        if receipts and self._trail.begins(self.progress):
            request, receipt = receipts[0]
            first = records.encode(msgspec.structs.replace(receipt, runs=self._trail.runs))
            messages[0] = Message(topics.RECEIPTS, request, first, self.partition)
        return messages

    def _observe(self, signed: Sequence[SignedFile]) -> None:
        metrics.bins_signed.inc(len(signed))
        metrics.bin_bytes.inc(sum(len(file.content) for file in signed))
        metrics.cache_bytes.set(self._cache.memory)
        _log.debug("bins.written", partition=self.partition, bins=len(signed), progress=self.progress)

    async def renew(self) -> float:
        """Sign some of the bins that are due for renewal.

        Returns:
            After how many seconds to call this again.
        """
        clock, pace = self._context.clock, self._pace
        if (wait := self._next_renewal_check - clock.monotonic()) > 0:
            return wait
        if wait := pace.wait:
            return wait
        # The most urgent first: even if renewal takes longer than the time it is spread over, every bin gets its turn.
        keyring, name, now = self._context.keyring, part(self.partition), clock.latest()
        under = [keys for keys in self._under() if await keyring.can_meet(keys, name)]
        lifetime = self._lifetime
        moments = {role: self._renewal(role, head, now, under, lifetime) for role, head in self._heads.items()}
        due = sorted((role for role, moment in moments.items() if moment <= now), key=moments.__getitem__)
        piece = next(self._pieces(dict.fromkeys(due, 0)), [])
        if piece:
            with pace.working():
                await self._commit(await self._sign(await self._load(piece)))
            metrics.renewals.inc(len(piece))
        if len(piece) < len(due):
            return pace.wait
        self._next_renewal_check = clock.monotonic() + self._context.config.renewal_check
        return self._context.config.renewal_check

    def _renewal(self, role: str, head: Head, now: datetime, under: Iterable[RoleKeys], lifetime: timedelta) -> datetime:
        is_signed = all(keys.are_met_by(head.keyids) for keys in under)
        if not is_signed or renewal.is_too_long(head, lifetime, now):
            return now
        return renewal.spread(role, head, lifetime, self._context.config.renew_fraction)
