"""What the next online targets delegate to: the newest delegations under which every bin and custom role verifies."""

from pathlib import Path

import pytest

from tufline import records
from tufline.bus import Record
from tufline.metadata.delegations import NO_DELEGATIONS, Delegation, Delegations
from tufline.records import ChangedDelegations, Head, Vector, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import admin_records, roles
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline.trust.delegated import Delegated, delegated_by
from tufline_signer.commits.online_targets import OnlineTargets
from tufline_signer.commits.state import CommitState
from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.offline import Offline

NOW = 1_800_000_000_000
"""When everything was submitted, in milliseconds."""

A, B, C = (Delegation(name=name, paths=(f"{name}/*",)) for name in "abc")


class Story:
    """A repository whose targets are online, and the bins and custom roles that exist."""

    def __init__(self, path: Path, *changes: ChangedDelegations) -> None:
        self.offline = Offline(path, bins=2, mode="rstuf", days=DEFAULT_DAYS)
        state = AdminState()
        for offset, one in enumerate([self.offline.bootstrap(1), *changes]):
            state = admin_records.fold(state, Record(topics.ADMIN, 0, offset, NOW, "", records.encode(one), {}))
        assert not state.refused, state.refused
        assert state.bootstrapped is not None
        self.repository: Bootstrapped = state.bootstrapped
        settings = self.repository.bootstrap.settings
        self.bins = CommitState(settings, Vector([0], 0), PassedOver(Health(), "commits"))
        self.choices = OnlineTargets()
        for index in range(settings.number_of_bins):
            self.exists(settings.layout.name(index))
        self.follow(NO_DELEGATIONS)

    def delegated(self, custom: Delegations) -> Delegated:
        return delegated_by(self.repository.roots[0].signed, self.repository.bootstrap.settings, custom)

    def follow(self, custom: Delegations) -> None:
        """Make targets that follow delegations, and make them the current ones."""
        delegated = self.delegated(custom)
        self.choices.name(delegated, custom)
        self.bins.name_under(delegated)

    def exists(self, role: str, version: int = 1, *keyids: str) -> None:
        """Write a version of a role, signed by the online key or by others."""
        online = [*(keyids or roles.online_bin_keys(self.repository.roots[0].signed).keys)]
        head = Head(version=version, sha256="", length=0, expires="2030-01-01T00:00:00Z", offset=0, keyids=online)
        self.bins.take(0, [Record(topics.HEADS, 0, version, NOW, role, records.encode(head), {})])

    def chosen(self, released: int = 0) -> tuple[int, bool]:
        """Return how many versions of the delegations the next targets follow, and whether the current ones delegate to the same."""
        choice = self.choices.choose(self.repository, self.bins, released)
        expected = self.repository.delegations[choice.versions - 1].delegations if choice.versions else NO_DELEGATIONS
        assert choice.custom == expected
        return choice.versions, choice.is_same


def change(action: str, *named: Delegation) -> ChangedDelegations:
    of = {"deleted": [one.name for one in named]} if action == "delete" else {"roles": [*named]}
    return ChangedDelegations(action=action, ends=[0], rules=records.CURRENT_RULES, **of)  # type: ignore[arg-type]


def test_targets_wait_for_every_custom_role(tmp_path: Path) -> None:
    """They follow the newest delegations all of whose roles exist, whatever the order in which these are written."""
    story = Story(tmp_path, change("add", A, B), change("add", C))
    assert story.chosen() == (0, True)
    story.exists("b")
    story.exists("c")
    assert story.chosen() == (0, True)
    story.exists("a")
    assert story.chosen() == (2, False)


def test_a_role_that_verified_before_counts_only_if_it_still_does(tmp_path: Path) -> None:
    """Which role targets waited for is remembered; once it exists, the roles before it are looked at again."""
    story = Story(tmp_path, change("add", A, B))
    story.exists("a")
    assert story.chosen() == (0, True)
    story.exists("a", 2, "another key")
    story.exists("b")
    assert story.chosen() == (0, True)
    story.exists("a", 3)
    assert story.chosen() == (1, False)


def test_an_earlier_version_is_followed_while_a_later_one_waits(tmp_path: Path) -> None:
    """A role that can't be written holds back only the delegations that have it."""
    story = Story(tmp_path, change("add", A), change("add", B))
    story.exists("a")
    assert story.chosen() == (1, False)
    story.follow(story.repository.delegations[0].delegations)
    assert story.chosen(1) == (1, True)


def test_delegations_that_were_changed_back_are_the_same(tmp_path: Path) -> None:
    """No targets are made for delegations that clients know already, even if one of their roles can't be verified now."""
    story = Story(tmp_path, change("add", A), change("add", B), change("delete", B))
    story.exists("a")
    story.follow(story.repository.delegations[0].delegations)
    story.exists("a", 2, "another key")
    assert story.chosen(1) == (3, True)


@pytest.mark.parametrize("waits", [False, True])
def test_the_current_targets_are_found_after_a_restart(tmp_path: Path, waits: bool) -> None:
    """They may follow later delegations than the commit's vector says; and other targets may have been made that have to wait."""
    story = Story(tmp_path, change("add", A), change("add", B))
    delegated = story.delegated(story.repository.delegations[0].delegations)
    story.choices = OnlineTargets()
    story.choices.find(delegated, story.repository, 0)
    story.bins.name_under(delegated)
    if waits:
        for _ in range(2):
            second = story.repository.delegations[1].delegations
            story.choices.name(story.delegated(second), second)
            assert story.chosen() == (1, True)
    assert story.chosen() == (1, True)
