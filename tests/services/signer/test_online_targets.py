"""What the next online targets delegate to: the newest delegations, each role with the newest keys by which it verifies."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from tufline import records
from tufline.bus import Record
from tufline.metadata.delegations import NO_DELEGATIONS, Delegation, Delegations
from tufline.records import Bootstrap, ChangedDelegations, Head, NewMetadata, Vector, topics
from tufline.records.cursor import MAX_OFFSET
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import admin_records, ceremony, roles
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline.trust.delegated import Delegated, delegated_by
from tufline_signer.commits.online_targets import PATIENCE_SECONDS, Choice, OnlineTargets
from tufline_signer.commits.release import MAX_WAITING, covered_in_admin
from tufline_signer.commits.state import CommitState
from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.offline import Offline

NOW = 1_800_000_000_000
"""When everything was submitted, in milliseconds."""

A, B, C = (Delegation(name=name, paths=(f"{name}/*",)) for name in "abc")


class Chosen(NamedTuple):
    """What the next targets delegate to, whether that is new, and which changes they do not show."""

    custom: list[Delegation]
    is_same: bool = False
    waiting: tuple[int, ...] = ()


class Story:
    """A repository whose targets are online, and the bins and custom roles that exist."""

    def __init__(self, path: Path, *changes: ChangedDelegations) -> None:
        self.offline = Offline(path, bins=2, mode="rstuf", days=DEFAULT_DAYS)
        self.state = AdminState()
        self.fold(self.offline.bootstrap(1), *changes)
        settings = self.repository.bootstrap.settings
        self.bins = CommitState(settings, Vector([0], 0), PassedOver(Health(), "commits"))
        self.choices = OnlineTargets()
        self.choice: Choice
        for index in range(settings.number_of_bins):
            self.exists(settings.layout.name(index))
        self.follow(NO_DELEGATIONS)

    def fold(self, *accepted: Bootstrap | ChangedDelegations | NewMetadata) -> None:
        """Apply records of ``admin``."""
        for one in accepted:
            record = Record(topics.ADMIN, 0, self.state.next_offset, NOW, "", records.encode(one), {})
            self.state = admin_records.fold(self.state, record)
        assert not self.state.refused, self.state.refused
        assert self.state.bootstrapped is not None
        self.repository: Bootstrapped = self.state.bootstrapped

    def delegated(self, custom: Delegations) -> Delegated:
        return delegated_by(self.repository.roots[0].signed, self.repository.bootstrap.settings, custom)

    def follow(self, custom: Delegations) -> None:
        """Make targets that follow delegations, and make them the current ones."""
        delegated = self.delegated(custom)
        self.choices.name(delegated, custom)
        self.bins.name_under(delegated)

    def exists(self, role: str, version: int = 1, *keyids: str, admin: int = MAX_OFFSET) -> None:
        """Write a version of a role, signed by the online key or by others."""
        online = [*(keyids or roles.online_bin_keys(self.repository.roots[0].signed).keys)]
        head = Head(version=version, sha256="", length=0, expires="2030-01-01T00:00:00Z", offset=0, keyids=online, admin=admin)
        self.bins.take(0, [Record(topics.HEADS, 0, version, NOW, role, records.encode(head), {})])

    def chosen(self, now: float) -> Chosen:
        """Return what the next targets delegate to."""
        self.choice = self.choices.choose(self.repository, self.bins, Vector([0], 1), now)
        return Chosen([*self.choice.custom.roles], self.choice.is_same, self.choice.waiting)


def own(name: str) -> tuple[Delegation, dict[str, Any]]:
    """Make a key, and return the role ``a`` with this key of its own."""
    key = ceremony.make_key("ed25519", f"fn:{name}").signer.public_key
    return replace(A, keyids=(key.keyid,)), {key.keyid: key.to_dict()}


def change(action: str, *named: Delegation, keys: dict[str, Any] | None = None) -> ChangedDelegations:
    of = {"deleted": [one.name for one in named]} if action == "delete" else {"roles": [*named], "keys": keys or {}}
    return ChangedDelegations(action=action, ends=[0], rules=records.CURRENT_RULES, **of)  # type: ignore[arg-type]


@pytest.fixture
def story(tmp_path: Path) -> Callable[..., Story]:
    return lambda *changes: Story(tmp_path, *changes)


def test_targets_wait_some_seconds_for_all_roles_of_a_change(story: Callable[..., Story]) -> None:
    """The roles are written by several workers, one after the other; usually clients see the whole change at once."""
    one = story(change("add", A, B), change("add", C))
    one.exists("b")
    assert one.chosen(0.0) == Chosen([], is_same=True, waiting=(1, 2))
    one.exists("c")
    assert (one.chosen(3.0), one.choices.wait(3.0)) == (Chosen([], is_same=True, waiting=(1, 2)), PATIENCE_SECONDS - 3.0)
    one.exists("a")
    assert one.chosen(4.0) == Chosen([A, B, C])


def test_a_role_that_does_not_verify_holds_no_other_back(story: Callable[..., Story]) -> None:
    """It is not named, and only the change that added it is not done. Once it verifies, it is named in its place."""
    one = story(change("add", A, B), change("add", C), change("update", replace(B, paths=("b/1",))))
    one.exists("b")
    one.exists("c")
    one.chosen(0.0)
    changed = replace(B, paths=("b/1",))
    assert one.chosen(PATIENCE_SECONDS) == Chosen([changed, C], waiting=(1,))
    one.follow(one.choice.custom)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([changed, C], is_same=True, waiting=(1,))
    assert one.choices.wait(PATIENCE_SECONDS) == math.inf
    one.exists("a")
    assert one.chosen(PATIENCE_SECONDS) == Chosen([A, changed, C])


def test_what_is_waited_for_in_vain_delays_no_later_change(story: Callable[..., Story]) -> None:
    """Targets wait for a role once, not with each change that follows."""
    one = story(change("add", A), change("add", B))
    one.exists("b")
    one.chosen(0.0)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([B], waiting=(1,))
    one.follow(one.choice.custom)
    one.fold(change("add", C))
    one.exists("c")
    assert one.chosen(PATIENCE_SECONDS) == Chosen([B, C], waiting=(1,))


def test_a_role_is_named_by_its_previous_keys_until_it_verifies_by_its_new_ones(story: Callable[..., Story]) -> None:
    """What it is trusted for changes at once: its paths, and whether clients look further."""
    with_k1, k1 = own("k1")
    with_k2, k2 = own("k2")
    with_k3, k3 = own("k3")
    one = story(change("add", with_k1, keys=k1))
    one.exists("a", 1, *k1)
    assert one.chosen(0.0) == Chosen([with_k1])
    one.follow(one.choice.custom)
    following = replace(with_k3, paths=("other/*",), terminating=True)
    one.fold(change("update", with_k2, keys=k2), change("update", following, keys=k3))
    one.chosen(0.0)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([replace(following, keyids=with_k1.keyids)], waiting=(2, 3))
    assert one.choice.custom.keys == k1
    # The keys between may verify it, too, whatever targets named when these were the newest ones.
    one.exists("a", 2, *k2)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([replace(following, keyids=with_k2.keyids)], waiting=(3,))
    one.exists("a", 3, *k3)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([following])


def test_a_role_that_was_added_again_is_not_named_before_it_is_empty(story: Callable[..., Story]) -> None:
    """The version from before its deletion verifies, but has the artifacts that were deleted with it."""
    one = story(change("add", A, B), change("delete", A), change("add", A))
    one.exists("a", 1, admin=2)
    one.exists("b")
    one.chosen(0.0)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([B], waiting=(3,))
    one.exists("a", 2, admin=4)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([B, A])


def test_delegations_that_were_changed_back_are_the_same(story: Callable[..., Story]) -> None:
    """No targets are made for delegations that clients know already, even if one of their roles can't be verified now."""
    one = story(change("add", A), change("add", B), change("delete", B))
    one.exists("a")
    one.chosen(0.0)
    one.follow(one.choice.custom)
    assert one.chosen(0.0) == Chosen([A], is_same=True)
    one.exists("a", 2, "another key")
    assert one.chosen(PATIENCE_SECONDS) == Chosen([A], is_same=True)


