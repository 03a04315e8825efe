"""Publishes and freezes as records of ``admin``, and the slots of held changes, as pure functions."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tufline import records
from tufline.bus import Record
from tufline.clock import milliseconds_of, moment_of
from tufline.errors import SchemaError
from tufline.metadata.bins import BinLayout
from tufline.records import Bootstrap, Freeze, Held, Publish, codec, held_key, slot_of_key, topics
from tufline.trust import ceremony
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import KEPT_PUBLISHES, AdminState
from tufline.trust.ceremony import Plan
from tufline_signer.bins.held import HeldChanges
from tufline_testing.log import DEFAULT_DAYS, settings_of

NOW = milliseconds_of(datetime.now(UTC))
PAYLOAD = ceremony.hold(Plan(4, "pep458", "ed25519", days=DEFAULT_DAYS, online={})).payload["metadata"]
SETTINGS = settings_of(4, 2, DEFAULT_DAYS)
BOOTSTRAP = Bootstrap(v=SETTINGS.schema, settings=SETTINGS, root=PAYLOAD["root"], targets=PAYLOAD["targets"], rules=records.CURRENT_RULES)
LAYOUT = BinLayout.of(4)


def folded(state: AdminState, *contents: Any) -> AdminState:
    """Apply records, each a second after the one before."""
    for content in contents:
        time = NOW + 1000 * state.next_offset
        state = fold(state, Record(topics.ADMIN, 0, state.next_offset, time, "key", records.encode(content), {}))
    return state


def test_the_ends_of_publishes_never_go_back() -> None:
    """If two processes append their publishes in the other order than their marks, each releases at least what the one before does."""
    state = folded(AdminState(), BOOTSTRAP, Publish(ends=[5, 3]), Publish(ends=[4, 7]))
    assert [(publish.offset, publish.ends) for publish in state.publishes] == [(1, (5, 3)), (2, (5, 7))]
    assert state.next_publish(0) == state.next_publish(1) == state.publishes[0]
    assert state.next_publish(2) == state.publishes[1]
    assert state.next_publish(3) is None


@pytest.mark.parametrize("before", [AdminState(), folded(AdminState(), BOOTSTRAP)])
def test_a_publish_that_does_not_fit_the_repository_is_refused(before: AdminState) -> None:
    """Without a bootstrap, or with another number of partitions, a publish has no effect."""
    state = folded(before, Publish(ends=[1, 1] if before.bootstrap is None else [1]))
    assert state.publishes == ()
    assert before.next_offset in state.refused


def test_the_number_of_publishes_in_memory_is_bounded() -> None:
    """Of very many publishes, the newest are kept; the oldest of them releases what the earlier ones do."""
    state = folded(AdminState(), BOOTSTRAP, *(Publish(ends=[number, 0]) for number in range(KEPT_PUBLISHES + 5)))
    assert len(state.publishes) == KEPT_PUBLISHES
    first = state.next_publish(0)
    assert first is not None
    assert (first.offset, first.ends) == (6, (5, 0))


def test_it_is_frozen_from_the_first_freeze_to_the_thaw() -> None:
    """A second freeze changes nothing, not even since when it is frozen; a thaw ends it."""
    state = folded(AdminState(), BOOTSTRAP, Freeze(frozen=True), Freeze(frozen=True))
    assert state.frozen_since == moment_of(NOW + 1000)
    assert folded(state, Freeze(frozen=False)).frozen_since is None
    assert not folded(state, Freeze(frozen=False)).refused


@pytest.mark.parametrize("content", [Publish(ends=[1]), Freeze(frozen=True), Held(path="a")])
def test_an_older_version_stops_at_what_it_would_misunderstand(content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that does not know held changes asks to be upgraded, and does not skip these records."""
    value = records.encode(content)
    monkeypatch.setattr(codec, "NEWEST_SCHEMA", 4)
    with pytest.raises(SchemaError):
        records.decode(records.admin_decoder, value)
    with pytest.raises(SchemaError):
        records.decode(records.heads_decoder, value)


@pytest.mark.parametrize(("key", "slot"), [("@held.0", 0), ("@held.17", 17), ("@held.01", None), ("@held.", None), ("@progress", None)])
def test_a_slot_has_one_key(key: str, slot: int | None) -> None:
    """Only the key that a slot is written with is read as the slot's key."""
    assert slot_of_key(key) == slot
    assert slot is None or held_key(slot) == key


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["hold", "hold", "drop"]), st.booleans())), st.integers(0, 6))
def test_the_slots_have_what_is_held(steps: list[tuple[str, str, bool]], limit: int) -> None:
    """After any steps and takeovers the slots on the log have exactly what is held, in as few slots as ever were in use at once."""

    def bin_of(path: str) -> str:
        return LAYOUT.name(LAYOUT.index_of(path))

    def restored() -> HeldChanges:
        return HeldChanges(slots, limit, bin_of)

    slots: dict[int, Held] = {}
    wanted: dict[str, int] = {}
    held, most = restored(), 0
    for offset, (path, step, is_taken_over) in enumerate(steps):
        if step == "drop":
            assert (held.drop(bin_of(path), path) is not None) == (wanted.pop(path, None) is not None)
        elif not held.hold(bin_of(path), offset, 0, path, f'"{path}":{{}}'.encode()):
            wanted[path] = offset
        else:
            assert path not in wanted
            assert len(wanted) >= limit
        slots.update(held.take_touched().slots)
        most = max(most, len(wanted))
        if is_taken_over:
            held = restored()
        assert {one.path: one.offset for one in slots.values() if one.path} == wanted
        assert (held.count, len(slots)) == (len(wanted), most)
        below = [change for of_role in held.below(offset).values() for change in of_role]
        assert {change.path: change.offset for change in below} == {of: at for of, at in wanted.items() if at < offset}
    for of_role in held.below(len(steps)).values():
        assert of_role == sorted(of_role, key=lambda change: change.offset)
