"""Reports what operators must do for the repository's trust: renew expiring roles, and replace unusable submissions."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from tuf.api.metadata import Root, Targets

from tufline.metadata.envelope import parse_expires
from tufline.metadata.expiry import STEPS, expiry_warning
from tufline.records import Bootstrap, Head
from tufline.runtime.health import Health
from tufline.trust import roles
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline_signer.commits.state import CommitState

NAMED: Final = 3
"""How many roles or keys a problem names at most."""

SEE_SIGNERS: Final = "if it lasts, look for signer.bins and signer.key in the health of all signers"

WAITING_ROOT: Final = "signatures.targets"
"""The part of health that says which root waits for targets that people sign."""

_log = structlog.get_logger(__name__)


def few(names: Sequence[str]) -> str:
    """Return names for a sentence: the first ones, and how many more there are.

    Args:
        names: the names of roles or keys.
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def describe_withheld(repository: Bootstrapped, bins: CommitState) -> str:
    """Return which roles are not published in their newest version, and what they wait for.

    Args:
        repository: the repository, as folded from ``admin``.
        bins: the bins and custom roles, by their heads.

    Returns:
        One sentence; empty if no role waits.
    """
    if not (withheld := bins.withheld):
        return ""
    newest, delegated = repository.routing.delegations, bins.delegated
    if coming := [role for role in withheld if role not in delegated.custom and newest.find(role) is not None]:
        unmet = [role.name for role in newest.roles if not bins.is_met(role, newest, delegated.bins)]
        until = f"until {few(unmet)} can be signed with the keys of the newest delegations" if unmet else "until targets names them"
        return f"what the custom roles {few(coming)} have is not published {until}; {SEE_SIGNERS}"
    keyids = sorted({keyid for role in withheld for keyid in delegated.custom.get(role, delegated.bins).keys})
    return f"{few(withheld)} wait to be signed with the keys that targets delegates to ({few(keyids)}); {SEE_SIGNERS}"


def describe_left(left: Sequence[str]) -> str:
    """Return which custom roles wait for the keys that the newest delegations give them.

    Args:
        left: their names (``tufline_signer.commits.online_targets``).

    Returns:
        One sentence; empty if no role waits.
    """
    if not left:
        return ""
    return f"the custom roles {few(left)} are published without their newest keys until these have signed them; {SEE_SIGNERS}"


def describe_missing(missing: Collection[str], number_of_bins: int) -> str:
    """Return which bins the first commit waits for.

    Args:
        missing: the bins that no snapshot may name yet.
        number_of_bins: how many bins the repository has.
    """
    which = f"{len(missing)} of {number_of_bins} bins do not exist yet, or not with the keys that targets names: {few(sorted(missing))}"
    return f"waiting for the bins' signers: {which}; {SEE_SIGNERS}"


def describe_lost_root(root: Root) -> str:
    """Return what a root waits for whose previous keys are lost.

    Args:
        root: the root to be released.
    """
    waits = f"root {root.version} waits until the bins are signed with its keys ({few([*roles.online_bin_keys(root).keys])})"
    return f"{waits}, because the previous keys are lost; {SEE_SIGNERS}"


def describe_waiting_root(root: Root) -> str:
    """Return what a root waits for that people have not signed targets for.

    Args:
        root: the root to be released.
    """
    keys = roles.root_keys(root, Targets.type)
    signatures = f"{keys.threshold} of its keys ({few(sorted(keys.keys))})"
    return f"root {root.version} and later ones are not published until targets is signed by {signatures} too: run tufline targets renew"


class TrustReport:
    """Reports root, targets and the bins that wait for a key, in health and in the log."""

    def __init__(self, health: Health, part: str, bootstrap: Bootstrap) -> None:
        """Start without reports.

        Args:
            health: the process's health.
            part: the name of the commit worker.
            bootstrap: the repository's bootstrap.
        """
        self._health = health
        self._part = part
        self._offline = [Root.type] if bootstrap.targets is None else [Root.type, Targets.type]
        self._lifetimes = {role: timedelta(days=bootstrap.settings.expiration_days[role]) for role in self._offline}
        self._reported: dict[str, int] = {}

    def update(self, heads: Mapping[str, Head], state: AdminState, withheld: str, now: datetime) -> None:
        """Report the state after an attempt to commit.

        Args:
            heads: role to head, from the last partition of ``heads``.
            state: the state folded from ``admin``.
            withheld: which roles wait, and for what (``describe_withheld``); empty if none does.
            now: with a time zone.
        """
        for role in self._offline:
            self._report_expiry(role, heads[role], now)
        self._health.warn(WAITING_ROOT, describe_waiting_root(waiting.signed) if (waiting := state.waiting_root) else None)
        if expired := [role for role in self._offline if parse_expires(heads[role].expires) <= now]:
            commands = " and ".join(f"tufline {role} renew" for role in expired)
            problem = f"{' and '.join(expired)} has expired, so clients refuse the repository: renew it with {commands}"
        elif state.unreadable:
            # Reported until a usable version is submitted: the submitter may not know that this one is skipped.
            problem = f"{'; '.join(state.unreadable.values())}; it is skipped: submit a new version of it"
        elif withheld:
            problem = withheld
        else:
            self._health.ok(self._part)
            return
        self._health.problem(self._part, problem)

    def _report_expiry(self, role: str, head: Head, now: datetime) -> None:
        sight = expiry_warning(role, parse_expires(head.expires), self._lifetimes[role], now)
        has_expired = sight is not None and sight.step > len(STEPS)  # in that case the part itself reports it
        self._health.warn(f"expiry.{role}", sight.text if sight and not has_expired else None)
        step = sight.step if sight else 0
        if step > self._reported.get(role, 0):
            _log.warning("expiry.in_sight", role=role, expires=head.expires, problem=sight.text if sight else "")
        self._reported[role] = step

    def withdraw(self) -> None:
        """Withdraw all reports: another process makes the commits now."""
        for role in self._reported:
            self._health.gone(f"expiry.{role}")
        self._health.gone(WAITING_ROOT)
