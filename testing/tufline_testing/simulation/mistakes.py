"""Classic mistakes, made on purpose: the simulation must detect each of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import tufline_ingest.inbox.inbox_worker
import tufline_signer.bins.bins_writer
import tufline_signer.commits.files
from tufline.bus.embedded import log
from tufline.origin.directory import LocalStore
from tufline.records import Add, Bootstrap, Remove
from tufline.records.routing import Routing
from tufline.reference_clock import ReferenceClock
from tufline.trust import acceptance, proposals
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline.trust.delegated import Delegated
from tufline.trust.roles import RoleKeys, root_keys
from tufline.trust.signing import Signable
from tufline_ingest.inbox.dedupe import InboxState
from tufline_ingest.inbox.inbox_worker import InboxWorker
from tufline_publisher.origin_writer import OriginWriter
from tufline_publisher.publisher import Publisher
from tufline_signer.bins.batch import apply_changes
from tufline_signer.bins.bins_log import BinsLog
from tufline_signer.bins.bins_writer import BinsWriter
from tufline_signer.bins.held import HeldChanges, Touched
from tufline_signer.commits import commit_worker
from tufline_signer.commits.state import CommitState
from tufline_signer.signing.audit_trail import Trail
from tufline_signer.signing.key_selection import Released


def snapshot_before_bins() -> None:
    """The publisher publishes a commit before the bins that it names are at the origin."""
    take, publish = Publisher._take, Publisher._publish_newest

    async def no_take(self: Publisher, batch: Any, **named: bool) -> None:
        self.held = batch  # type: ignore[attr-defined]
        put_many = self._store.put_many

        async def nothing(_: Any) -> list[str]:
            return []

        self._store.put_many = nothing  # type: ignore[method-assign, assignment]
        await take(self, batch, **named)
        self._store.put_many = put_many  # type: ignore[method-assign]

    async def late(self: Publisher, next_offset: int, began: float) -> None:
        await publish(self, next_offset, began)
        await take(self, self.held)  # type: ignore[attr-defined]

    Publisher._take, Publisher._publish_newest = no_take, late  # type: ignore[method-assign]


def progress_outside_the_transaction() -> None:
    """The bins' worker moves its progress before the transaction that it belongs to."""
    commit = BinsLog.commit

    async def early(
        self: BinsLog, signed: Any, held: Touched, receipts: Any = (), progress: int | None = None, *rest: Any, **named: Any
    ) -> None:
        if progress is not None and signed:
            await commit(self, [], Touched({}, set(), held.total), [], progress)
        await commit(self, signed, held, receipts, progress, *rest, **named)

    BinsLog.commit = early  # type: ignore[method-assign]


def no_fencing() -> None:
    """The log accepts transactions of a fenced writer."""
    execute = log.Log.execute

    def unfenced(self: log.Log, operations: Sequence[Any]) -> Any:
        free = [log.Append(one.messages, one.then) if isinstance(one, log.Append) else one for one in operations]
        return execute(self, free)

    log.Log.execute = unfenced  # type: ignore[method-assign]


def older_over_newer() -> None:
    """Changes that were applied before a crash are applied again, in another order."""

    def backwards(target_bin: Any, changes: Any, applied: int, bulk: Any = (), held: Any = None, **of_role: Any) -> Any:
        del applied, bulk
        return apply_changes(target_bin, list(reversed(list(changes))), 0, held=held, **of_role)

    tufline_signer.bins.bins_writer.apply_changes = backwards  # type: ignore[attr-defined]


def held_forgotten() -> None:
    """A takeover does not read what is held."""
    init = HeldChanges.__init__

    def empty(self: HeldChanges, slots: Any, limit: int, bin_of: Any) -> None:
        del slots
        init(self, {}, limit, bin_of)

    HeldChanges.__init__ = empty  # type: ignore[method-assign]


def held_over_newer() -> None:
    """A later change of its path leaves a held change as it is."""

    def apart(target_bin: Any, changes: Any, applied: int, bulk: Any = (), held: Any = None, **of_role: Any) -> Any:
        drop, held.drop = held.drop, lambda *_: None
        try:
            return apply_changes(target_bin, changes, applied, bulk, held, **of_role)
        finally:
            held.drop = drop

    tufline_signer.bins.bins_writer.apply_changes = apart  # type: ignore[attr-defined]


def no_flush() -> None:
    """The publisher replaces the timestamp before the files that it names are durable."""

    async def unflushed(self: OriginWriter) -> None:
        del self

    OriginWriter.flush = unflushed  # type: ignore[method-assign]


def old_key_dropped_at_once() -> None:
    """Timestamp and snapshot are signed only with the keys of the newest root, although clients may still have an older one."""

    def newest_only(repository: Bootstrapped, released: Released, role: str, now: datetime) -> list[RoleKeys]:
        del released, now
        return [root_keys(repository.roots[-1].signed, role)]

    tufline_signer.commits.files.keys_of_role = newest_only  # type: ignore[attr-defined]


def bins_of_other_keys() -> None:
    """New targets are released while bins are not signed with the keys that they delegate to."""
    CommitState.are_met = lambda *_: True  # type: ignore[method-assign]
    take = CommitState.name_under

    def named_all_the_same(self: CommitState, delegated: Delegated) -> None:
        take(self, replace(delegated, bins=RoleKeys(delegated.bins.keys, 0)))

    CommitState.name_under = named_all_the_same  # type: ignore[method-assign]


def recorded_after_use() -> None:
    """The signer uses signatures while their record is still being written."""
    record = Trail.record
    late: set[asyncio.Task[None]] = set()

    async def unawaited(self: Trail, uses: Any) -> None:
        task = asyncio.create_task(record(self, uses))
        late.add(task)
        task.add_done_callback(late.discard)

    Trail.record = unawaited  # type: ignore[method-assign]


