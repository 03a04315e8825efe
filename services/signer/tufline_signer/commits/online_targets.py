"""What the next online targets delegate to (RSTUF's mode). Pure.

In: the roots and the versions of the custom delegations (``tufline.trust.admin_state``), and the bins and custom roles by their heads. Out:
the newest root under which every bin verifies, and the newest custom delegations, with the keys by which each role verifies.

A role is trusted for what the newest delegations say, in their order, from the first targets after the change on: its paths need no
signature of its own. Its keys change once it is signed with them: until then targets names its previous keys, or, if it is new, not the
role. So one role that can't be signed keeps no other change waiting, and clients look for a path in the same roles that the changes of
artifacts are routed to, except in those that do not exist yet.

A repository may have thousands of custom roles, and makes a commit each second. So delegations that were looked at before are looked at
again only if a head has arrived that may change the result.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
from tuf.api.metadata import Root

from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Vector
from tufline.records.routing import Routing
from tufline.trust import roles
from tufline.trust.admin_state import Bootstrapped
from tufline.trust.delegated import Delegated, custom_of
from tufline.trust.roles import RoleKeys
from tufline_signer.commits.state import CommitState
from tufline_signer.errors import InconsistentLogError

PATIENCE_SECONDS: Final = 10.0
"""How long targets wait for the roles of new delegations, so that usually all of a change is published at once."""


class Choice(NamedTuple):
    """What the next online targets delegate to.

    Attributes:
        root: the root that names the keys of the bins.
        custom: the custom delegations.
        is_same: whether the current targets delegate to the same roles, by the same keys.
        left: the roles of the newest delegations that have to wait for their keys: they are not named, or by previous keys.
        waiting: offsets in ``admin``, in order: the changes of the delegations that are not shown, or not as far as these keys go.
    """

    root: Root
    custom: Delegations
    is_same: bool
    left: tuple[str, ...] = ()
    waiting: tuple[int, ...] = ()


@dataclass(slots=True)
class _Merged:
    """The newest delegations, each role with the keys by which it verifies.

    Attributes:
        custom: these delegations.
        is_same: whether the current targets delegate to the same roles, by the same keys.
        left: the roles that have to wait for the signer, each as it would have to be; in their order.
        unmet: these, and those that wait for people.
        waiting: as in ``Choice``.
    """

    custom: Delegations
    is_same: bool
    left: dict[str, Delegation] = field(default_factory=dict)
    unmet: set[str] = field(default_factory=set)
    waiting: tuple[int, ...] = ()


class _Keys(NamedTuple):
    """The keys of a role by an earlier version of the delegations, whose offset in ``admin`` is -1 if it is not known."""

    role: Delegation
    named_in: Delegations
    offset: int


class OnlineTargets:
    """Chooses what the next online targets delegate to, commit after commit."""

    def __init__(self) -> None:
        """Know nothing about the current targets yet."""
        self._named: list[tuple[Delegated, Delegations]] = []
        self._known: dict[int, tuple[Routing, Delegated, _Merged | None]] = {}
        self._given_up: frozenset[Delegation] = frozenset()
        self._since: float | None = None
        self._due_at = math.inf

    def wait(self, now: float) -> float:
        """Return when to ask again, at the latest.

        Args:
            now: monotonic time, in seconds.

        Returns:
            After how many seconds new delegations no longer wait for all of their roles; infinity if none wait.
        """
        return max(0.0, self._due_at - now)

    def choose(self, repository: Bootstrapped, bins: CommitState, shown: Vector, now: float) -> Choice:
        """Choose what online targets delegate to.

        Args:
            repository: the repository, as folded from ``admin``.
            bins: the bins and custom roles, by their heads, which must have been read to their end: a new role without a head is not named.
            shown: what the current targets show.
            now: monotonic time, in seconds.

        Returns:
            The newest root under which every bin verifies, or else one with the keys of the current targets; and the newest custom
            delegations as far as they verify. These may wait for some seconds.

        Raises:
            InconsistentLogError: if no root has named the keys of the current targets.
        """
        fresh, self._due_at = bins.take_fresh(), math.inf
        current, routing = self._current(bins.delegated), repository.routing
        for root in _roots(repository, bins.delegated):
            online = roles.online_bin_keys(root)
            is_current = roles.same_keys(online, bins.delegated.bins)
            if not is_current and not bins.are_bins_met(online):
                continue
            merged = self._look(root, routing, bins, current, fresh, is_current=is_current)
            if merged is None:
                continue
            if is_current and not merged.is_same and self._is_patient(merged, now):
                waiting = tuple(version.offset for version in routing.versions if not shown.has_applied(version.offset))
                return Choice(root, current, is_same=True, left=tuple(merged.left), waiting=waiting)
            self._given_up, self._since = frozenset(merged.left.values()), None
            return Choice(root, merged.custom, merged.is_same, tuple(merged.left), merged.waiting)
        raise InconsistentLogError("the current targets delegate to keys of the bins that no root has named")

    def find(self, delegated: Delegated) -> None:
        """Find what the current targets follow, after a restart. Thousands of custom roles take tens of milliseconds.

        Args:
            delegated: what the current targets delegate to.
        """
        self.name(delegated, custom_of(delegated))

    def name(self, delegated: Delegated, custom: Delegations) -> None:
        """Note what targets follow that will be the current ones, unless they have to wait: then the current ones stay.

        Args:
            delegated: what they delegate to.
            custom: the custom delegations that they follow.
        """
        self._named = [(delegated, custom), *self._named[:1]]

    def _current(self, current: Delegated) -> Delegations:
        """Return the custom delegations that the current targets follow."""
        self._named.sort(key=lambda named: named[0] is not current)
        if not self._named or self._named[0][0] is not current:
            self.find(current)
        return self._named[0][1]

    def _is_patient(self, merged: _Merged, now: float) -> bool:
        """Return whether roles that may still be on their way are waited for."""
        self._since = now if self._since is None else self._since
        due_at = self._since + PATIENCE_SECONDS
        if now >= due_at or self._given_up.issuperset(merged.left.values()):
            return False
        self._due_at = due_at
        return True

    def _look(
        self, root: Root, routing: Routing, bins: CommitState, current: Delegations, fresh: frozenset[str], *, is_current: bool
    ) -> _Merged | None:
        """Merge, unless it was done before and no head has arrived since that may change the result."""
        if (known := self._known.get(root.version)) is not None:
            of_routing, under, merged = known
            may_change = fresh & merged.unmet if merged is not None and merged.is_same else fresh
            if of_routing is routing and under is bins.delegated and not may_change:
                return merged
        merged = _merge(roles.online_bin_keys(root), routing, bins, current, is_current=is_current)
        self._known = {version: one for version, one in self._known.items() if one[0] is routing and one[1] is bins.delegated}
        self._known[root.version] = routing, bins.delegated, merged
        return merged


def _roots(repository: Bootstrapped, current: Delegated) -> Iterator[Root]:
    """Find the roots whose keys the bins may have in targets, the newest first."""
    newest = repository.roots[-1].signed
    for submitted in reversed(repository.roots):
        root = submitted.signed
        if root is newest or roles.same_keys(roles.online_bin_keys(root), current.bins):
            yield root


def _merge(online: RoleKeys, routing: Routing, bins: CommitState, current: Delegations, *, is_current: bool) -> _Merged | None:
    """Give each role of the newest delegations the newest keys by which it verifies.

    Args:
        online: the keys of the bins.
        routing: has the versions of the delegations.
        bins: the bins and custom roles, by their heads.
        current: what the current targets follow.
        is_current: whether the current targets have the same keys of the bins.

    Returns:
        The delegations; None if a role would lose its keys, because the bins have other ones.
    """
    newest = routing.delegations
    merged = _Merged(newest, is_same=False)
    entries: list[Delegation] = []
    previous: dict[str, _Keys] = {}
    for role in newest.roles:
        # Without a version since it was added: a role that was deleted before has lost what it had, and must not be found again.
        is_created = bins.admin_of(role.name) > routing.added(role.name)
        if is_created and bins.is_met(role, newest, online):
            entries.append(role)
            continue
        merged.unmet.add(role.name)
        if role.name not in newest.offline:  # people take their time: ingest says who has to sign
            merged.left[role.name] = role
        if not is_created:
            continue
        keys = _previous(role, online, routing, bins) or _keys_in(current, role.name, routing, is_current=is_current)
        if keys is None:
            return None
        previous[role.name] = keys
        entries.append(msgspec.structs.replace(role, keyids=keys.role.keyids, threshold=keys.role.threshold))
    if merged.unmet:
        objects = [newest.keys, *(keys.named_in.keys for keys in previous.values())]
        used = dict.fromkeys(keyid for entry in entries for keyid in entry.keyids)
        merged.custom = Delegations({keyid: next(of[keyid] for of in objects if keyid in of) for keyid in used}, tuple(entries))
        merged.waiting = _waiting(routing, merged.left, previous)
    merged.is_same = is_current and _are_same(merged.custom, current, online)
    return merged


def _previous(role: Delegation, online: RoleKeys, routing: Routing, bins: CommitState) -> _Keys | None:
    """Return the newest keys that a role had since it was added, and by which it verifies."""
    added, tried = routing.added(role.name), role
    for version in reversed(routing.versions):
        before = version.delegations.find(role.name)
        if version.offset < added or before is None:
            return None
        if not _has_keys(before, tried) and bins.is_met(before, version.delegations, online):
            return _Keys(before, version.delegations, version.offset)
        tried = before
    return None


def _keys_in(current: Delegations, name: str, routing: Routing, *, is_current: bool) -> _Keys | None:
    """Return the keys by which the current targets name a role, if they may go on to do so."""
    role = current.find(name)
    if role is None or not (role.keyids or is_current):
        return None
    versions = (one for one in reversed(routing.versions) if (found := one.delegations.find(name)) is not None and _has_keys(found, role))
    version = next(versions, None)
    return _Keys(role, current, -1 if version is None else version.offset)


def _has_keys(role: Delegation, other: Delegation) -> bool:
    return role.keyids == other.keyids and role.threshold == other.threshold


def _waiting(routing: Routing, left: dict[str, Delegation], previous: dict[str, _Keys]) -> tuple[int, ...]:
    """Return the changes that gave roles the keys that they have to wait for."""
    follows = {name: max(routing.added(name) - 1, previous[name].offset if name in previous else -1) for name in left}
    found = []
    for before, version in pairwise([None, *routing.versions]):
        assert version is not None
        for name, offset in follows.items():
            role = version.delegations.find(name) if version.offset > offset else None
            known = before.delegations.find(name) if before is not None else None
            if role is not None and (known is None or not _has_keys(role, known)):
                found.append(version.offset)
                break
    return tuple(found)


def _are_same(custom: Delegations, current: Delegations, online: RoleKeys) -> bool:
    """Return whether clients would look in the same roles, by the same keys."""
    if custom.roles == current.roles:
        return True
    # Targets name the keys of the bins for a role without keys of its own.
    return len(custom.roles) == len(current.roles) and all(
        one == other or _named_by(one, online) == _named_by(other, online) for one, other in zip(custom.roles, current.roles, strict=True)
    )


def _named_by(role: Delegation, online: RoleKeys) -> Delegation:
    return role if role.keyids else msgspec.structs.replace(role, keyids=tuple(online.keys), threshold=online.threshold)
