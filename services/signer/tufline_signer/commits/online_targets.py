"""What the next online targets delegate to (RSTUF's mode). Pure.

In: the roots and the versions of the custom delegations (``tufline.trust.admin_state``), and the bins and custom roles by their heads. Out:
the newest root and custom delegations under which every bin and custom role verifies.

A repository may have thousands of custom roles, and makes a commit each second. So a version that waits is looked at only from the role on
that it waited for last, and what the current targets delegate to is found once.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from tuf.api.metadata import Root

from tufline.metadata.delegations import NO_DELEGATIONS, Delegations
from tufline.trust import roles
from tufline.trust.admin_state import Bootstrapped
from tufline.trust.delegated import Delegated, delegated_by
from tufline_signer.commits.state import CommitState
from tufline_signer.errors import InconsistentLogError


class Choice(NamedTuple):
    """What the next online targets delegate to.

    Attributes:
        root: the root that names the keys.
        versions: how many versions of the custom delegations there are, up to the one that they follow.
        custom: the custom delegations.
        is_same: whether the current targets delegate to the same roles, by the same keys.
    """

    root: Root
    versions: int
    custom: Delegations
    is_same: bool


class OnlineTargets:
    """Chooses what the next online targets delegate to, commit after commit."""

    def __init__(self) -> None:
        """Know nothing about the current targets yet."""
        self._named: list[tuple[Delegated, Delegations]] = []
        self._unmet: dict[tuple[int, int], int] = {}

    def choose(self, repository: Bootstrapped, bins: CommitState, released: int) -> Choice:
        """Choose what online targets delegate to.

        Args:
            repository: the repository, as folded from ``admin``.
            bins: the bins and custom roles, by their heads.
            released: how many versions of the custom delegations there are, up to the one that the current targets follow.

        Returns:
            The newest root and custom delegations under which every bin and custom role verifies; otherwise those of the current targets.

        Raises:
            InconsistentLogError: if neither is the case.
        """
        current = self._followed(bins.delegated)
        for root, versions, custom in _candidates(repository, bins.delegated, released):
            online = roles.online_bin_keys(root)
            if current is not None and roles.same_keys(online, bins.delegated.bins) and custom.roles == current.roles:
                return Choice(root, versions, custom, is_same=True)
            if self._are_met(bins, (root.version, versions), online, custom):
                return Choice(root, versions, custom, is_same=False)
        raise InconsistentLogError("the current targets delegate to roles that no root and no record of admin has named")

    def find(self, delegated: Delegated, repository: Bootstrapped, released: int) -> None:
        """Find what the current targets follow, after a restart. Thousands of custom roles take tens of milliseconds.

        Args:
            delegated: what the current targets delegate to.
            repository: the repository, as folded from ``admin``.
            released: as for ``choose``.
        """
        for root, _, custom in _candidates(repository, delegated, released):
            has_as_many = len(custom.roles) == len(delegated.custom)
            if has_as_many and delegated_by(root, repository.bootstrap.settings, custom).is_same(delegated):
                self.name(delegated, custom)
                return

    def name(self, delegated: Delegated, custom: Delegations) -> None:
        """Note what targets follow that will be the current ones, unless they have to wait: then the current ones stay.

        Args:
            delegated: what they delegate to.
            custom: the custom delegations that they follow.
        """
        self._named = [(delegated, custom), *self._named[:1]]

    def _followed(self, current: Delegated) -> Delegations | None:
        """Return the custom delegations that the current targets follow; None if no root and no record has named them."""
        self._named.sort(key=lambda named: named[0] is not current)
        return self._named[0][1] if self._named and self._named[0][0] is current else None

    def _are_met(self, bins: CommitState, candidate: tuple[int, int], online: roles.RoleKeys, custom: Delegations) -> bool:
        if not bins.are_bins_met(online):
            return False
        first = self._unmet.get(candidate, 0)
        for number in chain(range(first, len(custom.roles)), range(first)):
            if not bins.is_met(custom.roles[number], custom, online):
                self._unmet[candidate] = number
                return False
        self._unmet = {key: number for key, number in self._unmet.items() if key[1] > candidate[1]}
        return True


def _candidates(repository: Bootstrapped, current: Delegated, released: int) -> Iterator[tuple[Root, int, Delegations]]:
    """Find what targets may delegate to, the newest first: a root, and how many versions of the custom delegations with the last one."""
    newest = repository.roots[-1].signed
    for submitted in reversed(repository.roots):
        root = submitted.signed
        if root is not newest and not roles.same_keys(roles.online_bin_keys(root), current.bins):
            continue
        for versions in range(len(repository.delegations), released - 1, -1):
            yield root, versions, repository.delegations[versions - 1].delegations if versions else NO_DELEGATIONS
