"""Changes to the roles that the signer signs, for which no person has to sign: new lifetimes, and new versions before they are due.

Each change is a record of ``admin``, so all signers apply it at the same place of the log, no matter when they read it. No I/O, no clock.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from tuf.api.metadata import Snapshot, Targets, Timestamp

from tufline.decoding import shorten
from tufline.errors import InvalidUpdateError
from tufline.records import NewLifetimes, Renewal
from tufline.trust.admin_state import AdminState, ChangedLifetimes
from tufline.trust.roles import BINS
from tufline.trust.rules import MAX_EXPIRATION_DAYS

MAX_CHANGES: Final = 200
"""For how many of the newest changes the results are kept, to answer their tasks."""


def online_roles(state: AdminState) -> list[str]:
    """Return the roles that the signer signs; all bins count as one role.

    Args:
        state: the state of a repository.
    """
    return [*([] if state.targets else [Targets.type]), Snapshot.type, Timestamp.type, BINS]


def change_lifetimes(state: AdminState, content: NewLifetimes, offset: int) -> AdminState:
    """Accept new lifetimes.

    Args:
        state: the state before the record.
        content: the record's content.
        offset: the record's offset in ``admin``.

    Returns:
        The state after the record.

    Raises:
        InvalidUpdateError: if there is no repository, a lifetime is out of range, or the signer signs none of the roles.
    """
    if state.bootstrap is None:
        raise InvalidUpdateError("there is no repository yet")
    online = online_roles(state)
    days = {role: number for role, number in content.days.items() if role in online}
    if not days:
        raise InvalidUpdateError(f"none of the roles is signed by the signer: name some of {', '.join(online)}")
    for role, number in days.items():
        if not 1 <= number <= MAX_EXPIRATION_DAYS:
            raise InvalidUpdateError(f"the expiration of {role} must be from 1 to {MAX_EXPIRATION_DAYS} days, not {number}")
    change = ChangedLifetimes(tuple(days), tuple(role for role in content.days if role not in days))
    kept = dict([*state.lifetime_changes.items(), (offset, change)][-MAX_CHANGES:])
    return replace(state, lifetimes={**state.lifetimes, **days}, lifetime_changes=kept)


def roles_renewed_with(roles: Collection[str]) -> list[str]:
    """Return the roles to renew, and those that must follow: a new bin or targets needs a new snapshot, and a snapshot a new timestamp.

    Args:
        roles: the roles to renew.
    """
    with_snapshot = not {Targets.type, BINS, Snapshot.type}.isdisjoint(roles)
    return [*dict.fromkeys([*roles, *([Snapshot.type] if with_snapshot else []), Timestamp.type])]


def renew(state: AdminState, content: Renewal, offset: int) -> AdminState:
    """Accept a request to renew roles.

    Args:
        state: the state before the record.
        content: the record's content.
        offset: the record's offset in ``admin``.

    Returns:
        The state after the record.

    Raises:
        InvalidUpdateError: if there is no repository, or the signer does not sign one of the roles.
    """
    if state.bootstrap is None:
        raise InvalidUpdateError("there is no repository yet")
    online = online_roles(state)
    if not content.roles:
        raise InvalidUpdateError(f"the renewal names no role: name some of {', '.join(online)}")
    if Targets.type in content.roles and state.targets:
        raise InvalidUpdateError("targets is signed by people here: submit its next version to /api/v1/metadata instead")
    if unknown := [role for role in content.roles if role not in online]:
        raise InvalidUpdateError(f"the signer does not sign {shorten(', '.join(unknown))}: name some of {', '.join(online)}")
    since = {role: max(content.since, state.renew_since.get(role, 0)) for role in content.roles}
    kept = dict([*state.renewals.items(), (offset, content)][-MAX_CHANGES:])
    return replace(state, renew_since={**state.renew_since, **since}, renewals=kept)
