"""Writes the bins of one partition: apply a batch, encode, sign, and append bins, heads and receipts in one transaction.

A batch is written in pieces that each fit into one transaction. Each bin of a batch is in one piece, so that it is rewritten once however
large the batch is. The last piece moves the progress, and has the receipts for changes that belong to no bin.

After a crash, each head's ``applied`` tells what its bin has already applied: those changes are skipped when they are read again.

Held changes are in memory, and on the log as slots in ``heads`` (``tufline_signer.bins.held``). A slot changes in the transaction of its
bin's piece, whose head then says that the bin has this change, too: it is written again if the bin itself did not change. A publish
releases what is held below its end once everything below that end is applied. Its pieces free the slots, so after a crash in between the
same publish releases the rest.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import structlog

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Message, Position
from tufline.config.settings import HELD_WARNING_FRACTION
from tufline.errors import InputLostError, RecordGoneError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.records import PROGRESS_KEY, PUBLISH_KEY, Bootstrap, Head, Progress, held_key, topics
from tufline.records.cursor import MAX_OFFSET
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt, PublishReceipt
from tufline.runtime.task_groups import one_behind
from tufline.trust.admin_state import AcceptedPublish
from tufline.trust.roles import BINS, RoleKeys
from tufline_signer import metrics, renewal
from tufline_signer.bins.batch import Batch, KeyedReceipt, apply_changes, pack, release_changes
from tufline_signer.bins.context import BinsContext
from tufline_signer.bins.held import HeldChanges
from tufline_signer.errors import InconsistentLogError
from tufline_signer.heads import OwnedHeads
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

FREE_BYTES: Final = 100
"""The most bytes of a record that frees a slot of a held change."""

NAMED_BYTES: Final = 100_000
"""How many bytes of refused paths the receipts of one transaction of a publish name; the others are only counted."""

HELD_WARNING: Final = (
    "{} of at most {} changes are held: publish them (POST /api/v1/artifacts/publish) before further ones are refused "
    "(signer.max_held_changes)"
)

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


class _Slots(NamedTuple):
    """The new records of slots for held changes, the bins that they belong to, and how many changes are held with them."""

    messages: list[Message]
    roles: frozenset[str]
    held: int


def _receipt_of(publish: AcceptedPublish, roles: Iterable[str], refused: Mapping[str, str]) -> list["_Receipt"]:
    """Make the receipt of a transaction of a publish, if it has changed or refused anything."""
    named, size = [], 0
    for path in refused:
        size += len(path.encode()) + 3
        if size > NAMED_BYTES:
            break
        named.append(path)
    reason = next(iter(refused.values()), "")
    receipt = PublishReceipt(publish=publish.offset, roles=tuple(roles), refused=tuple(named), refusals=len(refused), reason=reason)
    return [_Receipt(PUBLISH_KEY, receipt)] if receipt.roles or refused else []


class _Receipt(NamedTuple):
    key: str
    receipt: ChangeReceipt | PublishReceipt


class BinsWriter:
    """Writes the bins of one partition, after its takeover."""

    def __init__(self, context: BinsContext, owned: OwnedHeads, bootstrap: Bootstrap) -> None:
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
        self._checked_admin = 0
        found = owned.progress if isinstance(owned.progress, Progress) else Progress(offset=0)
        self.progress = found.offset
        self.published = found.publish
        """An offset in ``admin``: what the publishes below it release is released."""
        self._publishes = found.publishes or ReceiptIndex(0)
        layout = bootstrap.settings.layout
        self._held = HeldChanges(owned.held, self._context.config.max_held_changes, lambda path: layout.name(layout.index_of(path)))
        self._report_held()
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
        """Make an empty batch of this partition; it ends where the next publish comes first."""
        publish = self._next_publish
        return Batch(self._settings.partitioning, self.partition, None if publish is None else publish.ends[self.partition])

    @property
    def _next_publish(self) -> AcceptedPublish | None:
        return self._context.admin.state.next_publish(self.published)

    @property
    def is_frozen(self) -> bool:
        """Whether changes wait on the log, and so do publishes."""
        return self._context.admin.state.frozen_since is not None

    @property
    def is_publish_due(self) -> bool:
        """Whether everything below the end of the next publish is applied."""
        publish = self._next_publish
        return publish is not None and publish.ends[self.partition] <= self.progress

    def is_most(self, bins: int) -> bool:
        """Return whether this many bins are more than half of the partition's.

        Args:
            bins: number of bins.
        """
        return 2 * bins > len(self._heads)

    async def apply(self, batch: Batch) -> int:
        """Apply a batch to the bins, unless changes wait by now, or a publish comes first: then nothing is applied.

        Args:
            batch: the next records; consumed.

        Returns:
            How many bins it touched; the progress has not moved if it was not applied.
        """
        touches = len(batch.by_bin)
        # A publish that was accepted before a change that is to be held, perhaps by another process, is on the log by now.
        await self._wait_for_admin(MAX_OFFSET if batch.holds else batch.admin)
        publish = self._next_publish
        if self.is_frozen or (publish is not None and publish.ends[self.partition] < batch.next_offset):
            return 0
        added = {role: size + FREE_BYTES * self._held.count_of(role) for role, size in batch.bytes_by_bin.items()}
        pieces = list(self._pieces(added, batch.receipt_bytes)) or [[]]
        # While one piece is appended, the next one is read, changed and signed.
        async with one_behind() as follow:
            for roles in pieces:
                is_last = roles is pieces[-1]
                contents = await self._load(role for role in roles if not all(change.hold for change in batch.by_bin[role]))
                touched: dict[str, Bin] = {}
                receipts = [*batch.receipts] if is_last else []
                for role in roles:
                    # A bin that only gets more held changes is not read.
                    content = contents.get(role, Bin())
                    changed, of_bin = apply_changes(content, batch.by_bin.pop(role), self._heads[role].applied, batch.bulk, self._held)
                    receipts += of_bin
                    if role in contents:
                        self._settle(role, content, touched, changed=changed)
                progress = batch.next_offset if is_last else None
                slots = self._slots()
                await follow(self._commit(await self._sign(touched), pack(receipts, batch.bulk), progress, batch.next_offset, slots))
        metrics.changes.inc(batch.changes)
        self._report_held()
        return touches

    def _settle(self, role: str, content: Bin, touched: dict[str, Bin], *, changed: bool) -> None:
        if changed:
            touched[role] = content
        else:
            self._cache.put(role, self._heads[role].version, content)

    async def publish_due(self) -> None:
        """Release what the next publishes release, if everything below their ends is applied, and changes do not wait."""
        while not self.is_frozen and self.is_publish_due:
            await self.publish_next()

    async def publish_next(self) -> None:
        """Release what the next publish releases. Everything below its end must be applied."""
        publish = self._next_publish
        if publish is None:
            return
        due = self._held.below(publish.ends[self.partition])
        added = {role: FREE_BYTES * len(changes) + sum(len(change.entry or b"") + 1 for change in changes) for role, changes in due.items()}
        pieces = list(self._pieces(added, NAMED_BYTES)) or [[]]
        for roles in pieces:
            contents = await self._load(roles)
            touched: dict[str, Bin] = {}
            refused: dict[str, str] = {}
            for role in roles:
                changed, of_bin = release_changes(contents[role], due[role])
                refused |= of_bin
                for change in due[role]:
                    self._held.drop(change.path)
                self._settle(role, contents[role], touched, changed=changed)
            receipt = _receipt_of(publish, touched, refused)
            await self._commit(await self._sign(touched), receipt, slots=self._slots(), publish=publish, is_published=roles is pieces[-1])
        self._report_held()
        _log.info("bins.published", partition=self.partition, publish=publish.offset, bins=len(due))

    def leave(self) -> None:
        """Stop reporting what is held: from here on another worker may have the partition."""
        self._context.health.gone(f"{part(self.partition)}.held")
        metrics.held_changes.remove(self.partition)

    def _report_held(self) -> None:
        limit = self._context.config.max_held_changes
        metrics.held_changes.labels(self.partition).set(self._held.count)
        is_near = self._held.is_nearly_full(HELD_WARNING_FRACTION)
        self._context.health.warn(f"{part(self.partition)}.held", HELD_WARNING.format(self._held.count, limit) if is_near else None)

    def _slots(self) -> _Slots:
        touched = self._held.take_touched()
        messages = [self._head_message(held_key(slot), records.encode(held)) for slot, held in touched.slots.items()]
        return _Slots(messages, frozenset(touched.roles), self._held.count)

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
        self,
        signed: Sequence["_Signed"],
        receipts: Sequence[KeyedReceipt | _Receipt] = (),
        progress: int | None = None,
        applied: int = 0,
        slots: _Slots | None = None,
        publish: AcceptedPublish | None = None,
        *,
        is_published: bool = False,
    ) -> None:
        """Append bins with their heads, receipts, held changes and the progress in one transaction.

        Args:
            signed: the signed bins, which are out of the cache.
            receipts: receipts to append with them, all of changes or all of a publish.
            progress: the new progress; None if it does not move yet.
            applied: see ``Head``; it never goes back for any bin.
            slots: the slots to append; None if none has changed.
            publish: the publish that this is part of; None for changes.
            is_published: whether the publish is done with this transaction.
        """
        heads: dict[str, Head] = {}
        slots = slots or _Slots([], frozenset(), self._held.count)
        # Neither the progress nor the last publish has moved since the start of the batch.
        trail, since, until = self._trail, self.progress, max(applied, progress or 0)
        if publish is not None:
            trail, since, until = self._publishes, self.published, publish.offset + 1
        state = Progress(
            offset=self.progress if progress is None else progress,
            trail=self._trail,
            publish=publish.offset + 1 if publish is not None and is_published else self.published,
            publishes=self._publishes if self._publishes.runs else None,
            held=slots.held,
            max_held=self._context.config.max_held_changes,
        )

        def then(positions: Sequence[Position]) -> list[Message]:
            nonlocal state
            for (file, _), position in zip(signed, positions, strict=False):
                known = self._heads.get(file.role)
                heads[file.role] = file.head(position, max(applied, known.applied if known else 0))
            for role in slots.roles - heads.keys():
                heads[role] = msgspec.structs.replace(self._heads[role], applied=max(applied, self._heads[role].applied))
            if places := [position.offset for position in positions if position.topic == topics.RECEIPTS]:
                extended = trail.extended(since, until, places[0], places[-1])
                state = msgspec.structs.replace(state, **{"trail" if publish is None else "publishes": extended})
            messages = [self._head_message(role, records.encode(head)) for role, head in heads.items()]
            # Every transaction repeats the progress, even if it has not moved, so that the newest one is always near the end of the
            # partition.
            return [*messages, *slots.messages, self._head_message(PROGRESS_KEY, records.encode(state))]

        began = self._context.clock.monotonic()
        messages = [*(file.message() for file, _ in signed), *self._receipt_messages(receipts, trail, since)]
        positions = await self._owned.writer.commit(messages, then)
        self._context.clock.observe(positions[-1].time, began)
        self._trail, self.published = state.trail or self._trail, state.publish
        self._publishes = state.publishes or self._publishes
        self._heads.update(heads)
        for file, content in signed:
            self._cache.put(file.role, file.version, content)
        if progress is not None:
            self.progress = progress
        self._observe([file for file, _ in signed])

    def _head_message(self, key: str, value: bytes) -> Message:
        return Message(topics.HEADS, key, value, self.partition)

    def _receipt_messages(self, receipts: Sequence[KeyedReceipt | _Receipt], trail: ReceiptIndex, since: int) -> list[Message]:
        messages = [Message(topics.RECEIPTS, key, records.encode(receipt), self.partition) for key, receipt in receipts]
        if receipts and trail.begins(since):
            key, receipt = receipts[0]
            first = records.encode(msgspec.structs.replace(receipt, runs=trail.runs))
            messages[0] = Message(topics.RECEIPTS, key, first, self.partition)
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
        clock, pace, repository = self._context.clock, self._pace, self._context.admin.repository
        if repository.next_offset > self._checked_admin:  # other keys, lifetimes or renewals may have made bins due
            self._checked_admin, self._next_renewal_check = repository.next_offset, clock.monotonic()
        if (wait := self._next_renewal_check - clock.monotonic()) > 0:
            return wait
        if wait := pace.wait:
            return wait
        # The most urgent first: even if renewal takes longer than the time it is spread over, every bin gets its turn.
        keyring, name, now = self._context.keyring, part(self.partition), clock.latest()
        under = [keys for keys in self._under() if await keyring.can_meet(keys, name)]
        lifetime, since = self._lifetime, repository.renew_since.get(BINS, 0)
        moments = {
            role: now if head.offset < since else self._renewal(role, head, now, under, lifetime) for role, head in self._heads.items()
        }
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

    @property
    def is_admin_new(self) -> bool:
        """Whether ``admin`` has a record that ``renew`` has not taken into account."""
        return self._context.admin.state.next_offset > self._checked_admin

    def _renewal(self, role: str, head: Head, now: datetime, under: Iterable[RoleKeys], lifetime: timedelta) -> datetime:
        is_signed = all(keys.are_met_by(head.keyids) for keys in under)
        if not is_signed or renewal.is_too_long(head, lifetime, now):
            return now
        return renewal.spread(role, head, lifetime, self._context.config.renew_fraction)
