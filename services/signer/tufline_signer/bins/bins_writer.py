"""Writes the bins of one partition: applies batches, publishes what is held, and renews bins. ``bins_log`` has the transactions.

A custom role of the partition is written like a bin, but follows the delegations (``custom_roles``), and may have its own keys and lifetime
(``bins_signing``).

In: batches of changes, publishes and renewals that are due. Out: bins, encoded and signed, with what was not applied as receipts.

A batch is written in pieces that each fit into one transaction. Each bin of a batch is in one piece, so that it is rewritten once however
large the batch is. The last piece moves the progress, and has the receipts for changes that belong to no bin.

After a crash, each head's ``applied`` tells what its bin has already applied: those changes are skipped when they are read again.

Held changes are in memory, and on the log as slots in ``heads`` (``tufline_signer.bins.held``). A slot changes in the transaction of its
bin's piece, whose head then says that the bin has this change, too: it is written again if the bin itself did not change. A publish
releases what is held below its end once everything below that end is applied. Its pieces free the slots, so after a crash in between the
same publish releases the rest.
"""

from typing import Final

import structlog

from tufline.config.settings import HELD_WARNING_FRACTION
from tufline.errors import InputLostError
from tufline.metadata.bins import Bin
from tufline.records import Bootstrap, topics
from tufline.records.cursor import MAX_OFFSET
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import MOVED, Routing
from tufline.runtime.task_groups import one_behind
from tufline.trust.admin_state import AcceptedPublish
from tufline.trust.roles import BINS
from tufline_signer import metrics
from tufline_signer.bins.batch import Batch, KeyedReceipt, apply_changes, pack, release_changes
from tufline_signer.bins.bins_log import NAMED_BYTES, BinsLog, receipt_of
from tufline_signer.bins.bins_signing import BinsSigning
from tufline_signer.bins.context import BinsContext, part
from tufline_signer.bins.custom_roles import NO_KEY, CustomRoles
from tufline_signer.bins.held import HeldChange, HeldChanges
from tufline_signer.bins.pending import PendingChanges
from tufline_signer.bins.signed_by_people import SignedByPeople
from tufline_signer.heads import OwnedHeads

FREE_BYTES: Final = 100
"""The most bytes of a record that frees a slot of a held change."""

LOST_AT_ONCE: Final = 10_000
"""How many lost records get their receipts in one transaction."""

HELD_WARNING: Final = (
    "{} of at most {} changes are held: publish them (POST /api/v1/artifacts/publish) before further ones are refused "
    "(signer.max_held_changes)"
)

PENDING_WARNING: Final = (
    "{} of at most {} changes wait for people to sign their custom roles: have them signed (GET /api/v1/metadata/sign) before further ones "
    "are refused (signer.max_pending_changes)"
)

LOST: Final = "the record was lost from the log before it was applied: send it again"

