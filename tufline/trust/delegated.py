"""The roles to which targets delegates, and their keys: the bins, and the custom roles. Pure.

Without custom roles, targets names the bins itself (``succinct_roles``). With them, it names the custom roles and then the catch-all role,
and only that one names the bins. The catch-all role has the keys of the bins, so targets names them in both cases.
"""

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Root, SuccinctRoles, Targets
from tuf.api.metadata import Delegations as TufDelegations

from tufline.metadata.delegations import ALL_PATHS, EXPIRE_POLICY, NO_DELEGATIONS, Delegation, Delegations
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
    return _pick({keyid: _read_key(delegations, keyid) for keyid in role.keyids if keyid in delegations.keys}, role.keyids, role.threshold)


def _read_key(delegations: Delegations, keyid: str) -> Key:
    return Key.from_dict(keyid, copy.deepcopy(delegations.keys[keyid]))


def is_met(role: Delegation, delegations: Delegations, bins: RoleKeys, keyids: Iterable[str]) -> bool:
    """Return whether enough keys of a custom role signed, without reading the keys themselves.

    Args:
        role: the role.
        delegations: the delegations that it is part of.
        bins: the keys of the bins.
        keyids: the keyids of all valid signatures.
    """
    return roles.are_enough(delegations.keys.keys() & role.keyids, role.threshold, keyids) if role.keyids else bins.are_met_by(keyids)


def delegated_by(root: Root, settings: Settings, custom: Delegations) -> Delegated:
    """Return the roles to which online targets delegates (RSTUF's mode).

    Args:
        root: the root that names the bins' keys.
        settings: the settings from the bootstrap.
        custom: the custom delegations.

    Returns:
        The roles and their keys.
    """
    return _delegated(roles.online_bin_keys(root), settings, custom)


def _delegated(online: RoleKeys, settings: Settings, custom: Delegations) -> Delegated:
    if not custom.roles:
        return Delegated(online)
    # Each key once: reading it takes ten times longer than all else here, and many roles may share it.
    every = {keyid: _read_key(custom, keyid) for keyid in custom.keys}
    keys = {role.name: _pick(every, role.keyids, role.threshold) if role.keyids else online for role in custom.roles}
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
    bins, catch_all, delegations = roles.bin_keys(targets), roles.catch_all_of(targets), targets.delegations
    if catch_all is None or delegations is None or delegations.roles is None:
        return Delegated(bins)
    named = tuple(delegations.roles.values())
    return Delegated(bins, {role.name: _pick(delegations.keys, role.keyids, role.threshold) for role in named[:-1]}, catch_all.name, named)


def read_custom(targets: Targets) -> Delegations:
    """Return the custom delegations of targets that people signed.

    Args:
        targets: top-level targets.

    Returns:
        The custom roles, in their order, and their keys.
    """
    delegations, catch_all = targets.delegations, roles.catch_all_of(targets)
    if delegations is None or delegations.roles is None or catch_all is None:
        return NO_DELEGATIONS
    custom = [role for role in delegations.roles.values() if role is not catch_all]
    keyids = {keyid for role in custom for keyid in role.keyids}
    return Delegations({keyid: key.to_dict() for keyid, key in delegations.keys.items() if keyid in keyids}, tuple(map(_read_role, custom)))


def custom_of(delegated: Delegated) -> Delegations:
    """Return the custom delegations of online targets.

    Args:
        delegated: the roles to which they delegate, and their keys.

    Returns:
        The custom roles, in their order, and their keys; a role with the keys of the bins has none of its own.
    """
    found = []
    keys: dict[str, Key] = {}
    for named in delegated.named[:-1]:
        role = _read_role(named)
        if roles.same_keys(delegated.custom[role.name], delegated.bins):
            role = msgspec.structs.replace(role, keyids=(), threshold=1)
        else:
            keys |= delegated.custom[role.name].keys
        found.append(role)
    return Delegations({keyid: key.to_dict() for keyid, key in keys.items()}, tuple(found))


def _read_role(role: DelegatedRole) -> Delegation:
    days = role.unrecognized_fields.get(EXPIRE_POLICY)
    return Delegation(
        name=role.name,
        paths=tuple(role.paths or ()),
        terminating=role.terminating,
        keyids=tuple(role.keyids),
        threshold=role.threshold,
        days=days if isinstance(days, int) else None,
    )


def with_custom(targets: Targets, settings: Settings, custom: Delegations, expires: datetime) -> Targets:
    """Make the next version of targets that people sign, with other custom delegations.

    Args:
        targets: the newest version.
        settings: the settings from the bootstrap.
        custom: the custom delegations; roles without keys of their own get those of the bins.
        expires: when the next version expires.

    Returns:
        The next version, without signatures.
    """
    following = copy.deepcopy(targets)
    following.version, following.expires = targets.version + 1, expires.astimezone(UTC).replace(microsecond=0)
    following.delegations = delegations_to(_delegated(roles.bin_keys(targets), settings, custom), settings)
    return following


def delegations_to(delegated: Delegated, settings: Settings) -> TufDelegations:
    """Return the delegations that targets has.

    Args:
        delegated: the roles and their keys.
        settings: the settings from the bootstrap.
    """
    if delegated.catch_all is None:
        return delegations_to_bins(delegated.bins, settings)
    keys = {keyid: key for of_role in (*delegated.custom.values(), delegated.bins) for keyid, key in of_role.keys.items()}
    return TufDelegations(keys=keys, roles={role.name: role for role in delegated.named})


def delegations_to_bins(keys: RoleKeys, settings: Settings) -> TufDelegations:
    """Return the delegations that name the bins themselves: those of targets without custom roles, and of the catch-all role.

    Args:
        keys: the keys of the bins.
        settings: the settings from the bootstrap.
    """
    layout = settings.layout
    bins = SuccinctRoles([*keys.keys], keys.threshold, layout.bit_length, layout.name_prefix)
    return TufDelegations(keys=dict(keys.keys), succinct_roles=bins)


def _pick(keys: Mapping[str, Key], keyids: Collection[str], threshold: int) -> RoleKeys:
    return RoleKeys({keyid: keys[keyid] for keyid in keyids if keyid in keys}, threshold)
