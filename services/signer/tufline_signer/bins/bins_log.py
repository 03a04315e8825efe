"""The bins of one partition on the log: reads them back, and appends new versions with all that belongs to them in one transaction.

In: bins with their signed files, receipts, touched slots of held changes, and how far changes or publishes are applied. Out: one
transaction of bins, heads, slots, receipts and the progress. Which bins it has, and in which order, is decided in ``bins_writer``.

A transaction is a piece of a batch or of a publish. Each of its bins has a head whose ``applied`` tells up to where the bin has the
changes; so has a bin that only had its held changes changed, whose head is then written again without a new version.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Message, Position
from tufline.errors import RecordGoneError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.records import PROGRESS_KEY, PUBLISH_KEY, Head, Progress, held_key, pending_key, proposed_key, topics
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt, PublishReceipt
from tufline.trust.admin_state import AcceptedPublish
from tufline_signer import metrics
from tufline_signer.bins.batch import KeyedReceipt
from tufline_signer.bins.context import BinsContext
from tufline_signer.bins.held import Touched
from tufline_signer.bins.pending import Waiting
from tufline_signer.errors import InconsistentLogError
from tufline_signer.heads import OwnedHeads
from tufline_signer.signing.keyring import SignedFile

PIECE_BINS: Final = 400
"""The most bins in one transaction: the most signatures that Vault makes in one call."""

PIECE_BYTES: Final = MAX_TRANSACTION_BYTES * 3 // 4
"""The most bytes of bins and receipts in one transaction, estimated before the changes are applied; a single bin may need more."""

BIN_OVERHEAD_BYTES: Final = 2_000
"""The most bytes that a new version adds in addition to its entries: signatures of more keys than before, and the head."""

NAMED_BYTES: Final = 100_000
"""How many bytes of refused paths the receipts of one transaction of a publish name; the others are only counted."""

_log = structlog.get_logger(__name__)


class SignedBin(NamedTuple):
    """A bin in a new version, which is out of the cache until it is on the log."""

    file: SignedFile
    content: Bin


class Receipt(NamedTuple):
    """A receipt under its key: of a change, or of a transaction of a publish."""

    key: str
    receipt: ChangeReceipt | PublishReceipt


def receipt_of(publish: AcceptedPublish, roles: Iterable[str], refused: Mapping[str, str]) -> list[Receipt]:
    """Make the receipt of a transaction of a publish.

    Args:
        publish: the publish.
        roles: the bins that the transaction changes.
        refused: the path of each refused change, to the reason.

    Returns:
        The receipt; none if nothing was changed or refused.
    """
    named, size = [], 0
    for path in refused:
        size += len(path.encode()) + 3
        if size > NAMED_BYTES:
            break
        named.append(path)
    reason = next(iter(refused.values()), "")
    receipt = PublishReceipt(publish=publish.offset, roles=tuple(roles), refused=tuple(named), refusals=len(refused), reason=reason)
    return [Receipt(PUBLISH_KEY, receipt)] if receipt.roles or refused else []


class BinsLog:
    """The bins of one partition, after its takeover. Only the worker of the partition may use it."""

    def __init__(self, context: BinsContext, owned: OwnedHeads, bins: Iterable[str], custom: Iterable[str]) -> None:
        """Start with the state read from the log.

        Args:
            context: shared by the workers of the process.
            owned: the partition, taken over.
            bins: the names of its bins.
            custom: the names of all its custom roles so far.
        """
        self._context = context.signer
        self._cache = context.cache
        self._owned = owned
        self.partition = owned.partition
        self._names = frozenset(bins)
        known = {*self._names, *custom}
        # A replaced bootstrap may have left other bins.
        owned.heads = {role: head for role, head in owned.heads.items() if role in known}
        found = owned.progress if isinstance(owned.progress, Progress) else Progress(offset=0)
        self.progress = found.offset
        """An offset in ``artifacts``: every change below it is applied."""
        self.followed = 0
        """What new versions of custom roles have as ``admin`` (``Head``)."""
        self.behind: set[str] = set()
        """The custom roles that do not follow the newest delegations yet: new versions of them keep their ``admin``."""
        self._pending = found.pending
        self.published = found.publish
        """An offset in ``admin``: what the publishes below it release is released."""
        self._publishes = found.publishes or ReceiptIndex(0)
        # Without a trail, bins may be ahead of the progress, with receipts that are in no run.
        self._trail = found.trail or ReceiptIndex(max([found.offset, *(head.applied for head in owned.heads.values())]))

    @property
    def heads(self) -> dict[str, Head]:
        """Role name to its newest head."""
        return self._owned.heads

    def pieces(self, added: Mapping[str, int], at_last: int = 0) -> Iterator[list[str]]:
        """Distribute bins over transactions, each bin in one of them, so that it is written once.

        Args:
            added: role to the most bytes that its changes add.
            at_last: how many bytes the last piece has in addition.

        Yields:
            The role names of each piece; the last one may be empty.
        """
        piece: list[str] = []
        size = 0
        for role, more in added.items():
            length = (self.heads[role].length if role in self.heads else 0) + BIN_OVERHEAD_BYTES + more
            if piece and (len(piece) == PIECE_BINS or size + length > PIECE_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(role)
            size += length
        if piece:
            yield piece
        if piece and size + at_last > PIECE_BYTES:
            yield []

    async def load(self, roles: Iterable[str]) -> dict[str, Bin]:
        """Take bins out of the cache, or read them back from the log.

        Args:
            roles: the roles of bins that exist.

        Returns:
            Role name to its newest content, to be changed in place.

        Raises:
            InconsistentLogError: if a bin is not where its head says.
        """
        found: dict[str, Bin] = {}
        absent = []
        for role in roles:
            content = self._cache.take(role, self.heads[role])
            if content is None:
                absent.append(role)
            else:
                found[role] = content
        found.update(zip(absent, await asyncio.gather(*map(self.read_back, absent)), strict=True))
        metrics.bins_read_back.inc(len(absent))
        return found

    async def read_back(self, role: str) -> Bin:
        """Read the newest content of a bin or custom role from the log.

        Args:
            role: the role, which exists.

        Raises:
            InconsistentLogError: if it is not where its head says.
        """
        head = self.heads[role]
        try:
            content = await self._context.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)
        except RecordGoneError as error:
            raise InconsistentLogError(f"{role} version {head.version} is not at the offset in its head: {error}") from error
        return Bin.decode(envelope.disassemble(content).signed)

    def unchanged(self, role: str, content: Bin) -> None:
        """Put a bin that was loaded back into the cache.

        Args:
            role: the bin's name.
            content: the bin as it was loaded.
        """
        self._cache.put(role, self.heads[role].version, content)

    async def commit(
        self,
        signed: Sequence[SignedBin],
        held: Touched,
        receipts: Sequence[KeyedReceipt | Receipt] = (),
        progress: int | None = None,
        applied: int = 0,
        publish: AcceptedPublish | None = None,
        *,
        is_published: bool = False,
        waiting: Waiting | None = None,
    ) -> None:
        """Append bins with their heads, receipts, held changes and the progress in one transaction.

        Args:
            signed: the signed bins.
            held: what has changed in the held changes.
            receipts: receipts to append with them, all of changes or all of a publish.
            progress: the new progress; None if it does not move yet.
            applied: see ``Head``; it never goes back for any bin.
            publish: the publish that this is part of; None for changes.
            is_published: whether the publish is done with this transaction.
            waiting: what has changed in what waits for people; None if nothing has.

        Raises:
            FencedError: if another worker took the partition over.
            BusError: if the bus does not answer.
        """
        heads: dict[str, Head] = {}
        slots = [self._head_message(held_key(slot), records.encode(change)) for slot, change in held.slots.items()]
        if waiting is not None:
            slots += [self._head_message(pending_key(slot), records.encode(change)) for slot, change in waiting.slots.items()]
            slots += [self._head_message(proposed_key(role), records.encode(one)) for role, one in waiting.proposed.items()]
            self._pending = waiting.total
        # Neither the progress nor the last publish has moved since the start of the batch.
        trail, since, until = self._trail, self.progress, max(applied, progress or 0)
        if publish is not None:
            trail, since, until = self._publishes, self.published, publish.offset + 1
        state = Progress(
            offset=self.progress if progress is None else progress,
            trail=self._trail,
            publish=publish.offset + 1 if publish is not None and is_published else self.published,
            publishes=self._publishes if self._publishes.runs else None,
            held=held.total,
            max_held=self._context.config.max_held_changes,
            pending=self._pending,
            max_pending=self._context.config.max_pending_changes,
        )

        def then(positions: Sequence[Position]) -> list[Message]:
            nonlocal state
            for (file, _), position in zip(signed, positions, strict=False):
                known = self.heads.get(file.role)
                admin = 0 if file.role in self._names else self.followed
                if file.role in self.behind:
                    admin = known.admin if known else 0
                head = file.head(position, max(applied, known.applied if known else 0))
                heads[file.role] = msgspec.structs.replace(head, admin=admin)
            for role in held.roles - heads.keys():
                heads[role] = msgspec.structs.replace(self.heads[role], applied=max(applied, self.heads[role].applied))
            if places := [position.offset for position in positions if position.topic == topics.RECEIPTS]:
                extended = trail.extended(since, until, places[0], places[-1])
                state = msgspec.structs.replace(state, **{"trail" if publish is None else "publishes": extended})
            messages = [self._head_message(role, records.encode(head)) for role, head in heads.items()]
            # Every transaction repeats the progress, even if it has not moved, so that the newest one is always near the end of the
            # partition.
            return [*messages, *slots, self._head_message(PROGRESS_KEY, records.encode(state))]

        began = self._context.clock.monotonic()
        messages = [*(file.message() for file, _ in signed), *self._receipt_messages(receipts, trail, since)]
        positions = await self._owned.writer.commit(messages, then)
        self._context.clock.observe(positions[-1].time, began)
        self._trail, self.published = state.trail or self._trail, state.publish
        self._publishes = state.publishes or self._publishes
        self.heads.update(heads)
        for file, content in signed:
            self._cache.put(file.role, file.version, content)
        if progress is not None:
            self.progress = progress
        self._observe([file for file, _ in signed])

    def _head_message(self, key: str, value: bytes) -> Message:
        return Message(topics.HEADS, key, value, self.partition)

    def _receipt_messages(self, receipts: Sequence[KeyedReceipt | Receipt], trail: ReceiptIndex, since: int) -> list[Message]:
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
