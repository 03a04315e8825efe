"""Custom delegations as pure functions: which are accepted, where a path's changes go, and the targets that the signer makes."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from tufline import records
from tufline.bus import Record
from tufline.clock import milliseconds_of
from tufline.errors import InvalidInputError, SchemaError
from tufline.metadata.delegations import ALL_PATHS, MAX_MATCHING, NO_DELEGATIONS, Delegation, Delegations, check_roles
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.records import Add, Bootstrap, ChangedDelegations, NewMetadata, Remove, Signature, codec, topics
from tufline.records.routing import MOVED, NOT_DELEGATED, AcceptedDelegations, Routing
from tufline.trust import delegating, roles, rules
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState
from tufline.trust.delegated import read_delegated
from tufline_testing.log import DEFAULT_DAYS, settings_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import signature

NOW = milliseconds_of(datetime.now(UTC))
SETTINGS = settings_of(4, 2, DEFAULT_DAYS)
DEV = Delegation(name="dev", paths=("dev/*",))
DOCS = Delegation(name="docs", paths=("docs/*", "dev/readme"), terminating=True)


def key_with_uri() -> tuple[str, dict[str, Any]]:
    """Make a key object that the signer could find the private key of."""
    key = CryptoSigner.generate_ed25519().public_key
    return key.keyid, {**key.to_dict(), ONLINE_KEY_URI: "fn:dev"}


@pytest.fixture
def begun(tmp_path: Path) -> AdminState:
    """The state after a bootstrap whose targets are online."""
    payload = make_bootstrap(tmp_path, bins=4, mode="rstuf").payload["metadata"]
    bootstrap = Bootstrap(v=SETTINGS.schema, settings=SETTINGS, root=payload["root"], rules=records.CURRENT_RULES)
    return folded(AdminState(), bootstrap)


def folded(state: AdminState, *contents: Any) -> AdminState:
    """Apply records, each a second after the one before."""
    for content in contents:
        time = NOW + 1000 * state.next_offset
        state = fold(state, Record(topics.ADMIN, 0, state.next_offset, time, "key", records.encode(content), {}))
    return state


def changed(
    action: Any, *named: Delegation, deleted: tuple[str, ...] = (), ends: tuple[int, ...] = (0, 0), **more: Any
) -> ChangedDelegations:
    """Make a record that changes delegations."""
    return ChangedDelegations(action=action, roles=[*named], deleted=[*deleted], ends=[*ends], rules=records.CURRENT_RULES, **more)


def names_of(state: AdminState) -> list[str]:
    """Return the names of the custom roles."""
    assert state.routing is not None
    return [role.name for role in state.routing.delegations.roles]


def test_roles_are_added_replaced_and_deleted(begun: AdminState) -> None:
    """Their order is that in which they were added; a version is kept for each change, by the offset of its record."""
    state = folded(
        begun, changed("add", DEV, DOCS), changed("update", Delegation(name="dev", paths=("x/*",))), changed("delete", deleted=("docs",))
    )
    assert not state.refused
    assert names_of(state) == ["dev"]
    assert state.routing is not None
    assert [(version.offset, [role.paths for role in version.delegations.roles]) for version in state.routing.versions] == [
        (1, [DEV.paths, DOCS.paths]),
        (2, [("x/*",), DOCS.paths]),
        (3, [("x/*",)]),
    ]


def test_keys_that_no_role_names_are_dropped(begun: AdminState) -> None:
    """A deleted role takes its keys with it."""
    keyid, key = key_with_uri()
    mine = Delegation(name="mine", paths=("mine/*",), keyids=(keyid,))
    state = folded(begun, changed("add", DEV, mine, keys={keyid: key}))
    assert state.routing is not None
    assert set(state.routing.delegations.keys) == {keyid}
    state = folded(state, changed("delete", deleted=("mine",)))
    assert state.routing is not None
    assert state.routing.delegations.keys == {}


OTHER_KEY = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00" * 32}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed("add"), "names no role"),
        (changed("add", DEV, DEV), "names a role twice"),
        (changed("update", DOCS), "no role docs"),
        (changed("delete", deleted=("docs",)), "no role docs"),
        (changed("add", DEV), "a role dev already"),
        (changed("add", DOCS, ends=(0,)), "another number of partitions"),
        (changed("add", Delegation(name="1.root", paths=("a",))), "can't be the name of a file"),
        (changed("add", Delegation(name="../x", paths=("a",))), "can't be the name of a file"),
        (changed("add", Delegation(name="targets", paths=("a",))), "the name of another role"),
        (changed("add", Delegation(name="bins", paths=("a",))), "the name of another role"),
        (changed("add", Delegation(name="bins-0", paths=("a",))), "the name of another role"),
        (changed("add", Delegation(name="a", paths=())), "no paths"),
        (changed("add", Delegation(name="a", paths=("a/[b]",))), "clients read differently"),
        (changed("add", Delegation(name="a", paths=("a",), threshold=2)), "the threshold 1"),
        (changed("add", Delegation(name="a", paths=("a",), days=0)), "expiration"),
        (changed("add", Delegation(name="a", paths=("a",), keyids=("00" * 32,))), "no such key"),
        (changed("add", Delegation(name="a", paths=("a",), keyids=("ab",)), keys={"ab": OTHER_KEY}), "not the SHA-256"),
    ],
)
def test_a_change_that_can_not_be_accepted_changes_nothing(begun: AdminState, content: ChangedDelegations, reason: str) -> None:
    """It is refused as a whole, with its reason."""
    before = folded(begun, changed("add", DEV))
    state = folded(before, content)
    assert reason in state.refused[2]
    assert state.routing is before.routing
    assert state.proposals == before.proposals


def test_no_path_needs_more_roles_than_clients_visit() -> None:
    """The bound counts targets, the catch-all role and the bin; roles whose paths do not overlap do not count."""
    alike = tuple(Delegation(name=f"r{number}", paths=("a/*", f"own{number}/*")) for number in range(MAX_MATCHING))
    apart = tuple(Delegation(name=f"s{number}", paths=(f"b{number}/*",)) for number in range(50))
    check_roles(alike + apart, frozenset(role.name for role in alike + apart), "bins")
    with pytest.raises(InvalidInputError, match=f"{MAX_MATCHING + 1} custom roles"):
        check_roles((*alike, Delegation(name="last", paths=("*/x",))), frozenset({"last"}), "bins")
    # The new role itself meets few others, but one of those meets too many.
    with pytest.raises(InvalidInputError, match="the paths of 'r0'"):
        check_roles((*alike, Delegation(name="last", paths=("own0/x",))), frozenset({"last"}), "bins")


def routing(*versions: tuple[int, tuple[int, ...], tuple[Delegation, ...]]) -> Routing:
    """Make a routing over four bins in two partitions."""
    accepted = [AcceptedDelegations(offset, ends, Delegations({}, named)) for offset, ends, named in versions]
    return Routing(SETTINGS.partitioning, accepted)


def test_an_artifact_goes_to_the_first_role_in_which_a_client_looks() -> None:
    """Clients look in the matching roles in their order, up to a terminating one, and then in the bin."""
    by = routing((1, (0, 0), (DEV, DOCS)))
    assert by.visited("dev/readme") == ["dev", "docs"]
    assert by.visited("dev/a") == ["dev", by.bin_of("dev/a")]
    assert by.role_of("dev/a") == by.role_of("dev/readme") == "dev"
    assert by.role_of("docs/a") == "docs"
    assert by.visited("a") == [by.bin_of("a")]


def test_a_removal_goes_wherever_the_path_was_ever_routed() -> None:
    """Otherwise an older artifact could come back, when the role that hides it loses the path."""
    versions = (1, (0, 0), (DEV,)), (2, (0, 0), (Delegation(name="dev", paths=("x/*",)), DOCS)), (3, (0, 0), (DOCS,))
    before, by = routing(*versions[:2]), routing(*versions)
    assert before.roles_of(Remove("dev/readme")) == ["dev", "docs", by.bin_of("dev/readme")]
    assert before.roles_of(Add("dev/readme", 1, {})) == ["docs"]
    assert {by.partition_of("dev"), by.partition_of("docs")} <= {*before.partitions_of(Remove("dev/readme"))}
    assert by.roles_of(Remove("dev/readme")) == ["docs", by.bin_of("dev/readme")]  # a deleted role has nothing any more


@given(st.text("abdev/", min_size=1, max_size=8), st.integers(0, 1), st.integers(0, 20), st.integers(0, 5))
def test_a_repository_without_delegations_routes_by_bins(path: str, partition: int, offset: int, admin: int) -> None:
    """Every path is in its bin, and a change in another partition strayed."""
    by = routing()
    found, reason = by.find_roles(Remove(path), partition, offset, admin)
    is_there = SETTINGS.partitioning.partition_of_path(path) == partition
    assert (found, bool(reason)) == (([by.bin_of(path)], False) if is_there else ([], True))


def test_changes_that_meet_a_change_of_the_delegations() -> None:
    """Below the end the old version counts; above it a change that was routed by the old one is refused if its path has moved."""
    by = routing((7, (5, 5), (DEV,)))
    moving, staying = Add("dev/a", 1, {}), Add("other", 1, {})
    home = SETTINGS.partitioning.partition_of_path
    assert by.find_roles(moving, home("dev/a"), 4, 7) == ([by.bin_of("dev/a")], "")
    assert by.find_roles(moving, home("dev/a"), 5, 7) == ([], MOVED)
    assert by.find_roles(moving, by.partition_of("dev"), 5, 8) == (["dev"], "")
    assert by.find_roles(staying, home("other"), 5, 7) == ([by.bin_of("other")], "")
    assert by.find_roles(Remove("dev/a"), home("dev/a"), 9, 7) == ([], MOVED)
    gone = routing((7, (5, 5), (DEV,)), (9, (8, 8), ()))
    assert gone.find_roles(moving, gone.partition_of("dev"), 7, 9) == ([], MOVED)
    assert gone.find_roles(moving, gone.partition_of("dev"), 8, 9) == ([], MOVED)
    assert gone.find_roles(moving, home("dev/a"), 8, 10) == ([gone.bin_of("dev/a")], "")


def test_the_ends_of_versions_never_go_back(begun: AdminState) -> None:
    """Two processes may append their records in the other order than they read the ends."""
    state = folded(begun, changed("add", DEV, ends=(5, 3)), changed("add", DOCS, ends=(4, 7)))
    assert state.routing is not None
    assert [version.ends for version in state.routing.versions] == [(5, 3), (5, 7)]


def test_targets_name_the_custom_roles_and_then_the_catch_all_role(begun: AdminState) -> None:
    """python-tuf finds each path in the roles that the routing says; roles without keys have those of the bins."""
    keyid, key = key_with_uri()
    mine = Delegation(name="mine", paths=("mine/*",), keyids=(keyid,), days=3)
    state = folded(begun, changed("add", DEV, DOCS, mine, keys={keyid: key}))
    assert state.routing is not None
    root, expires = state.roots[0].signed, datetime(2040, 1, 1, tzinfo=UTC)
    _, content = rules.make_targets(root, SETTINGS, state.routing.delegations, 2, expires)
    targets = roles.parse(Targets, json.loads(b'{"signatures":[],"signed":' + content + b"}")).signed
    assert targets.delegations is not None
    for path in ("dev/readme", "dev/a", "docs/x", "mine/x", "other"):
        found = [name for name, _ in targets.delegations.get_roles_for_target(path)]
        visited = state.routing.visited(path)
        assert [name for name in found if name != "bins"] == [name for name in visited if not name.startswith("bins-")]
    online = roles.online_bin_keys(root)
    delegated = read_delegated(targets)
    assert delegated.catch_all == "bins"
    assert roles_keys(delegated.bins) == roles_keys(online) == roles_keys(delegated.custom["dev"])
    assert {*delegated.custom["mine"].keys} == {keyid}
    assert targets.delegations.roles is not None
    assert targets.delegations.roles["bins"].path_hash_prefixes == [*ALL_PATHS]
    assert targets.delegations.roles["mine"].unrecognized_fields == {"x-rstuf-expire-policy": 3}


def roles_keys(keys: roles.RoleKeys) -> tuple[set[str], int]:
    """Return what two sets of keys have in common if they are the same."""
    return {*keys.keys}, keys.threshold


def test_targets_without_custom_roles_are_as_before(begun: AdminState) -> None:
    """The form with a catch-all role is only used where it is needed."""
    root, expires = begun.roots[0].signed, datetime(2040, 1, 1, tzinfo=UTC)
    _, plain = rules.make_targets(root, SETTINGS, NO_DELEGATIONS, 2, expires)
    _, catch_all = rules.make_catch_all(roles.online_bin_keys(root), SETTINGS, 2, expires)
    assert plain == catch_all
    assert "succinct_roles" in json.loads(plain)["delegations"]


def test_a_bootstrap_may_begin_with_delegations(tmp_path: Path) -> None:
    """They route from the first change on."""
    payload = make_bootstrap(tmp_path, bins=4, mode="rstuf").payload["metadata"]
    bootstrap = Bootstrap(
        v=records.DELEGATIONS_SCHEMA,
        settings=SETTINGS,
        root=payload["root"],
        rules=records.CURRENT_RULES,
        delegations=Delegations({}, (DEV,)),
    )
    by = delegating.first_routing(bootstrap, 3)
    assert by.find_roles(Add("dev/a", 1, {}), by.partition_of("dev"), 0, 4) == (["dev"], "")


def test_an_earlier_version_stops_at_a_change_of_delegations(monkeypatch: pytest.MonkeyPatch, begun: AdminState) -> None:
    """It would put changes into other roles than clients look in."""
    monkeypatch.setattr(codec, "NEWEST_SCHEMA", records.DELEGATIONS_SCHEMA - 1)
    with pytest.raises(SchemaError):
        folded(begun, changed("add", DEV))


def test_many_roles_are_compared_and_visited_in_little_time() -> None:
    """No request and no artifact takes a step for each of many roles: this would take minutes."""
    many = tuple(Delegation(name=f"r{number}", paths=(f"packages/p{number}/*", f"docs/p{number}/*")) for number in range(10_000))
    began = time.process_time()
    check_roles(many, frozenset(role.name for role in many), "bins")
    by = routing((1, (0, 0), many))
    for number in range(2_000):
        path = f"packages/p{number}/a"
        assert by.visited(path) == [f"r{number}", by.bin_of(path)]
        assert by.roles_of(Remove(path)) == [f"r{number}", by.bin_of(path)]
    assert time.process_time() - began < 30


def test_what_a_caller_does_with_the_roles_of_a_partition_does_not_change_the_routing() -> None:
    """The routing makes the names once for all callers, sorted, and so that none of them can change them."""
    by = routing((1, (0, 0), (DOCS, DEV)))
    found = [by.custom_in(partition) for partition in range(2)]
    assert sorted(name for names in found for name in names) == ["dev", "docs"]
    for partition, names in enumerate(found):
        assert isinstance(names, tuple)
        assert names == tuple(sorted(names))
        assert by.custom_in(partition) is names


def test_an_artifact_outside_every_custom_role_is_refused_if_nothing_else_takes_it() -> None:
    """Its bin would take it although nobody is to find it there; a removal still goes everywhere."""
    by = Routing(SETTINGS.partitioning, [AcceptedDelegations(1, (0, 0), Delegations({}, (DEV,)))], only_custom=True)
    home = SETTINGS.partitioning.partition_of_path("other")
    assert (by.takes("dev/a"), by.takes("other")) == (True, False)
    assert by.find_roles(Add("other", 1, {}), home, 0, 2) == ([], NOT_DELEGATED)
    assert by.find_roles(Remove("other"), home, 0, 2) == ([by.bin_of("other")], "")


@pytest.mark.parametrize(
    ("custom", "settings", "version", "reason"),
    [
        (Delegations({}, ()), SETTINGS, 6, "names no role"),
        (Delegations({}, (DEV, DEV)), SETTINGS, 6, "names a role twice"),
        (Delegations({}, (Delegation(name="bins-0", paths=("a",)),)), SETTINGS, 6, "the name of another role"),
        (Delegations({}, (Delegation(name="a", paths=("a",), keyids=("00",)),)), SETTINGS, 6, "no such key"),
        (Delegations({}, (DEV,)), SETTINGS, 5, "schema version 6"),
        (None, msgspec.structs.replace(SETTINGS, only_custom=True), 6, "nothing takes artifacts"),
    ],
)
def test_a_bootstrap_with_wrong_delegations_is_refused(
    tmp_path: Path, custom: Delegations | None, settings: Any, version: int, reason: str
) -> None:
    """For the reasons for which a change of them would be, and before anybody signs it."""
    payload = make_bootstrap(tmp_path, bins=4, mode="rstuf").payload["metadata"]
    bootstrap = Bootstrap(v=version, settings=settings, root=payload["root"], rules=records.CURRENT_RULES, delegations=custom)
    for content in (bootstrap, msgspec.structs.replace(bootstrap, signing=True)):
        state = folded(AdminState(), content)
        assert state.bootstrap is None
        assert reason in state.refused[0]


def test_targets_stay_as_small_as_clients_accept(begun: AdminState) -> None:
    """The estimate of their size is never below it, and more than clients accept is refused, at bootstrap too."""
    keyid, key = key_with_uri()
    some = Delegations({keyid: key}, (DEV, DOCS, Delegation(name="mine", paths=("mine/é*",), keyids=(keyid,), days=3650)))
    root, expires = begun.roots[0].signed, datetime(2040, 1, 1, tzinfo=UTC)
    online = roles.online_bin_keys(root)
    bare = len(rules.make_targets(root, SETTINGS, Delegations({}, (Delegation(name="a", paths=("a",)),)), 1, expires)[1])
    for custom in (some, Delegations({}, tuple(Delegation(name=f"r{number}", paths=("x",)) for number in range(500)))):
        size = len(rules.make_targets(root, SETTINGS, custom, 1, expires)[1]) - bare
        delegating.check_size(custom, online)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules, "MAX_BYTES", {"targets": size})
            with pytest.raises(InvalidInputError, match="targets would have some"):
                delegating.check_size(custom, online)
    many = [Delegation(name=f"r{number}", paths=(f"{number}/{'x' * 900}",)) for number in range(4_500)]
    assert "targets would have some" in folded(begun, changed("add", *many)).refused[1]
    assert begun.bootstrap is not None
    bootstrap = msgspec.structs.replace(begun.bootstrap, v=records.DELEGATIONS_SCHEMA, delegations=Delegations({}, tuple(many)))
    assert "targets would have some" in folded(AdminState(), bootstrap).refused[0]


def test_targets_that_people_sign_route_from_their_last_signature_on(tmp_path: Path) -> None:
    """A change makes the next targets, which route nothing while they wait; without ends, the last signature is refused."""
    held = make_bootstrap(tmp_path, bins=4, mode="pep458")
    payload = held.payload["metadata"]
    bootstrap = Bootstrap(
        v=SETTINGS.schema, settings=SETTINGS, root=payload["root"], targets=payload["targets"], rules=records.CURRENT_RULES
    )
    state = folded(AdminState(), bootstrap, changed("add", DEV, ends=(1, 1)))
    proposal = state.open_proposal("targets")
    assert proposal is not None
    assert isinstance(proposal.record, NewMetadata)
    assert (proposal.version, names_of(state)) == (2, [])
    for number, ends in enumerate((None, None, [8, 9])):
        key = held.targets[min(number, 1)].signer
        entry = signature(proposal.record.metadata, key)
        state = folded(state, Signature(v=6, role="targets", proposal=1, **entry, ends=ends))
    assert list(state.refused) == [3]
    assert "the ends of another number of partitions" in state.refused[3]
    assert names_of(state) == ["dev"]
    assert state.routing is not None
    assert [(version.offset, version.ends) for version in state.routing.versions] == [(4, (8, 9))]
    assert roles_keys(read_delegated(state.targets[-1].signed).custom["dev"]) == roles_keys(roles.bin_keys(state.targets[0].signed))
    again = folded(state, changed("delete", deleted=("dev",)))
    assert again.open_proposal("targets") is not None
    assert names_of(again) == ["dev"]
