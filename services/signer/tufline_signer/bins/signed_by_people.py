"""The custom roles of one partition whose keys only people have: their changes wait until enough people have signed the next version.

In: changes, signatures and withdrawals, in the order of the log, and versions of the delegations. Out: the next version of each role that
needs one, without signatures, and with the last signature the role itself.

A change becomes part of the next version as long as nobody has signed that; then it waits for the one after it. A version is made when a
role is new, has changes, lost paths, has other keys, or comes close to its expiry. It is made again, without signatures, if it could not be
published any more: its role lost paths or was added again, it has expired, or people withdrew their signatures.

The next version is not on the log: it follows from the version before, the pending changes and the delegations
(``tufline.trust.offline_roles``).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import structlog

from tufline.errors import BinFullError, InvalidUpdateError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.metadata.envelope import parse_expires
from tufline.metadata.expiry import STEPS, ExpiryWarning, expiry_warning
from tufline.metadata.target import TargetEntry
from tufline.records import Proposed, RoleSignature
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import Routing
from tufline.runtime.turns import Turns
from tufline.trust import offline_roles
from tufline.trust.delegated import keys_of
from tufline.trust.offline_roles import PendingChange, kept_since, next_content
from tufline.trust.roles import RoleKeys
from tufline_signer.bins.batch import Change, KeyedReceipt, Shared
from tufline_signer.bins.bins_log import BinsLog, SignedBin
from tufline_signer.bins.bins_signing import BinsSigning
from tufline_signer.bins.context import part
from tufline_signer.bins.held import HeldChange, HeldChanges
from tufline_signer.bins.pending import PendingChanges
from tufline_signer.context import SignerContext
from tufline_signer.signing.keyring import SignedFile

LEAST_LIFE: Final = 3 / 4
"""A version that nobody has signed is made again once it has less than this fraction of its lifetime left."""

LOOK_BYTES: Final = 1_000
"""The work of a look at a role, in bytes of JSON that take as long (``tufline.runtime.turns``)."""

_log = structlog.get_logger(__name__)


class SignedByPeople:
    """The custom roles of one partition that people sign, after its takeover."""

    def __init__(self, context: SignerContext, bins: BinsLog, held: HeldChanges, pending: PendingChanges, signing: BinsSigning) -> None:
        """Start with the state read from the log.

        Args:
            context: shared by the workers of the process.
            bins: the bins and custom roles of the partition.
            held: the held changes of the partition.
            pending: the pending changes of the partition, and the next versions of the roles.
            signing: says how long the roles are valid.
        """
        self._context = context
        self._bins = bins
        self._held = held
        self._pending = pending
        self._signing = signing

    @property
    def _routing(self) -> Routing:
        return self._context.admin.repository.routing

    def has(self, role: str) -> bool:
        """Return whether people sign a role.

        Args:
            role: the name of a custom role or a bin.
        """
        return role in self._routing.delegations.offline

    async def _content(self, role: str, end: int | None = None) -> Bin:
        """Make the content of the next version of a role, with all pending changes, or those below an end."""
        head, added = self._bins.heads.get(role), self._routing.added(role)
        changes = [change for change in self._pending.of(role) if end is None or change.offset < end]
        if head is None or head.admin <= added:
            return next_content(Bin(), [], changes)
        kept = kept_since(self._routing.versions, role, head.admin, self._bins.followed)
        return next_content(await self._bins.read_back(role), kept, changes)

    async def follow(self) -> None:
        """Make the next versions that are needed, and drop those that are not; each by itself."""
        routing, partition, turns = self._routing, self._bins.partition, Turns()
        for role in {*(name for name in routing.custom_in(partition) if self.has(name)), *self._pending.roles}:
            await turns.take(LOOK_BYTES)
            if not self.has(role):
                self._pending.drop(role, lambda _: True)
                self._pending.propose(role, Proposed())
                self._context.health.gone(self._part(role))
            else:
                await self._follow_role(role)
            touched = self._pending.take_touched()
            if touched.slots or touched.proposed:
                await self._bins.commit([], self._held.take_touched(), waiting=touched)

    async def _follow_role(self, role: str) -> None:
        routing, proposed = self._routing, self._pending.proposed(role)
        new = [version for version in routing.versions if version.offset >= proposed.admin]
        begins = routing.begins(role, self._bins.partition)
        later = [version.delegations.find(role) for version in new] if proposed.admin else []

        def is_lost(change: PendingChange) -> bool:
            return change.offset < begins or any(one is not None and not one.matches(change.path) for one in later)

        self._pending.drop(role, is_lost)
        for change in self._held.of(role):
            if any(one is not None and not one.matches(change.path) for one in later):
                self._held.drop(role, change.path)
        self._report_expiry(role)
        if await self._propose(role):  # fewer signatures are enough now
            await self._complete(role)

    def _is_needed(self, role: str) -> bool:
        """Return whether people have to sign a version of a role."""
        head, routing = self._bins.heads.get(role), self._routing
        if head is None or head.admin <= routing.added(role) or self._pending.of(role):
            return True
        if not self._keys(role).are_met_by(head.keyids):
            return True
        lost = any(not {*before.paths} <= {*after.paths} for before, after in pairwise(routing.since(role, head.admin)))
        return lost or self._sight(role) is not None

    def _keys(self, role: str) -> RoleKeys:
        """Return the keys that sign a role by the newest delegations."""
        delegations = self._routing.delegations
        delegation = delegations.find(role)
        assert delegation is not None
        return keys_of(delegation, delegations)

    def _is_met(self, role: str, proposed: Proposed) -> bool:
        return bool(proposed.signatures) and self._keys(role).are_met_by(proposed.signatures)

    def _is_current(self, role: str, proposed: Proposed, version: int, seen: int) -> bool:
        """Return whether a version waits that need not be made again; without making it, as thousands of roles may wait for months."""
        now, expires = self._context.clock.latest(), proposed.expires
        if proposed.version != version or len({*self._routing.since(role, proposed.admin)}) > 1:
            return False
        if proposed.signatures:
            return parse_expires(expires) > now
        return proposed.end == seen and parse_expires(expires) >= now + self._signing.lifetime(role) * LEAST_LIFE

    def _sight(self, role: str) -> ExpiryWarning | None:
        head = self._bins.heads[role]
        return expiry_warning(role, parse_expires(head.expires), self._signing.lifetime(role), self._context.clock.latest())

    async def _propose(self, role: str, *, again: bool = False) -> bool:
        """Make the next version of a role, unless the one that waits is still right.

        Args:
            role: its name.
            again: without the signatures so far.

        Returns:
            Whether enough people have signed the one that waits.
        """
        before, routing = self._pending.proposed(role), self._routing
        head, now, lifetime = self._bins.heads.get(role), self._context.clock.latest(), self._signing.lifetime(role)
        seen = max(before.seen, head.applied if head is not None else 0)
        if not self._is_needed(role):
            self._pending.propose(role, Proposed(seen=seen))
            return False
        version = 1 if head is None else head.version + 1
        if not again and self._is_current(role, before, version, seen):
            return self._is_met(role, before)
        is_created = head is not None and head.admin > routing.added(role)
        if before.version == version and before.signatures and not again and parse_expires(before.expires) > now:
            keys = self._keys(role)
            signatures = {keyid: sig for keyid, sig in before.signatures.items() if keyid in keys.keys}
            content = await self._content(role, before.end)
            if signatures and envelope.sha256(content.encode(version, before.expires)) == before.sha256:
                kept = msgspec.structs.replace(before, signatures=signatures, admin=self._bins.followed)
                self._pending.propose(role, kept)
                return self._is_met(role, kept)
        expires = before.expires
        if before.version != version or not expires or parse_expires(expires) < now + lifetime * LEAST_LIFE:
            expires = envelope.expiry(now, lifetime)
        content = await self._content(role)
        self._pending.propose(
            role,
            Proposed(
                version=version,
                expires=expires,
                sha256=envelope.sha256(content.encode(version, expires)),
                base=head.version if is_created and head is not None else 0,
                since=head.admin if is_created and head is not None else 0,
                admin=self._bins.followed,
                end=seen,
                seen=seen,
            ),
        )
        return False

    async def apply(self, role: str, changes: Sequence[Change], end: int, shared: Mapping[tuple[int, int], Shared]) -> list[KeyedReceipt]:
        """Let changes of a role wait for people, in the order of the log.

        Args:
            role: its name.
            changes: its changes.
            end: the offset after the batch.
            shared: the removals that are for several roles of the partition; updated in place.

        Returns:
            Receipts for the changes that have no effect or are refused.
        """
        proposed = self._pending.proposed(role)
        content, receipts = await self._content(role), list[KeyedReceipt]()
        for change in changes:
            of_several = shared.get((change.offset, change.nth))
            if of_several is not None:
                of_several.left -= 1
                of_several.was_found |= change.offset < proposed.seen
            if change.offset < proposed.seen:
                continue
            outcome, reason = self._add(content, role, change)
            if reason and not change.hold:
                content = await self._content(role)
            if of_several is not None and outcome in {"", "not_found"}:
                of_several.was_found |= not outcome
                outcome = "" if of_several.was_found or of_several.left > 0 else outcome
            if outcome:
                receipt = ChangeReceipt(offset=change.offset, index=change.nth, path=change.path, outcome=outcome, reason=reason)  # type: ignore[arg-type]
                receipts.append(KeyedReceipt(change.request, receipt))
        self._pending.propose(role, msgspec.structs.replace(self._pending.proposed(role), seen=max(end, proposed.seen)))
        await self._propose(role)
        return receipts

    def _add(self, content: Bin, role: str, change: Change) -> tuple[str, str]:
        """Hold a change, or let it wait; return the outcome and the reason of its receipt, empty if it needs none."""
        if change.hold:
            reason = self._held.hold(role, change.offset, change.nth, change.path, change.entry)
            return ("refused", reason) if reason else ("", "")
        try:
            if change.entry is None:
                happened, outcome = content.remove(change.path), "not_found"
            else:
                happened, outcome = content.add(TargetEntry(change.path, change.entry)), "unchanged"
        except BinFullError as error:
            return "refused", str(error)
        if happened and (reason := self._pending.add(PendingChange(change.offset, change.nth, role, change.path, change.entry))):
            return "refused", reason
        dropped = self._held.drop(role, change.path)
        was_found = happened or (outcome == "not_found" and dropped is not None and dropped.entry is not None)
        return ("", "") if was_found else (outcome, "")

    async def publish(self, role: str, changes: Sequence[HeldChange]) -> dict[str, str]:
        """Let held changes of a role wait for people, because they are published.

        Args:
            role: its name.
            changes: the changes, in the order of the log.

        Returns:
            The path of each change that is refused, to the reason.
        """
        content, refused, at = await self._content(role), dict[str, str](), self._bins.progress
        self._pending.propose(role, msgspec.structs.replace(self._pending.proposed(role), seen=at))
        for number, held in enumerate(changes):
            # As if they were sent last: behind all that has been signed.
            _, reason = self._add(content, role, Change("", at - 1, number, held.path, held.entry))
            if reason:
                refused[held.path] = reason
                content = await self._content(role)
        await self._propose(role)
        return refused

    async def sign(self, signature: RoleSignature, request: str, offset: int) -> list[KeyedReceipt]:
        """Judge a signature, or a withdrawal. With the last signature the version is written.

        Args:
            signature: the signature.
            request: the name of its request.
            offset: of its record.

        Returns:
            The receipt with the reason, if it is refused; otherwise none.
        """
        role, progress = signature.role, offset + 1
        receipts: list[KeyedReceipt] = []
        try:
            keys = offline_roles.find_keys(role, self._routing.delegations)
            proposed = offline_roles.check_current(signature, self._pending.proposed(role))
            if not signature.keyid:
                await self._propose(role, again=True)
            else:
                content = await self._content(role, proposed.end)
                signatures = offline_roles.sign(signature, proposed, content.encode(proposed.version, proposed.expires), keys)
                signed = msgspec.structs.replace(proposed, signatures=signatures)
                self._pending.propose(role, signed)
                if keys.are_met_by(signatures):
                    await self._complete(role, progress)
                    return []
        except InvalidUpdateError as error:
            refused = ChangeReceipt(offset=offset, index=0, path="", outcome="refused", reason=str(error))
            receipts = [KeyedReceipt(request, refused)]
        await self._bins.commit([], self._held.take_touched(), receipts, progress, waiting=self._pending.take_touched())
        return receipts

    async def _complete(self, role: str, progress: int | None = None) -> None:
        """Write the version that enough people have signed, and make the next one if changes wait for it."""
        signed = self._pending.proposed(role)
        content = await self._content(role, signed.end)
        file = SignedFile(
            role,
            signed.version,
            signed.expires,
            offline_roles.assemble(content.encode(signed.version, signed.expires), signed.signatures),
            [*signed.signatures],
        )
        self._pending.drop(role, lambda change: change.offset < signed.end)
        applied = signed.end if self._pending.of(role) else signed.seen
        self._pending.propose(role, Proposed(seen=signed.seen, admin=signed.admin))
        touched = self._held.take_touched(), self._pending.take_touched()
        await self._bins.commit([SignedBin(file, content)], touched[0], (), progress, applied, waiting=touched[1])
        _log.info("bins.signed_by_people", partition=self._bins.partition, role=role, version=signed.version)
        self._report_expiry(role)
        await self._propose(role)
        rest = self._pending.take_touched()
        if rest.proposed or rest.slots:
            await self._bins.commit([], self._held.take_touched(), waiting=rest)

    def _part(self, role: str) -> str:
        return f"{part(self._bins.partition)}.{role}"

    def _report_expiry(self, role: str) -> None:
        """Report in health that people have to sign a role again, long before it expires."""
        sight = self._sight(role) if role in self._bins.heads else None
        text = None
        if sight is not None:
            expires = self._bins.heads[role].expires
            has_expired = sight.step > len(STEPS)
            when = "has expired, so clients refuse its artifacts" if has_expired else f"expires on {expires[:10]}"
            text = f"the custom role {role} {when}: its next version waits for its people to sign it (tufline sign --url)"
        self._context.health.warn(self._part(role), text)

    def leave(self) -> None:
        """Stop reporting: from here on another worker may have the partition."""
        for role in self._routing.custom_in(self._bins.partition):
            self._context.health.gone(self._part(role))
