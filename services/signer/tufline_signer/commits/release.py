"""When the next version of root or targets may be shown: once all that it governs verifies under it. Pure.

In: what people gave (``tufline.trust.admin_state``), what is shown, and the bins. Out: what to show next, or nothing.

In PEP 458's mode the targets are given, and may be shown when every bin is signed for them. In RSTUF's the signer makes them: a root that
names another key for targets first lets the bins be signed with it, then targets that delegate to it, then the root itself.
"""

from collections.abc import Mapping

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.records import Head
from tufline.trust import rules
from tufline.trust.admin_state import AdminState, Submitted
from tufline.trust.rules import RoleKeys
from tufline_signer.commits.state import Folding

ONLINE_ROLES = (Timestamp.type, Snapshot.type, Targets.type)


def shown_root(state: AdminState, heads: Mapping[str, Head]) -> Submitted[Root]:
    """Give the root that is shown.

    Args:
        state: folded from ``admin``.
        heads: of the last partition of ``heads``.

    Returns:
        The root.
    """
    return next(given for given in state.roots if given.signed.version == heads[Root.type].version)


def changes_online_keys(old: Root, new: Root) -> bool:
    """Say whether a root has other keys for the roles that the signer may sign.

    Args:
        old: a root.
        new: the one after it.
    """
    return any(not same_keys(rules.root_keys(old, role), rules.root_keys(new, role)) for role in ONLINE_ROLES)


def same_keys(mine: RoleKeys, other: RoleKeys) -> bool:
    """Say whether two say the same of who signs.

    Args:
        mine: the keys of a role.
        other: the keys of another one, or of the same at another time.
    """
    return mine.keys.keys() == other.keys.keys() and mine.threshold == other.threshold


def next_given_targets(state: AdminState, heads: Mapping[str, Head], folding: Folding, root: Root) -> Submitted[Targets] | None:
    """Give the next targets, if they may be shown (PEP 458's mode).

    Args:
        state: folded from ``admin``.
        heads: of the last partition of ``heads``.
        folding: the bins.
        root: that is shown with them.

    Returns:
        The targets, or None.
    """
    version = heads[Targets.type].version + 1
    given = next((given for given in state.targets if given.signed.version == version), None)
    is_ready = given is not None and folding.are_met(rules.bin_keys(given.signed)) and given.verifies_under(root)
    return given if is_ready else None


def root_to_delegate_by(state: AdminState, folding: Folding) -> Root:
    """Say by which root online targets delegate to the bins (RSTUF's mode).

    Args:
        state: folded from ``admin``.
        folding: the bins.

    Returns:
        The newest root whose keys every bin is signed with; else the one whose keys they have been delegated to.
    """
    newest = state.roots[-1].signed
    keys = rules.online_bin_keys(newest)
    if same_keys(keys, folding.keys) or folding.are_met(keys):
        return newest
    roots = [given.signed for given in reversed(state.roots)]
    return next(root for root in roots if same_keys(rules.online_bin_keys(root), folding.keys))


def next_root(state: AdminState, heads: Mapping[str, Head], folding: Folding) -> Submitted[Root] | None:
    """Give the next root, if all that is shown verifies under it.

    Args:
        state: folded from ``admin``.
        heads: of the last partition of ``heads``.
        folding: the bins.

    Returns:
        The root, or None.
    """
    version = heads[Root.type].version + 1
    given = next((given for given in state.roots if given.signed.version == version), None)
    if given is None:
        return None
    signed = [Timestamp.type, Snapshot.type, *([] if state.targets else [Targets.type])]
    if not all(role in heads and rules.root_keys(given.signed, role).are_met_by(heads[role].keyids) for role in signed):
        return None
    return given if targets_stand(state, heads[Targets.type].version, folding, given.signed) else None


def lost_roots(state: AdminState, heads: Mapping[str, Head]) -> list[Submitted[Root]]:
    """Give the roots that must not wait, as the keys before them are lost.

    Args:
        state: folded from ``admin``.
        heads: of the last partition of ``heads``.

    Returns:
        All from the next one up to the last that says so; none usually.
    """
    version = heads[Root.type].version
    waiting = [given for given in state.roots if given.signed.version > version]
    last = max((number for number, given in enumerate(waiting) if given.skip_overlap), default=-1)
    return waiting[: last + 1]


def targets_stand(state: AdminState, version: int, folding: Folding, root: Root) -> bool:
    """Say whether targets that are shown stand under a root.

    Args:
        state: folded from ``admin``.
        version: of the targets.
        folding: the bins.
        root: that is to be shown.

    Returns:
        Whether given targets verify under it; or whether online targets delegate to its keys, or to those of a root after it.
    """
    if state.targets:
        return any(given.verifies_under(root) for given in state.targets if given.signed.version == version)
    later = [given.signed for given in state.roots if given.signed.version >= root.version]
    return any(same_keys(rules.online_bin_keys(one), folding.keys) for one in later)


def covered_in_admin(state: AdminState, root_version: int, targets_version: int) -> int:
    """Say how far in ``admin`` everything is shown: who gave what is not shown yet waits for it.

    Args:
        state: folded from ``admin``.
        root_version: that is shown.
        targets_version: that is shown.

    Returns:
        An offset.
    """
    roots = [given.offset for given in state.roots if given.signed.version > root_version]
    targets = [given.offset for given in state.targets if given.signed.version > targets_version]
    return min([state.next_offset, *roots, *targets])
