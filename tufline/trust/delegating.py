"""Accepting changes of the custom delegations (``tufline.metadata.delegations``).

Each accepted change is a version of all delegations, which routes the changes of artifacts from its ends on. Clients learn of it by the
next targets. No I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from tuf.api.metadata import Root, Targets

from tufline.decoding import shorten
from tufline.errors import InvalidBootstrapError, InvalidInputError, InvalidUpdateError, MetadataError
from tufline.metadata import canonical
from tufline.metadata.delegations import EXPIRE_POLICY, Delegation, Delegations, check_roles
from tufline.metadata.profiles import Profile
from tufline.records import DELEGATIONS_SCHEMA, OFFLINE_ROLES_SCHEMA, Bootstrap, ChangedDelegations, NewMetadata, Settings
from tufline.records.routing import AcceptedDelegations, Routing
from tufline.trust import client_rules, roles, rules
from tufline.trust.admin_state import AdminState
from tufline.trust.delegated import keys_of, read_custom, with_custom
from tufline.trust.roles import RoleKeys
from tufline.trust.signing import Proposal

ROLE_BYTES: Final = 120
KEYID_BYTES: Final = 67
"""How many bytes more a role takes in targets than as a ``Delegation``, at most: for fields that have their default, and for each key of
the bins."""

SUBMIT_TARGETS: Final = "people sign targets here: submit targets that name the custom roles, and after them the catch-all role"


def first_routing(bootstrap: Bootstrap, offset: int) -> Routing:
    """Return the routing that a repository begins with.

    Args:
        bootstrap: the accepted bootstrap.
        offset: the offset of its record in ``admin``.
    """
    settings = bootstrap.settings
    custom = bootstrap.delegations
    if bootstrap.targets is not None:
        custom = read_custom(roles.parse(Targets, bootstrap.targets).signed)
    if custom is None or not custom.roles:
        return Routing(settings.partitioning)
    first = AcceptedDelegations(offset, (0,) * settings.partitions, custom)
    return Routing(settings.partitioning, [first], only_custom=settings.only_custom)


def check_bootstrap(bootstrap: Bootstrap) -> None:
    """Refuse the custom delegations of a bootstrap for the reasons for which a change of them would be refused.

    Args:
        bootstrap: the payload.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    delegations, settings = bootstrap.delegations, bootstrap.settings
    if delegations is None:
        if settings.only_custom:
            raise InvalidBootstrapError("nothing takes artifacts: name custom roles, or a number of bins")
        return
    if bootstrap.v < DELEGATIONS_SCHEMA:
        raise InvalidBootstrapError(f"a bootstrap with delegations must have schema version {DELEGATIONS_SCHEMA}, not {bootstrap.v}")
    if bootstrap.targets is not None:
        raise InvalidBootstrapError(SUBMIT_TARGETS)
    names = [role.name for role in delegations.roles]
    if not names:
        raise InvalidBootstrapError("settings.roles.delegations names no role: name at least one")
    if len({*names}) < len(names):
        raise InvalidBootstrapError("settings.roles.delegations names a role twice: name each role once")
    try:
        check(delegations, frozenset(names), settings.name_prefix, rules.profile_of(bootstrap), bootstrap.rules)
        check_size(delegations, roles.online_bin_keys(roles.parse(Root, bootstrap.root).signed))
    except (InvalidInputError, MetadataError) as error:
        raise InvalidBootstrapError(str(error)) from error


def check(
    delegations: Delegations, changed: frozenset[str], bins_prefix: str, profile: Profile, rules_version: int, *, offline: bool = False
) -> None:
    """Refuse custom delegations that some client would read differently from the others, or whose roles the signer can't sign.

    Args:
        delegations: all custom delegations.
        changed: the names of the roles that were added or changed.
        bins_prefix: the prefix of the bins' names.
        profile: the repository's profile.
        rules_version: the version of the rules to apply.
        offline: whether roles may have keys that only people have.

    Raises:
        InvalidInputError: with the reason and what to do.
        MetadataError: the same, about keys.
    """
    check_roles(delegations.roles, changed, bins_prefix)
    for role in delegations.roles:
        if role.name in changed:
            _check_keys(role, delegations, profile, rules_version, offline=offline)


def check_size(delegations: Delegations, bins: RoleKeys) -> None:
    """Refuse custom delegations that would make targets larger than clients accept.

    Args:
        delegations: all custom delegations.
        bins: the keys of the bins.

    Raises:
        InvalidInputError: with the sizes and what to do.
    """
    most = rules.MAX_BYTES[Targets.type]
    # Not made by ``rules.make_targets``, which takes seconds for many roles.
    added = ROLE_BYTES + KEYID_BYTES * len(bins.keys)
    size = len(msgspec.json.encode(delegations)) + added * len(delegations.roles)
    if size > most:
        raise InvalidInputError(
            f"with these delegations targets would have some {size} bytes, but at most {most} are published, so that all clients read it: "
            "use fewer or shorter paths"
        )


def _check_keys(role: Delegation, delegations: Delegations, profile: Profile, rules_version: int, *, offline: bool) -> None:
    if role.days is not None and not 1 <= role.days <= rules.MAX_EXPIRATION_DAYS:
        raise InvalidInputError(f"the expiration of {role.name} must be from 1 to {rules.MAX_EXPIRATION_DAYS} days, not {role.days}")
    if not role.keyids:
        if role.threshold != 1:
            raise InvalidInputError(f"{role.name} has no keys, so those of the bins sign it: give it the threshold 1, or keys of its own")
        return
    for keyid in role.keyids:
        if keyid in delegations.keys:
            canonical.check(delegations.keys[keyid], f"keys.{keyid[:12]}", newlines=True)
    client_rules.check_delegation(role.name, [*role.keyids], role.threshold, delegations.keys, profile)
    if offline and role.name in delegations.offline:
        if role.days is None:
            raise InvalidInputError(f"people sign the custom role {role.name!r}: say for how many days ({EXPIRE_POLICY})")
        return
    rules.check_online(role.name, keys_of(role, delegations), rules_version)


