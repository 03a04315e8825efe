"""The keys to which targets delegates: those of the bins and those of the custom roles. Pure.

Without custom roles, targets names the bins itself (``succinct_roles``). With them, it names the custom roles and then the catch-all role,
and only that one names the bins. The catch-all role has the keys of the bins, so targets names them in both cases
(``tufline.trust.rules``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tuf.api.metadata import DelegatedRole, Targets

from tufline.errors import MetadataError
from tufline.trust import roles
from tufline.trust.roles import RoleKeys


@dataclass(frozen=True, slots=True)
class Delegated:
    """The roles to which targets delegates.

    Attributes:
        bins: the keys of the bins, and of the catch-all role.
        custom: name to keys, for the custom roles in their order.
        catch_all: the name of the catch-all role; None if targets names the bins itself.
        roles: the custom roles as targets names them, and the catch-all role, in their order.
    """

    bins: RoleKeys
    custom: Mapping[str, RoleKeys]
    catch_all: str | None
    roles: tuple[DelegatedRole, ...] = ()

    def is_same(self, other: "Delegated") -> bool:
        """Return whether clients would look in the same roles, by the same keys.

        Args:
            other: the roles of other targets.
        """
        keyids = self.bins.keys.keys() == other.bins.keys.keys() and self.bins.threshold == other.bins.threshold
        return keyids and self.roles == other.roles


def read_delegated(targets: Targets) -> Delegated:
    """Return the roles to which targets delegates.

    Args:
        targets: the trusted top-level targets.

    Returns:
        The roles and their keys.

    Raises:
        MetadataError: if it does not delegate to hash bins.
    """
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        return Delegated(roles.bin_keys(targets), {}, None)
    found = [*delegations.roles.values()]
    if not found or found[-1].path_hash_prefixes is None:
        raise MetadataError(roles.NO_BINS)
    keys = {
        role.name: RoleKeys({keyid: delegations.keys[keyid] for keyid in role.keyids if keyid in delegations.keys}, role.threshold)
        for role in found
    }
    catch_all = found[-1].name
    return Delegated(keys.pop(catch_all), keys, catch_all, tuple(found))
