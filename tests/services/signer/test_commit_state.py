"""Folding the heads of bins: the versions that a snapshot may name, and the progress that it covers."""

from tufline import records
from tufline.bus import Record
from tufline.records import PROGRESS_KEY, Head, Progress, Settings, Vector, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import ceremony
from tufline.trust.delegated import Delegated
from tufline.trust.roles import RoleKeys
from tufline_signer.commits.state import CommitState

DAYS = {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1, "bins": 1}


def head(role: str, version: int, keyid: str, admin: int = 0) -> Record:
    content = Head(version=version, sha256="", length=0, expires="2030-01-01T00:00:00Z", offset=0, keyids=[keyid], admin=admin)
    return Record(topics.HEADS, 0, version, 0, role, records.encode(content), {})


def progress(offset: int, publish: int = 0) -> Record:
    return Record(topics.HEADS, 0, 0, 0, PROGRESS_KEY, records.encode(Progress(offset=offset, publish=publish)), {})


def test_progress_does_not_count_while_a_bin_is_withheld() -> None:
    """A partition's progress stops while one of its bins does not verify under the targets; other partitions continue."""
    old, new = (ceremony.make_key("ecdsa").signer.public_key for _ in range(2))
    state = CommitState(Settings(4, "bins", 2, DAYS), Vector([0, 0], 0), PassedOver(Health(), "commits"))
    state.name_under(Delegated(RoleKeys({new.keyid: new}, 1)))
    state.take(0, [head("bins-0", 1, new.keyid), progress(3)])
    assert state.covered == [3, 0]
    state.take(0, [head("bins-2", 1, old.keyid), progress(7)])
    state.take(1, [head("bins-1", 1, new.keyid), progress(5)])
    assert (state.covered, state.withheld, state.snapshot.version("bins-2")) == ([3, 5], ["bins-2"], 0)
    state.take(0, [head("bins-2", 2, new.keyid)])
    assert (state.covered, state.withheld, state.snapshot.version("bins-2")) == ([7, 5], [], 2)


def test_progress_of_withheld_bins_counts_once_targets_name_their_key() -> None:
    """A withheld bin is named and covered as soon as the snapshot's targets delegate to the key that signed it."""
    old, new = (ceremony.make_key("ecdsa").signer.public_key for _ in range(2))
    state = CommitState(Settings(2, "bins", 1, DAYS), Vector([0], 0), PassedOver(Health(), "commits"))
    state.name_under(Delegated(RoleKeys({old.keyid: old}, 1)))
    state.take(0, [head("bins-0", 1, new.keyid), progress(4)])
    assert state.covered == [0]
    state.name_under(Delegated(RoleKeys({new.keyid: new}, 1)))
    assert state.covered == [4]


def test_a_bin_of_which_no_version_may_be_named_is_missing() -> None:
    """No snapshot is made before each bin has a version that verifies under the targets; a bin that was named before keeps that version."""
    old, new = (ceremony.make_key("ecdsa").signer.public_key for _ in range(2))
    state = CommitState(Settings(2, "bins", 1, DAYS), Vector([0], 0), PassedOver(Health(), "commits"))
    state.name_under(Delegated(RoleKeys({new.keyid: new}, 1)))
    state.take(0, [head("bins-0", 1, new.keyid), head("bins-1", 1, old.keyid)])
    assert state.missing == {"bins-1"}
    state.take(0, [head("bins-1", 2, new.keyid)])
    assert not state.missing
    after_restart = CommitState(Settings(2, "bins", 1, DAYS), Vector([0], 0), PassedOver(Health(), "commits"))
    after_restart.name_under(Delegated(RoleKeys({new.keyid: new}, 1)))
    after_restart.set("bins-1", 2)
    after_restart.take(0, [head("bins-0", 1, new.keyid), head("bins-1", 3, old.keyid)])
    assert (after_restart.missing, after_restart.snapshot.version("bins-1")) == (set(), 2)


def test_a_publish_is_covered_when_every_partition_has_released_it() -> None:
    """A commit covers a publish only if all partitions with bins have released what they held, in bins that it may name."""
    old, new = (ceremony.make_key("ecdsa").signer.public_key for _ in range(2))
    state = CommitState(Settings(2, "bins", 3, DAYS), Vector([0, 0, 0], 0, 2), PassedOver(Health(), "commits"))
    state.name_under(Delegated(RoleKeys({new.keyid: new}, 1)))
    state.take(0, [head("bins-0", 1, new.keyid), progress(1, publish=7)])
    assert state.publishes == 2
    state.take(1, [head("bins-1", 1, old.keyid), progress(1, publish=8)])
    assert state.publishes == 2
    state.take(1, [head("bins-1", 2, new.keyid)])
    assert state.publishes == 7


def test_progress_never_goes_back() -> None:
    """Progress that arrives late is ignored."""
    key = ceremony.make_key("ecdsa").signer.public_key
    state = CommitState(Settings(4, "bins", 2, DAYS), Vector([0, 4], 0), PassedOver(Health(), "commits"))
    state.name_under(Delegated(RoleKeys({key.keyid: key}, 1)))
    state.take(0, [progress(7), progress(3)])
    state.take(1, [progress(2)])
    assert state.covered == [7, 4]


def test_a_custom_role_that_targets_does_not_name_yet_holds_its_partition_back() -> None:
    """Its changes are covered with the targets that delegate to it. A role that is deleted, or that nobody knows, holds nothing back."""
    key = ceremony.make_key("ecdsa").signer.public_key
    keys = RoleKeys({key.keyid: key}, 1)
    state = CommitState(Settings(2, "bins", 1, DAYS), Vector([0], 0), PassedOver(Health(), "commits"))
    state.name_under(Delegated(keys))
    state.take(0, [head("bins-0", 1, key.keyid), head("bins-1", 1, key.keyid), progress(2)])
    state.take(0, [head("dev", 1, key.keyid, admin=3), progress(4)])
    assert (state.covered, state.unknown) == ([2], {"dev"})
    state.expect({"dev": 3}, {"dev"})  # it was added again, and its version is from before that
    assert (state.covered, state.withheld) == ([4], [])
    state.take(0, [head("dev", 2, key.keyid, admin=4)])
    state.expect({"dev": 3}, {"dev"})
    state.take(0, [progress(5)])
    assert (state.covered, state.unknown, state.withheld) == ([4], set(), ["dev"])
    assert state.are_met(Delegated(keys, {"dev": keys}))
    assert not state.are_met(Delegated(keys, {"dev": keys, "docs": keys}))
    state.name_under(Delegated(keys, {"dev": keys}, "bins"))
    assert (state.covered, state.snapshot.version("dev")) == ([5], 2)
    state.name_under(Delegated(keys))
    state.take(0, [head("dev", 3, key.keyid, admin=4), progress(6)])
    assert state.covered == [5]
    state.expect({}, {"dev"})
    assert (state.covered, state.snapshot.version("dev")) == ([6], 2)
