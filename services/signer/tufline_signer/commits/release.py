"""When the next version of root or targets may be released: once everything that it governs verifies under it. Pure.

In: the submitted versions (``tufline.trust.admin_state``), the released ones, and the bins. Out: the version to release next, or None.

In PEP 458's mode targets are submitted, and may be released when every bin is signed for them. In RSTUF's mode the signer makes targets. A
root that names another key for targets then takes three steps: the bins are signed with the new key, new targets delegate to that key, and
the root is released.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.records import Head
from tufline.trust import roles
from tufline.trust.admin_state import Bootstrapped, Submitted
from tufline.trust.delegated import read_delegated
from tufline_signer.commits.state import CommitState

MAX_WAITING: Final = 100
"""How many waiting changes of the custom delegations a vector names; what comes after further ones is not covered."""

ONLINE_ROLES = (Timestamp.type, Snapshot.type, Targets.type)


def current_root(repository: Bootstrapped, heads: Mapping[str, Head]) -> Submitted[Root]:
    """Return the current root.

    Args:
        repository: the repository, as folded from ``admin``.
        heads: role to head, from the last partition of ``heads``.

    Returns:
        The newest released root.
    """
    return next(submitted for submitted in repository.roots if submitted.signed.version == heads[Root.type].version)


def changes_online_keys(old: Root, new: Root) -> bool:
    """Return whether a root changes the keys of the roles that the signer may sign.

    Args:
        old: a root.
        new: the next root.
    """
    return any(not roles.same_keys(roles.root_keys(old, role), roles.root_keys(new, role)) for role in ONLINE_ROLES)


def next_submitted_targets(
    repository: Bootstrapped, heads: Mapping[str, Head], bins: CommitState, root: Root, in_grace: Sequence[Root] = ()
) -> Submitted[Targets] | None:
    """Return the next targets, if they may be released (PEP 458's mode).

    Args:
        repository: the repository, as folded from ``admin``.
        heads: role to head, from the last partition of ``heads``.
        bins: the bins, by their heads.
        root: the root that they are released under.
        in_grace: earlier roots that clients may still have, because a cache hides the next one. Targets that do not verify under such a
            root wait for the end of its grace time, unless its clients can't read the current targets either.

    Returns:
        The targets, or None.
    """
    version = heads[Targets.type].version
    found = {submitted.signed.version: submitted for submitted in repository.targets}
    submitted = found.get(version + 1)
    if submitted is None or not bins.are_met(read_delegated(submitted.signed)):
        return None
    under = [root, *(one for one in in_grace if version in found and found[version].verifies_under(one))]
    return submitted if all(map(submitted.verifies_under, under)) else None


def next_root(repository: Bootstrapped, heads: Mapping[str, Head], bins: CommitState) -> Submitted[Root] | None:
    """Return the next root, if everything released verifies under it.

    Args:
        repository: the repository, as folded from ``admin``.
        heads: role to head, from the last partition of ``heads``.
        bins: the bins, by their heads.

    Returns:
        The root, or None.
    """
    version = heads[Root.type].version + 1
    submitted = next((submitted for submitted in repository.roots if submitted.signed.version == version), None)
    if submitted is None:
        return None
    signed = [Timestamp.type, Snapshot.type, *([] if repository.targets else [Targets.type])]
    if not all(role in heads and roles.root_keys(submitted.signed, role).are_met_by(heads[role].keyids) for role in signed):
        return None
    return submitted if targets_stand(repository, heads[Targets.type].version, bins, submitted.signed) else None


def lost_roots(repository: Bootstrapped, heads: Mapping[str, Head]) -> list[Submitted[Root]]:
    """Return the roots that must not wait, because the previous keys are lost.

    Args:
        repository: the repository, as folded from ``admin``.
        heads: role to head, from the last partition of ``heads``.

    Returns:
        All from the next root to the last one with ``skip_overlap``; usually none.
    """
    version = heads[Root.type].version
    waiting = [submitted for submitted in repository.roots if submitted.signed.version > version]
    last = max((number for number, submitted in enumerate(waiting) if submitted.skip_overlap), default=-1)
    return waiting[: last + 1]


def targets_stand(repository: Bootstrapped, version: int, bins: CommitState, root: Root) -> bool:
    """Return whether a version of targets is consistent with a root.

    Args:
        repository: the repository, as folded from ``admin``.
        version: version of the targets.
        bins: the bins, by their heads.
        root: the root to be released.

    Returns:
        For submitted targets, whether they verify under the root; for online targets, whether they delegate to its keys or a later root's.
    """
    if repository.targets:
        return any(submitted.verifies_under(root) for submitted in repository.targets if submitted.signed.version == version)
    later = [submitted.signed for submitted in repository.roots if submitted.signed.version >= root.version]
    return any(roles.same_keys(roles.online_bin_keys(one), bins.delegated.bins) for one in later)


def waits_for_people(repository: Bootstrapped, version: int, current: Root, root: Root) -> bool:
    """Return whether a root whose previous keys are lost waits only for people to sign targets. Meanwhile the current root still serves.

    Args:
        repository: the repository, as folded from ``admin``.
        version: version of the targets.
        current: the current root.
        root: the root to be released.
    """
    if any(not roles.same_keys(roles.root_keys(current, role), roles.root_keys(root, role)) for role in (Timestamp.type, Snapshot.type)):
        return False
    return any(submitted.signed.version == version and not submitted.verifies_under(root) for submitted in repository.targets)


def unfinished_renewals(
    repository: Bootstrapped, heads: Mapping[str, Head], bins: CommitState, made: Collection[str], covered: int
) -> list[int]:
    """Return the renewals of which a role has no new version yet.

    Args:
        repository: the repository, as folded from ``admin``.
        heads: role to head, from the last partition of ``heads``.
        bins: the bins, by their heads.
        made: the roles that get a new version with this commit.
        covered: how far in ``admin`` the last commit goes; renewals below that are finished.

    Returns:
        The offsets of their records.
    """
    pending = {offset: renewal for offset, renewal in repository.renewals.items() if offset >= covered}
    if not pending:
        return []
    newest = {role: head.offset for role, head in heads.items()} | {roles.BINS: bins.oldest}
    # A commit makes no bins. The catch-all role, which it may make, is named like all bins if they have the default prefix.
    renewed = {*made} - {roles.BINS}
    return [
        offset
        for offset, renewal in pending.items()
        if any(role not in renewed and newest.get(role, -1) < renewal.since for role in renewal.roles)
    ]


def covered_in_admin(
    repository: Bootstrapped, root_version: int, targets_version: int, unfinished: Iterable[int] = (), waiting: Sequence[int] = ()
) -> tuple[int, int, tuple[int, ...]]:
    """Return what is released of ``admin``; the tasks of all other records are still pending.

    Args:
        repository: the repository, as folded from ``admin``.
        root_version: the released version of root.
        targets_version: the released version of targets.
        unfinished: the offsets of renewals of which a role has no new version yet.
        waiting: the offsets of changes of the custom delegations that targets does not show, in order.

    Returns:
        As ``admin``, ``admin_end`` and ``waiting`` of ``Vector``.
    """
    roots = [submitted.offset for submitted in repository.roots if submitted.signed.version > root_version]
    targets = [submitted.offset for submitted in repository.targets if submitted.signed.version > targets_version]
    end = min([repository.next_offset, *roots, *targets, *unfinished, *waiting[MAX_WAITING : MAX_WAITING + 1]])
    named = tuple(offset for offset in waiting if offset < end)
    return (named[0], end, named) if named else (end, 0, ())


class RootRelease:
    """Holds a new root back until everything that it governs has verified under it for long enough."""

    def __init__(self) -> None:
        """Start with no root held back."""
        self._met_since: float | None = None
        self._due_at = math.inf

    def wait(self, now: float) -> float:
        """Return when to ask again, at the latest.

        Args:
            now: monotonic time, in seconds.

        Returns:
            After how many seconds the root that is held back may be released; infinity if none is.
        """
        return max(0.0, self._due_at - now)

    def due(
        self, repository: Bootstrapped, heads: Mapping[str, Head], bins: CommitState, now: float, delay: float
    ) -> Submitted[Root] | None:
        """Return the next root once it may be released.

        Args:
            repository: the repository, as folded from ``admin``.
            heads: the heads of root, targets, snapshot and timestamp.
            bins: the bins, by their heads.
            now: monotonic time, in seconds.
            delay: how long timestamp and snapshot must have been signed for a root that changes online keys, in seconds: longer than
                caches keep them.

        Returns:
            The root; None if there is none, or it has to wait.
        """
        submitted = next_root(repository, heads, bins)
        self._due_at = math.inf
        if submitted is None:
            self._met_since = None
            return None
        self._met_since = now if self._met_since is None else self._met_since
        changes = changes_online_keys(current_root(repository, heads).signed, submitted.signed)
        due_at = self._met_since + (delay if changes else 0.0)
        if now < due_at:
            self._due_at = due_at
            return None
        self._met_since = None
        return submitted
