"""Reports what operators must do for the repository's trust: renew expiring roles, and replace unusable submissions."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from tuf.api.metadata import Root, Targets

from tufline.metadata.envelope import parse_expires
from tufline.metadata.expiry import STEPS, expiry_warning
from tufline.records import Bootstrap, Head
from tufline.runtime.health import Health
from tufline.trust.admin_state import AdminState

_log = structlog.get_logger(__name__)


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

    def update(self, heads: Mapping[str, Head], state: AdminState, withheld: int, now: datetime) -> None:
        """Report the state after an attempt to commit.

        Args:
            heads: role to head, from the last partition of ``heads``.
            state: the state folded from ``admin``.
            withheld: how many bins wait to be signed with the keys that targets delegates to.
            now: with a time zone.
        """
        for role in self._offline:
            self._report_expiry(role, heads[role], now)
        if expired := [role for role in self._offline if parse_expires(heads[role].expires) <= now]:
            commands = " and ".join(f"tufline {role} renew" for role in expired)
            problem = f"{' and '.join(expired)} has expired, so clients refuse the repository: renew it with {commands}"
        elif state.unreadable:
            # Reported until a usable version is submitted: the submitter may not know that this one is skipped.
            problem = f"{'; '.join(state.unreadable.values())}; it is skipped: submit a new version of it"
        elif withheld:
            problem = f"{withheld} bins wait to be signed with the keys that targets delegates to"
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
