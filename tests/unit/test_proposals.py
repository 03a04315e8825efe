"""Proposals, as pure functions: in whatever order signatures arrive, and whatever comes between, the result is the complete version."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tufline import records
from tufline.bus import Record
from tufline.clock import milliseconds_of
from tufline.records import SIGNING_SCHEMA, Bootstrap, BootstrapStarted, NewMetadata, Signature, Withdrawal, topics
from tufline.trust import ceremony
from tufline.trust.acceptance import MAX_WITHDRAWN
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState
from tufline.trust.ceremony import Ceremony, Plan
from tufline_testing.log import DEFAULT_DAYS, settings_of
from tufline_testing.resign import signature

NOW = datetime.now(UTC)
BINS = 4
HELD: Ceremony = ceremony.hold(Plan(BINS, "pep458", "ed25519", days=DEFAULT_DAYS, online={}))
KEYS = {"root": [key.signer for key in HELD.root], "targets": [key.signer for key in HELD.targets]}
FOREIGN = ceremony.make_key("ed25519").signer


def signed_by(role: str, keys: list[int], version: int = 1) -> dict[str, Any]:
    """Return a version of a role with the signatures of some of its keys."""
    metadata: dict[str, Any] = copy.deepcopy(HELD.payload["metadata"][role])
    metadata["signed"]["version"] = version
    metadata["signatures"] = [signature(metadata, KEYS[role][number]) for number in keys]
    return metadata


def bootstrap(root: list[int], targets: list[int]) -> Bootstrap:
    """Return the record of a bootstrap with the signatures of some keys."""
    settings = settings_of(BINS, 2, DEFAULT_DAYS)
    of_root, of_targets = signed_by("root", root), signed_by("targets", targets)
    return Bootstrap(v=settings.schema, settings=settings, root=of_root, targets=of_targets, rules=records.CURRENT_RULES)


def proposed(content: Bootstrap | NewMetadata) -> Bootstrap | NewMetadata:
    """Mark a record as one that more keys must sign."""
    return msgspec.structs.replace(content, signing=True, v=SIGNING_SCHEMA)


def folded(state: AdminState, *contents: Any) -> AdminState:
    """Apply records, one second after the other."""
    for content in contents:
        time = milliseconds_of(NOW + timedelta(seconds=state.next_offset))
        state = fold(state, Record(topics.ADMIN, 0, state.next_offset, time, "key", records.encode(content), {}))
    return state


def trusted(state: AdminState) -> list[tuple[int, set[str]]]:
    """Return the accepted versions and who signed them."""
    versions = [(one.signed.version, one.metadata) for one in state.roots] + [(one.signed.version, one.metadata) for one in state.targets]
    return [(version, {entry["keyid"] for entry in metadata["signatures"]}) for version, metadata in versions]


ACTS = st.lists(
    st.tuples(st.sampled_from(["root", "targets"]), st.sampled_from([0, 1, 2, "foreign", "of other content", "of another proposal"])),
    max_size=12,
)


def act(state: AdminState, role: str, what: Any, proposal: int, version: int) -> AdminState:
    """Apply one signature, good or bad."""
    metadata = signed_by(role, [], version)
    signer = FOREIGN if what == "foreign" else KEYS[role][what if isinstance(what, int) else 1]
    entry = signature(signed_by(role, [], version + 5) if what == "of other content" else metadata, signer)
    of = proposal + 1 if what == "of another proposal" else proposal
    return folded(state, Signature(role=role, proposal=of, keyid=entry["keyid"], sig=entry["sig"]))  # type: ignore[arg-type]


@given(ACTS)
def test_a_bootstrap_counts_exactly_when_both_thresholds_are_met(acts: list[tuple[str, Any]]) -> None:
    """Whatever signatures come in whatever order, the state has a repository once two keys of each role signed, and not before."""
    state = folded(AdminState(), proposed(bootstrap([0], [])))
    by: dict[str, set[int]] = {"root": {0}, "targets": set()}
    for role, what in acts:
        was_done = all(len(keys) >= 2 for keys in by.values())
        counts = isinstance(what, int) and what not in by[role] and not was_done
        if counts:
            by[role].add(what)
        offset = state.next_offset
        state = act(state, role, what, 0, 1)
        assert (offset in state.refused) != counts
        is_done = all(len(keys) >= 2 for keys in by.values())
        assert (state.bootstrap is not None) == is_done
        assert (state.open_proposal("bootstrap") is None) == is_done
    if state.bootstrap is not None:
        keyids = [{KEYS[role][number].public_key.keyid for number in by[role]} for role in ("root", "targets")]
        assert trusted(state) == [(1, keyids[0]), (1, keyids[1])]
        complete = folded(AdminState(), bootstrap(sorted(by["root"]), sorted(by["targets"])))
        assert trusted(complete) == trusted(state)
        assert not state.bootstrap.signing


@given(ACTS, st.sampled_from(["root", "targets"]))
def test_an_update_counts_exactly_when_its_threshold_is_met(acts: list[tuple[str, Any]], role: str) -> None:
    """The next version of a role counts once two of its keys signed it; signatures for the other role change nothing."""
    state = folded(AdminState(), bootstrap([0, 1], [0, 1]))
    update = NewMetadata(role=role, metadata=signed_by(role, [0], 2), rules=records.CURRENT_RULES)  # type: ignore[arg-type]
    state = folded(state, proposed(update))
    by = {0}
    for of_role, what in acts:
        counts = of_role == role and isinstance(what, int) and what not in by and len(by) < 2
        if counts:
            by.add(what)
        offset = state.next_offset
        state = act(state, of_role, what, 1, 2)
        assert (offset in state.refused) != counts
    versions = [one.signed.version for one in (state.roots if role == "root" else state.targets)]
    assert versions == ([1, 2] if len(by) == 2 else [1])
    assert [one.signed.version for one in (state.targets if role == "root" else state.roots)] == [1]


@pytest.mark.parametrize("role", ["root", "targets"])
def test_only_one_version_waits_and_a_complete_one_ends_it(role: str) -> None:
    """A second proposal is refused, and a withdrawn or superseded one accepts no more signatures."""
    first = NewMetadata(role=role, metadata=signed_by(role, [0], 2), rules=records.CURRENT_RULES)  # type: ignore[arg-type]
    waiting = proposed(first)
    begun = folded(AdminState(), bootstrap([0, 1], [0, 1]))
    state = folded(begun, waiting, waiting)
    assert "waits for signatures already" in state.refused[2]
    withdrawn = folded(state, Withdrawal(proposal=1), Withdrawal(proposal=1))
    assert withdrawn.proposals[1].outcome == "withdrawn"
    assert 4 in withdrawn.refused
    assert 5 in act(withdrawn, role, 1, 1, 2).refused
    complete = NewMetadata(role=role, metadata=signed_by(role, [1, 2], 2), rules=records.CURRENT_RULES)  # type: ignore[arg-type]
    ended = folded(state, complete)
    assert ended.proposals[1].outcome == "superseded"
    assert 4 in act(ended, role, 1, 1, 2).refused
    assert max(one.signed.version for one in (ended.roots if role == "root" else ended.targets)) == 2


def test_a_proposal_that_is_complete_counts_at_once() -> None:
    """A record that is marked as pending, although enough keys signed it, counts as complete."""
    state = folded(AdminState(), proposed(bootstrap([0, 2], [1, 2])))
    assert state.bootstrap is not None
    assert not state.proposals


def test_a_key_of_root_signs_first() -> None:
    """A bootstrap that no root key signed is refused, so that strangers can't lock the system; targets may arrive without signatures."""
    assert "root version 1 has no valid signature by" in folded(AdminState(), proposed(bootstrap([], [0, 1]))).refused[0]
    assert not folded(AdminState(), proposed(bootstrap([1], []))).refused