def _changed(before: Delegations, content: ChangedDelegations) -> tuple[Delegations, frozenset[str]]:
    known = [role.name for role in before.roles]
    named = content.deleted if content.action == "delete" else [role.name for role in content.roles]
    if not named:
        raise InvalidUpdateError("it names no role: name at least one")
    if len({*named}) < len(named):
        raise InvalidUpdateError("it names a role twice: name each role once")
    if content.action == "add":
        if there := [name for name in named if name in known]:
            raise InvalidUpdateError(f"there is a role {shorten(', '.join(there))} already: update it instead")
        following = (*before.roles, *content.roles)
    else:
        if missing := [name for name in named if name not in known]:
            raise InvalidUpdateError(f"there is no role {shorten(', '.join(missing))}: the roles are {shorten(', '.join(known)) or 'none'}")
        new = {role.name: role for role in content.roles}
        kept = [role for role in before.roles if role.name not in content.deleted]
        following = tuple(new.get(role.name, role) for role in kept)
    keys = before.keys | content.keys
    used = {keyid for role in following for keyid in role.keyids}
    return Delegations({keyid: key for keyid, key in keys.items() if keyid in used}, following), frozenset(named)


def _check_kinds(before: Delegations, after: Delegations) -> None:
    """Refuse to hand a role over from the signer to people, or back: its next version could be signed by both at the same time."""
    for role in after.roles:
        known = before.find(role.name)
        if known is not None and (role.name in before.offline) != (role.name in after.offline):
            raise InvalidInputError(
                f"the custom role {role.name!r} can't change from keys that the signer uses to keys that only people have, or back: delete "
                "it, and add it again"
            )


def change(state: AdminState, content: ChangedDelegations, offset: int, now: datetime) -> AdminState:
    """Accept a change of the custom delegations: the whole of it, or nothing.

    Args:
        state: the state before the record.
        content: the record's content.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record. Where people sign targets, it has the next targets, which wait for signatures.

    Raises:
        InvalidUpdateError: with the reason and what to do.
    """
    if state.bootstrap is None or state.routing is None:
        raise InvalidUpdateError("there is no repository yet")
    settings, routing = state.bootstrap.settings, state.routing
    newest = state.targets[-1].signed if state.targets else None
    before = routing.delegations if newest is None else read_custom(newest)
    delegations, named = _changed(before, content)
    try:
        if content.action != "delete":
            # An earlier Tufline stops at a record that may have such keys. Targets that people sign would wait for the role's people, too.
            offline = content.v >= OFFLINE_ROLES_SCHEMA and newest is None
            check(delegations, named, settings.name_prefix, state.profile, content.rules, offline=offline)
            _check_kinds(before, delegations)
            check_size(delegations, roles.online_bin_keys(state.roots[-1].signed) if newest is None else roles.bin_keys(newest))
    except (InvalidInputError, MetadataError) as error:
        raise InvalidUpdateError(str(error)) from error
    if newest is None:
        return replace(state, routing=routed_from(routing, offset, content.ends, delegations, settings))
    if (waiting := state.open_proposal("targets")) is not None:
        raise InvalidUpdateError(
            f"{waiting.what} waits for signatures already: sign that one, or withdraw it first (POST /api/v1/metadata/sign/delete)"
        )
    following = with_custom(newest, settings, delegations, now + timedelta(days=settings.expiration_days[Targets.type]))
    metadata = {"signatures": [], "signed": following.to_dict()}
    proposed = NewMetadata(v=DELEGATIONS_SCHEMA, role="targets", metadata=metadata, rules=content.rules, signing=True)
    proposal = Proposal(offset, "targets", following.version, proposed)
    return replace(state, proposals={**state.proposals, offset: proposal})


def routed_from(routing: Routing, offset: int, ends: Sequence[int] | None, delegations: Delegations, settings: Settings) -> Routing:
    """Return the routing with one more version of the custom delegations.

    Args:
        routing: the routing before.
        offset: the offset of its record in ``admin``.
        ends: as the record names them.
        delegations: all custom delegations.
        settings: the settings from the bootstrap.

    Raises:
        InvalidUpdateError: if the ends are not those of the repository's partitions.
    """
    if ends is None or len(ends) != settings.partitions:
        raise InvalidUpdateError("it names the ends of another number of partitions than the repository has")
    # Two processes may have read the ends in one order, and appended their records in the other.
    increasing = tuple(map(max, ends, routing.versions[-1].ends)) if routing.versions else tuple(ends)
    versions = (*routing.versions, AcceptedDelegations(offset, increasing, delegations))
    return Routing(settings.partitioning, versions, only_custom=settings.only_custom)


def changes_custom(state: AdminState, targets: Targets) -> bool:
    """Return whether targets that people sign have other custom delegations than the newest ones.

    Args:
        state: the state before they are accepted.
        targets: the next targets.
    """
    return state.routing is not None and read_custom(targets) != state.routing.delegations


def needs_ends(state: AdminState, role: str, metadata: Mapping[str, Any]) -> bool:
    """Return whether a record that makes a submitted version valid must name ends, because it changes the custom delegations.

    Args:
        state: the state before the record.
        role: the role of the version.
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Raises:
        MetadataError: if it is not metadata of that role.
    """
    return role == Targets.type and changes_custom(state, roles.parse(Targets, metadata).signed)
