"""The roles to which targets delegates, and their keys: the bins, and the custom roles. Pure.

Without custom roles, targets names the bins itself (``succinct_roles``). With them, it names the custom roles and then the catch-all role,
and only that one names the bins. The catch-all role has the keys of the bins, so targets names them in both cases.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Root, Targets

from tufline.errors import MetadataError
from tufline.metadata.delegations import ALL_PATHS, EXPIRE_POLICY, Delegation, Delegations
from tufline.records import Settings
from tufline.trust import roles
from tufline.trust.roles import RoleKeys


@dataclass(frozen=True, slots=True)
class Delegated:
    """The roles to which targets delegates.

    Attributes:
        bins: the keys of the bins, and of the catch-all role.
        custom: name to keys, for the custom roles in their order.
        catch_all: the name of the catch-all role; None if targets names the bins itself.
        named: the custom roles and then the catch-all role, as targets names them.
    """

    bins: RoleKeys
    custom: Mapping[str, RoleKeys] = field(default_factory=dict)
    catch_all: str | None = None
    named: tuple[DelegatedRole, ...] = ()

    def is_same(self, other: "Delegated") -> bool:
        """Return whether clients would look in the same roles, by the same keys.

        Args:
            other: the roles of other targets.
        """
        return roles.same_keys(self.bins, other.bins) and self.named == other.named


def keys_of(role: Delegation, delegations: Delegations) -> RoleKeys:
    """Return the keys of its own that a custom role has.

    Args:
        role: the role.
        delegations: the delegations that it is part of.

    Returns:
        Its keys and threshold; no keys if those of the bins sign it.
    """
    keys = {keyid: Key.from_dict(keyid, copy.deepcopy(delegations.keys[keyid])) for keyid in role.keyids if keyid in delegations.keys}
    return RoleKeys(keys, role.threshold)


def delegated_by(root: Root, settings: Settings, custom: Delegations) -> Delegated:
    """Return the roles to which online targets delegates (RSTUF's mode).

    Args:
        root: the root that names the bins' keys.
        settings: the settings from the bootstrap.
        custom: the custom delegations.

    Returns:
        The roles and their keys.
    """
    online = roles.online_bin_keys(root)
    if not custom.roles:
        return Delegated(online)
    keys = {role.name: keys_of(role, custom) if role.keyids else online for role in custom.roles}
    named = [
        DelegatedRole(
            role.name,
            [*(role.keyids or online.keys)],
            keys[role.name].threshold,
            role.terminating,
            [*role.paths],
            unrecognized_fields={} if role.days is None else {EXPIRE_POLICY: role.days},
        )
        for role in custom.roles
    ]
    catch_all = DelegatedRole(settings.name_prefix, [*online.keys], online.threshold, True, path_hash_prefixes=[*ALL_PATHS])
    return Delegated(online, keys, settings.name_prefix, (*named, catch_all))


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
        return Delegated(roles.bin_keys(targets))
    found = [*delegations.roles.values()]
    if not found or found[-1].path_hash_prefixes is None:
        raise MetadataError(roles.NO_BINS)
    keys = {role.name: _pick(delegations.keys, role.keyids, role.threshold) for role in found}
    catch_all = found[-1].name
    return Delegated(keys.pop(catch_all), keys, catch_all, tuple(found))


def _pick(keys: Mapping[str, Key], keyids: Collection[str], threshold: int) -> RoleKeys:
    return RoleKeys({keyid: keys[keyid] for keyid in keyids if keyid in keys}, threshold)
