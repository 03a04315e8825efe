"""When roles expire: a summary for operators, and warnings about what people or a signer should have renewed by now. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.metadata import envelope
from tufline.metadata.expiry import expiry_warning
from tufline.records import Bootstrap
from tufline.trust.admin_state import Bootstrapped
from tufline.trust.roles import BINS

CUSTOM: Final = "custom"
CATCH_ALL: Final = "catch_all"
"""The keys of the summary for custom roles, and for the role that delegates to the bins; no custom role is summed up by its name."""

LISTED_ROLES: Final = 20
"""How many custom roles that expire soon are listed by name: the first to expire."""


def describe_expiries(expires: Mapping[str, str], bootstrap: Bootstrap, now: datetime) -> dict[str, str]:
    """Describe approaching expiries of roles that people sign.

    Args:
        expires: role to expiry.
        bootstrap: of the repository.
        now: the current time, with a time zone.

    Returns:
        For each part of health, ``expiry.<role>``, a sentence that says when the role expires.
    """
    found = {}
    for role in [Root.type] if bootstrap.targets is None else [Root.type, Targets.type]:
        if role in expires:
            lifetime = timedelta(days=bootstrap.settings.expiration_days[role])
            if sight := expiry_warning(role, envelope.parse_expires(expires[role]), lifetime, now):
                found[f"expiry.{role}"] = sight.text
    return found


def describe_custom_expiries(expires: Mapping[str, str], repository: Bootstrapped, now: datetime) -> dict[str, str]:
    """Describe custom roles that the signer should have renewed by now.

    Args:
        expires: role to expiry.
        repository: the repository.
        now: the current time, with a time zone.

    Returns:
        For each part of health, ``expiry.<role>``, a sentence; for the first ``LISTED_ROLES`` of these roles to expire.
    """
    late: list[tuple[datetime, str]] = []
    for role in repository.routing.delegations.roles:
        days = repository.settings.expiration_days[BINS] if role.days is None else role.days
        if role.name in expires:
            moment = envelope.parse_expires(expires[role.name])
            if expiry_warning(role.name, moment, timedelta(days=days), now):
                late.append((moment, role.name))
    advice = "no signer has renewed it: look at the signer's /readyz"
    return {f"expiry.{role}": f"{role} expires on {moment:%Y-%m-%d %H:%M} UTC: {advice}" for moment, role in sorted(late)[:LISTED_ROLES]}


def summarize_expiries(expires: Mapping[str, str], repository: Bootstrapped) -> dict[str, str]:
    """Return when each top-level role expires; and when the first of the bins and of the custom roles does.

    Args:
        expires: role to expiry, also of roles that are deleted.
        repository: the repository.

    Returns:
        Role, ``bins``, ``custom`` or ``catch_all`` to expiry.
    """
    settings = repository.settings
    bins, custom = ({settings.layout.name(number) for number in range(settings.number_of_bins)}, repository.routing.delegations.roles)
    groups = {
        **{role: {role} for role in (Root.type, Targets.type, Snapshot.type, Timestamp.type)},
        BINS: bins,
        CUSTOM: {role.name for role in custom},
        CATCH_ALL: {settings.name_prefix} if custom else set(),
    }
    found = {group: [expires[role] for role in roles if role in expires] for group, roles in groups.items()}
    return {group: min(moments) for group, moments in found.items() if moments}