def test_a_bootstrap_that_begins_ends_the_replacement_that_waits() -> None:
    """A replacement that is incomplete when the first bootstrap starts never counts, and does not block the signatures of the next root."""
    replacement = msgspec.structs.replace(bootstrap([0], [0, 1]), replace=True)
    state = folded(AdminState(), bootstrap([0, 1], [0, 1]), proposed(replacement), BootstrapStarted(bootstrap=0))
    assert state.proposals[1].outcome == "superseded"
    update = NewMetadata(role="root", metadata=signed_by("root", [0], 2), rules=records.CURRENT_RULES)
    state = act(folded(state, proposed(update)), "root", 1, 3, 2)
    assert [one.signed.version for one in state.roots] == [1, 2]


def test_the_state_keeps_only_the_newest_of_the_versions_that_were_ended() -> None:
    """Repeated submissions and withdrawals do not fill the memory; completed versions stay known."""
    update = proposed(NewMetadata(role="targets", metadata=signed_by("targets", [0], 2), rules=records.CURRENT_RULES))
    state = folded(AdminState(), proposed(bootstrap([0], [0, 1])))
    state = act(state, "root", 1, 0, 1)
    for _ in range(MAX_WITHDRAWN + 3):
        state = folded(state, update)
        state = folded(state, Withdrawal(proposal=state.next_offset - 1))
    assert state.proposals[0].outcome == "complete"
    assert sum(one.outcome == "withdrawn" for one in state.proposals.values()) == MAX_WITHDRAWN
    assert state.next_offset - 2 in state.proposals