def test_current_targets_keep_a_role_that_verifies_by_no_known_keys(story: Callable[..., Story]) -> None:
    """Its previous version stays in the snapshot, and verifies by the keys that targets names."""
    with_k1, k1 = own("k1")
    one = story(change("add", with_k1, keys=k1))
    one.exists("a", 1, *k1)
    one.chosen(0.0)
    one.follow(one.choice.custom)
    one.exists("a", 2, "another key")
    one.fold(change("add", B))
    one.exists("b")
    one.chosen(0.0)
    assert one.chosen(PATIENCE_SECONDS) == Chosen([with_k1, B])


def test_a_root_with_other_online_keys_waits_for_the_roles_without_keys_of_their_own(story: Callable[..., Story]) -> None:
    """They have the keys of the bins, which targets can name only once; roles with keys of their own hold no root back."""
    with_k1, k1 = own("k1")
    one = story(change("add", with_k1, keys=k1), change("add", B), change("add", C))
    one.exists("a", 1, *k1)
    one.exists("b")
    one.chosen(0.0)
    one.chosen(PATIENCE_SECONDS)
    one.follow(one.choice.custom)
    one.fold(*one.offline.rotate())
    old, new = (next(iter(roles.online_bin_keys(root.signed).keys)) for root in one.repository.roots)
    for index in range(2):
        one.exists(one.repository.settings.layout.name(index), 2, old, new)
    one.exists("a", 2, "another key")
    assert one.chosen(99.0) == Chosen([with_k1, B], is_same=True, waiting=(3,))
    one.exists("b", 2, old, new)
    assert one.chosen(99.0) == Chosen([with_k1, B], waiting=(3,))
    assert [*roles.online_bin_keys(one.choice.root).keys] == [new]