_log = structlog.get_logger(__name__)


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
        self._pace = context.renewal
        self._settings = bootstrap.settings
        custom = self._routing.custom_in(owned.partition)
        self._bins = BinsLog(context, owned, bootstrap.settings.partitioning.names_in(owned.partition), custom)
        self._next_renewal_check = self._context.clock.monotonic()
        self._checked_admin = 0
        self._held = HeldChanges(owned.held, self._context.config.max_held_changes, self._routing.bin_of)
        self._signing = BinsSigning(self._context, self._bins)
        self._pending = PendingChanges(owned.pending, owned.proposed, self._context.config.max_pending_changes)
        self._people = SignedByPeople(self._context, self._bins, self._held, self._pending, self._signing)
        self._custom = CustomRoles(self._context, self._bins, self._held, self._signing, self._people)
        self._report_held()

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self._bins.partition

    @property
    def progress(self) -> int:
        """An offset in ``artifacts``: every change below it is applied."""
        return self._bins.progress

    @property
    def _routing(self) -> Routing:
        return self._context.admin.repository.routing

    async def create_bins(self) -> None:
        """Create and sign the bins and custom roles of this partition that do not exist yet."""
        missing = [role for role in self._settings.partitioning.names_in(self.partition) if role not in self._bins.heads]
        async with one_behind() as follow:
            for roles in [*self._bins.pieces(dict.fromkeys(missing, 0))]:
                await follow(self._bins.commit(await self._signing.sign({role: Bin() for role in roles}), self._held.take_touched()))
        await self._custom.follow(self._routing)

    def new_batch(self) -> Batch:
        """Make an empty batch of this partition; it ends where the next publish comes first."""
        publish = self._next_publish
        return Batch(self._routing, self.partition, None if publish is None else publish.ends[self.partition])

    @property
    def _next_publish(self) -> AcceptedPublish | None:
        return self._context.admin.state.next_publish(self._bins.published)

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
        return 2 * bins > len(self._bins.heads)

    async def apply(self, batch: Batch) -> int:
        """Apply a batch to the bins, unless changes wait by now, a publish comes first, or the delegations have changed.

        Args:
            batch: the next records; consumed.

        Returns:
            How many bins it touched; the progress has not moved if it was not applied.
        """
        # What was accepted before these changes, perhaps by another process, is on the log by now: a publish before changes that are to be
        # held, or other delegations.
        await self._wait_for_admin(MAX_OFFSET)
        publish = self._next_publish
        if self.is_frozen or (publish is not None and publish.ends[self.partition] < batch.next_offset):
            return 0
        if batch.routing is not self._routing:
            return 0
        await self._custom.follow(batch.routing)
        if batch.signature is not None:
            await self._people.sign(*batch.signature)
            self._report_held()
            return 1
        of_people = {role for role in batch.by_bin if self._people.has(role)}
        for role in [role for role in batch.by_bin if role not in self._bins.heads or role in self._bins.behind]:
            if role not in of_people:
                batch.refuse_all(role, NO_KEY.format(role, "see the health of the signer"))
        touches = len(batch.by_bin)
        added = {role: size + FREE_BYTES * self._held.count_of(role) for role, size in batch.bytes_by_bin.items()}
        pieces = list(self._bins.pieces(added, batch.receipt_bytes)) or [[]]
        # While one piece is appended, the next one is read, changed and signed.
        async with one_behind() as follow:
            for roles in pieces:
                is_last = roles is pieces[-1]
                contents = await self._bins.load(
                    role for role in roles if role not in of_people and not all(change.hold for change in batch.by_bin[role])
                )
                touched: dict[str, Bin] = {}
                receipts = [*batch.receipts] if is_last else []
                for role in roles:
                    if role in of_people:
                        receipts += await self._people.apply(role, batch.take(role), batch.next_offset, batch.shared)
                        continue
                    # A bin that only gets more held changes is not read.
                    content = contents.get(role, Bin())
                    changed, of_bin = apply_changes(
                        content,
                        batch.take(role),
                        self._bins.heads[role].applied,
                        batch.bulk,
                        self._held,
                        role=role,
                        shared=batch.shared,
                    )
                    receipts += of_bin
                    if changed:
                        touched[role] = content
                    elif role in contents:
                        self._bins.unchanged(role, content)
                progress = batch.next_offset if is_last else None
                held, signed = self._held.take_touched(), await self._signing.sign(touched)
                waiting = self._pending.take_touched()
                await follow(self._bins.commit(signed, held, pack(receipts, batch.bulk), progress, batch.next_offset, waiting=waiting))
        metrics.changes.inc(batch.changes)
        self._report_held()
        return touches

    async def publish_due(self) -> None:
        """Release what the next publishes release, if everything below their ends is applied, and changes do not wait."""
        while not self.is_frozen and self.is_publish_due:
            await self.publish_next()

    async def publish_next(self) -> None:
        """Release what the next publish releases. Everything below its end must be applied."""
        publish = self._next_publish
        if publish is None:
            return
        await self._custom.follow(self._routing)
        due = self._held.below(publish.ends[self.partition])
        gone = self._held_for_nobody(due)
        for role in [role for role in due if self._people.has(role)]:
            gone |= await self._people.publish(role, due.pop(role))
        added = {role: FREE_BYTES * len(changes) + sum(len(change.entry or b"") + 1 for change in changes) for role, changes in due.items()}
        pieces = list(self._bins.pieces(added, NAMED_BYTES)) or [[]]
        for roles in pieces:
            contents = await self._bins.load(roles)
            touched: dict[str, Bin] = {}
            refused: dict[str, str] = {**gone} if roles is pieces[0] else {}
            for role in roles:
                changed, of_bin = release_changes(contents[role], due[role])
                refused |= of_bin
                for change in due[role]:
                    self._held.drop(role, change.path)
                if changed:
                    touched[role] = contents[role]
                else:
                    self._bins.unchanged(role, contents[role])
            receipt, held, signed = receipt_of(publish, touched, refused), self._held.take_touched(), await self._signing.sign(touched)
            waiting = self._pending.take_touched()
            await self._bins.commit(signed, held, receipt, publish=publish, is_published=roles is pieces[-1], waiting=waiting)
        self._report_held()
        _log.info("bins.published", partition=self.partition, publish=publish.offset, bins=len(due))

    def _held_for_nobody(self, due: dict[str, list[HeldChange]]) -> dict[str, str]:
        """Take out what a publish would release into custom roles that were deleted since, and return the reason for each path."""
        refused: dict[str, str] = {}
        for role in [role for role in due if role in self._routing.custom_names]:
            begins = self._routing.begins(role, self.partition)
            lost = [change for change in due[role] if change.offset < begins]
            refused |= dict.fromkeys((change.path for change in lost), MOVED)
            for change in lost:
                self._held.drop(role, change.path)
            due[role] = [change for change in due[role] if change.offset >= begins]
            if not due[role]:
                del due[role]
        return refused

    def leave(self) -> None:
        """Stop reporting what is held: from here on another worker may have the partition."""
        self._context.health.gone(f"{part(self.partition)}.held")
        self._context.health.gone(f"{part(self.partition)}.pending")
        self._custom.leave()
        self._people.leave()
        metrics.held_changes.remove(self.partition)

    def _report_held(self) -> None:
        limit = self._context.config.max_held_changes
        metrics.held_changes.labels(self.partition).set(self._held.count)
        is_near = self._held.is_nearly_full(HELD_WARNING_FRACTION)
        self._context.health.warn(f"{part(self.partition)}.held", HELD_WARNING.format(self._held.count, limit) if is_near else None)
        most, count = self._context.config.max_pending_changes, self._pending.count
        is_near = self._pending.is_nearly_full(HELD_WARNING_FRACTION)
        self._context.health.warn(f"{part(self.partition)}.pending", PENDING_WARNING.format(count, most) if is_near else None)

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
            await self._bins.commit([], self._held.take_touched(), [KeyedReceipt("", receipt) for receipt in gone], end)

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
        await self._custom.follow(self._routing)
        await self._custom.renew()
        await self._people.follow()
        # The most urgent first: even if renewal takes longer than the time it is spread over, every bin gets its turn.
        now, under = clock.latest(), await self._signing.usable()
        lifetime, since = self._signing.lifetime(), repository.renew_since.get(BINS, 0)
        moments = {
            role: now if head.offset < since else self._signing.renewal(role, head, now, under, lifetime)
            for role, head in self._bins.heads.items()
            if role not in self._routing.custom_names
        }
        due = sorted((role for role, moment in moments.items() if moment <= now), key=moments.__getitem__)
        piece = next(self._bins.pieces(dict.fromkeys(due, 0)), [])
        if piece:
            with pace.working():
                await self._bins.commit(await self._signing.sign(await self._bins.load(piece)), self._held.take_touched())
            metrics.renewals.inc(len(piece))
        if len(piece) < len(due):
            return pace.wait
        self._next_renewal_check = clock.monotonic() + self._context.config.renewal_check
        return self._context.config.renewal_check

    @property
    def is_admin_new(self) -> bool:
        """Whether ``admin`` has a record that ``renew`` has not taken into account."""
        return self._context.admin.state.next_offset > self._checked_admin
