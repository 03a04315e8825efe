"""Changes of the roles that the signer signs, as pure functions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tufline import records
from tufline.bus import Record
from tufline.clock import milliseconds_of
from tufline.records import Bootstrap, NewLifetimes, Renewal, topics
from tufline.trust import ceremony
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline.trust.ceremony import Ceremony, Plan
from tufline.trust.online import MAX_CHANGES, roles_renewed_with
from tufline_testing.log import DEFAULT_DAYS, settings_of

NOW = datetime.now(UTC)
HELD: dict[str, Ceremony] = {
    mode: ceremony.hold(Plan(4, mode, "ed25519", days=DEFAULT_DAYS, online={}), NOW) for mode in ("pep458", "rstuf")
}


def bootstrap(mode: str, **changes: Any) -> Bootstrap:
    settings = settings_of(4, 2, DEFAULT_DAYS)
    metadata: Any = HELD[mode].payload["metadata"]
    return Bootstrap(v=settings.schema, settings=settings, root=metadata["root"], targets=metadata.get("targets"), **changes)


def folded(state: AdminState, *contents: Any) -> AdminState:
    """Apply records."""
    for content in contents:
        state = fold(state, Record(topics.ADMIN, 0, state.next_offset, milliseconds_of(NOW), "key", records.encode(content), {}))
    return state


def days_of(state: AdminState) -> dict[str, int]:
    found = state.bootstrapped
    assert isinstance(found, Bootstrapped)
    return found.settings.expiration_days


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_lifetimes_of_online_roles_change(mode: str) -> None:
    """The last lifetime of each online role counts, targets is one only if nobody else signs it, and all else stays as it was."""
    state = folded(AdminState(), bootstrap(mode), NewLifetimes(days={"bins": 3, "root": 1, "targets": 9, "nobody": 5}))
    state = folded(state, NewLifetimes(days={"bins": 4, "timestamp": 2}))
    of_targets = {"targets": 9} if mode == "rstuf" else {}
    assert days_of(state) == {**DEFAULT_DAYS, "bins": 4, "timestamp": 2, **of_targets}
    changes = [(set(change.updated), set(change.invalid)) for change in state.lifetime_changes.values()]
    assert changes == [({"bins", *of_targets}, {"root", "nobody", "targets"} - set(of_targets)), ({"bins", "timestamp"}, set())]
    assert state.bootstrap is not None
    assert (state.bootstrap.settings.expiration_days, state.refused) == (DEFAULT_DAYS, {})


REFUSED = {
    "no role": ({}, "none of the roles"),
    "no online role": ({"root": 3, "nobody": 4}, "none of the roles"),
    "no day": ({"bins": 3, "timestamp": 0}, "the expiration of timestamp must be from 1 to 3650 days"),
    "too many days": ({"snapshot": 3651}, "the expiration of snapshot must be from 1 to 3650 days"),
}


@pytest.mark.parametrize(("days", "says"), REFUSED.values(), ids=REFUSED)
def test_lifetimes_that_are_refused_change_nothing(days: dict[str, int], says: str) -> None:
    """A record with a lifetime out of range, or without an online role, changes nothing, whoever wrote it."""
    before = folded(AdminState(), bootstrap("pep458"))
    state = folded(before, NewLifetimes(days=days))
    assert says in state.refused[before.next_offset]
    assert (days_of(state), state.lifetime_changes) == (DEFAULT_DAYS, {})


def test_lifetimes_need_a_repository_and_end_with_it() -> None:
    """Before the bootstrap no lifetime can change, and a bootstrap that replaces another one starts with its own."""
    state = folded(AdminState(), NewLifetimes(days={"bins": 3}))
    assert "no repository" in state.refused[0]
    state = folded(state, bootstrap("pep458"), NewLifetimes(days={"bins": 3}), bootstrap("pep458", replace=True))
    assert (days_of(state), state.lifetime_changes) == (DEFAULT_DAYS, {})


def test_the_results_of_old_changes_are_forgotten() -> None:
    """The state does not grow with the number of changes, and the newest count."""
    changes = [NewLifetimes(days={"bins": 1 + number % 7}) for number in range(MAX_CHANGES + 3)]
    state = folded(AdminState(), bootstrap("pep458"), *changes)
    assert [*state.lifetime_changes] == [*range(4, MAX_CHANGES + 4)]
    assert days_of(state)["bins"] == changes[-1].days["bins"]


def test_the_latest_renewal_of_each_role_counts() -> None:
    """A role must be newer than the latest place of all renewals that name it, in whatever order they were accepted."""
    renewals = [
        Renewal(roles=["bins", "timestamp"], since=7),
        Renewal(roles=["bins", "snapshot"], since=5),
        Renewal(roles=["timestamp"], since=9),
    ]
    state = folded(AdminState(), bootstrap("pep458"), *renewals)
    assert state.renew_since == {"bins": 7, "snapshot": 5, "timestamp": 9}
    assert state.renewals == dict(enumerate(renewals, start=1))
    assert folded(state, bootstrap("pep458", replace=True)).renew_since == {}


NOT_RENEWED = {
    "no role": ("rstuf", [], "names no role"),
    "root": ("rstuf", ["bins", "root"], "the signer does not sign root"),
    "an unknown role": ("rstuf", ["nobody"], "the signer does not sign nobody"),
    "targets that people sign": ("pep458", ["targets", "bins"], "targets is signed by people here"),
}


@pytest.mark.parametrize(("mode", "roles", "says"), NOT_RENEWED.values(), ids=NOT_RENEWED)
def test_a_renewal_is_refused_as_a_whole(mode: str, roles: list[str], says: str) -> None:
    """A renewal with a role that the signer does not sign renews nothing, whoever wrote it."""
    before = folded(AdminState(), bootstrap(mode))
    state = folded(before, Renewal(roles=roles, since=5))
    assert says in state.refused[before.next_offset]
    assert (state.renew_since, state.renewals) == ({}, {})


def test_a_new_version_comes_with_snapshot_and_timestamp() -> None:
    """A new bin or targets comes with a new snapshot, and every new version with a new timestamp."""
    assert roles_renewed_with(["timestamp"]) == ["timestamp"]
    assert roles_renewed_with(["snapshot"]) == ["snapshot", "timestamp"]
    assert roles_renewed_with(["bins"]) == ["bins", "snapshot", "timestamp"]
    assert roles_renewed_with(["timestamp", "targets"]) == ["timestamp", "targets", "snapshot"]