def test_only_so_many_waiting_changes_are_named(story: Callable[..., Story]) -> None:
    """The vector is in each commit. What comes after further ones is not covered, until some of the first are done."""
    repository = story(
        *(change("add", replace(A, name=f"a{number}", paths=(f"{number}/*",))) for number in range(MAX_WAITING + 2))
    ).repository
    every = [version.offset for version in repository.delegations]
    assert covered_in_admin(repository, 1, 1, waiting=every) == (1, every[MAX_WAITING], tuple(every[:MAX_WAITING]))
    assert covered_in_admin(repository, 1, 1, waiting=every[-2:]) == (every[-2], repository.next_offset, tuple(every[-2:]))
    assert covered_in_admin(repository, 1, 1) == (repository.next_offset, 0, ())


@pytest.mark.parametrize("waits", [False, True])
def test_the_current_targets_are_found_after_a_restart(story: Callable[..., Story], waits: bool) -> None:
    """By what they delegate to; and other targets may have been made that have to wait."""
    with_k1, k1 = own("k1")
    one = story(change("add", with_k1, keys=k1), change("add", B))
    one.exists("a", 1, *k1)
    one.exists("b")
    one.chosen(0.0)
    one.follow(one.choice.custom)
    one.choices = OnlineTargets()
    one.choices.find(one.bins.delegated)
    if waits:
        for _ in range(2):
            one.choices.name(one.delegated(NO_DELEGATIONS), NO_DELEGATIONS)
            assert one.chosen(0.0) == Chosen([with_k1, B], is_same=True)
    assert one.chosen(0.0) == Chosen([with_k1, B], is_same=True)