def inbox_progress_outside_the_transaction() -> None:
    """The inbox's worker moves its progress before the transaction that it belongs to."""
    commit = InboxWorker._commit

    async def early(self: InboxWorker, judged: Any, offset: int) -> None:
        progress = self._state.next(offset, {})
        await self._writer.commit([self._state.message(progress)])
        self._state.take(progress)
        await commit(self, judged, offset)

    InboxWorker._commit = early  # type: ignore[method-assign]


def inbox_forgets() -> None:
    """After a takeover, an event that is sent again counts as a new one."""
    restore = tufline_ingest.inbox.inbox_worker.restore  # type: ignore[attr-defined]

    async def forgetful(*given: Any) -> InboxState:
        known: InboxState = await restore(*given)
        known._tasks.clear()
        return known

    tufline_ingest.inbox.inbox_worker.restore = forgetful  # type: ignore[attr-defined, assignment]


def no_fence_at_the_origin() -> None:
    """The store replaces a file unconditionally, so that a publisher that was paused overwrites a newer timestamp with an older one."""
    replace = LocalStore.replace

    async def unfenced(self: LocalStore, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        del expected, owner
        await replace(self, name, content, expected=await self.get(name))

    LocalStore.replace = unfenced  # type: ignore[method-assign]


def renewal_by_the_wall_clock() -> None:
    """The bins' worker measures its pause between renewal checks with the wall clock."""
    renew = BinsWriter.renew
    next_check: dict[int, datetime] = {}

    async def by_the_wall(self: BinsWriter) -> float:
        now = self._context.clock.wall()
        if now < next_check.get(id(self), now):
            self._checked_admin = self._context.admin.state.next_offset  # otherwise its news would wake the worker without end
            return (next_check[id(self)] - now).total_seconds()
        wait = await renew(self)
        if wait == self._context.config.renewal_check:
            next_check[id(self)] = now + timedelta(seconds=wait)
        return wait

    BinsWriter.renew = by_the_wall  # type: ignore[method-assign]


def signing_by_the_wall_clock() -> None:
    """Expiry is computed from the clock of a machine whose clock is behind."""
    ReferenceClock.latest = lambda self: self.wall()  # type: ignore[method-assign]


def replaced_after_it_began() -> None:
    """A bootstrap is replaced although it has started."""
    begin = acceptance.begin

    def over(state: AdminState, bootstrap: Bootstrap, offset: int, now: datetime) -> AdminState:
        return begin(replace(state, begun=False), bootstrap, offset, now)

    acceptance.begin = over


def routed_by_the_newest_delegations() -> None:
    """A change is for the roles by the newest delegations, although it was routed by earlier ones."""
    find_roles = Routing.find_roles

    def by_the_newest(self: Routing, change: Add | Remove, partition: int, offset: int, admin: int) -> tuple[list[str], str]:
        return find_roles(self, change, partition, offset, max([admin, *(version.offset + 1 for version in self.versions)]))

    Routing.find_roles = by_the_newest  # type: ignore[method-assign]


def late_routed_is_applied() -> None:
    """A change that was routed by earlier delegations is applied although its path belongs to another role by then."""
    find_roles = Routing.find_roles

    def as_routed(self: Routing, change: Add | Remove, partition: int, offset: int, admin: int) -> tuple[list[str], str]:
        known = [version for version in self.versions if version.offset < admin]
        return find_roles(Routing(self.partitioning, known, only_custom=self.only_custom), change, partition, offset, admin)

    Routing.find_roles = as_routed  # type: ignore[method-assign]


def removed_from_one_role() -> None:
    """A removal removes a path only from the role that an artifact would go to."""

    def only_the_first(self: Routing, change: Add | Remove) -> list[str]:
        return [self.role_of(change.path)]

    Routing.roles_of = only_the_first  # type: ignore[method-assign]


def signed_for_the_new_root_only() -> None:
    """The last signature of a root is accepted by the threshold of that root alone, and not by that of the one before."""
    verify = Signable.verify

    def by_itself(self: Signable) -> None:
        verify(replace(self, signers=self.signers[-1:]))

    Signable.verify = by_itself  # type: ignore[method-assign]


def withdrawn_all_the_same() -> None:
    """A version that was withdrawn still takes signatures."""
    proposals.withdraw = lambda state, *_: state


def first_lifetimes() -> None:
    """The signer signs with the lifetimes of the bootstrap, whatever was set later."""
    Bootstrapped.settings = property(lambda self: self.bootstrap.settings)  # type: ignore[assignment, method-assign]


def renewal_covered_too_early() -> None:
    """A commit covers a renewal before the roles were signed again."""
    commit_worker.unfinished_renewals = lambda *_: []  # type: ignore[attr-defined]


MUTATIONS: dict[str, Callable[[], None]] = {
    mistake.__name__: mistake
    for mistake in (
        snapshot_before_bins,
        progress_outside_the_transaction,
        no_fencing,
        older_over_newer,
        held_forgotten,
        held_over_newer,
        no_flush,
        old_key_dropped_at_once,
        bins_of_other_keys,
        recorded_after_use,
        inbox_progress_outside_the_transaction,
        inbox_forgets,
        no_fence_at_the_origin,
        renewal_by_the_wall_clock,
        signing_by_the_wall_clock,
        replaced_after_it_began,
        routed_by_the_newest_delegations,
        late_routed_is_applied,
        removed_from_one_role,
        signed_for_the_new_root_only,
        withdrawn_all_the_same,
        first_lifetimes,
        renewal_covered_too_early,
    )
}
