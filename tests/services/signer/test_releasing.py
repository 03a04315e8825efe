"""A new version of root or targets is released only once everything that it governs verifies under it, as clients require."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from tufline import records
from tufline.bus import Record
from tufline.records import Head, NewMetadata, Renewal, Vector, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import admin_records, ceremony, roles
from tufline.trust.admin_state import AdminState, Bootstrapped
from tufline.trust.delegated import Delegated
from tufline.trust.roles import RoleKeys
from tufline_signer.commits.release import next_root, next_submitted_targets, unfinished_renewals
from tufline_signer.commits.state import CommitState
from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.offline import Offline

PARTITIONS = 2
BINS = 4
NOW = 1_800_000_000_000
"""When everything was submitted, in milliseconds."""


def people(path: Path, mode: str) -> Offline:
    return Offline(path, bins=BINS, mode=mode, days=DEFAULT_DAYS)


def submit(offline: Offline, updates: Sequence[NewMetadata | Renewal]) -> Bootstrapped:
    """Fold the bootstrap and the later submissions."""
    state = AdminState()
    for offset, one in enumerate([offline.bootstrap(PARTITIONS), *updates]):
        state = admin_records.fold(state, Record(topics.ADMIN, 0, offset, NOW, "", records.encode(one), {}))
    assert not state.refused, state.refused
    assert state.bootstrapped is not None
    return state.bootstrapped


def head(version: int, *keyids: str) -> Head:
    return Head(version=version, sha256="", length=0, expires="2030-01-01T00:00:00Z", offset=0, keyids=[*keyids])


def fold_bins(offline: Offline, named_under: RoleKeys, signed_by: Sequence[Sequence[str]]) -> CommitState:
    """Fold the bins, each with the keys that signed it."""
    settings = offline.bootstrap(PARTITIONS).settings
    bins = CommitState(settings, Vector([0] * PARTITIONS, 0), PassedOver(Health(), "commits"))
    bins.name_under(Delegated(named_under))
    for index, keyids in enumerate(signed_by):
        bins.take(0, [Record(topics.HEADS, 0, index, NOW, settings.layout.name(index), records.encode(head(1, *keyids)), {})])
    return bins


def test_targets_wait_for_every_bin(tmp_path: Path) -> None:
    """Targets that delegate to another key are released when the last of the bins is signed with it, and not before."""
    offline = people(tmp_path, "pep458")
    old = offline.online
    state = submit(offline, offline.rotate())
    first, root, both = state.targets[0].signed, state.roots[0].signed, [old, offline.online]
    heads = {"root": head(1), "targets": head(1)}
    for signed_by in ([[old]] * BINS, [both, both, both, [old]], [[old], both, both, both]):
        bins = fold_bins(offline, roles.bin_keys(first), signed_by)
        assert next_submitted_targets(state, heads, bins, root) is None
    found = next_submitted_targets(state, heads, fold_bins(offline, roles.bin_keys(first), [both] * BINS), root)
    assert found is state.targets[1]


@pytest.mark.parametrize(
    ("mode", "late"), [("pep458", "timestamp"), ("pep458", "snapshot"), ("rstuf", "timestamp"), ("rstuf", "snapshot"), ("rstuf", "targets")]
)
def test_a_root_waits_for_each_role_that_it_governs(tmp_path: Path, mode: str, late: str) -> None:
    """A root with another online key is released when the last role that this key signs is signed with it, and not before."""
    offline = people(tmp_path, mode)
    old = offline.online
    state = submit(offline, offline.rotate()[:1])
    both = (old, offline.online)
    of_bins = roles.bin_keys(state.targets[0].signed) if state.targets else roles.online_bin_keys(state.roots[1].signed)
    bins = fold_bins(offline, of_bins, [both] * BINS)
    heads = {"root": head(1), "targets": head(1, *both), "snapshot": head(1, *both), "timestamp": head(1, *both)}
    assert next_root(state, heads | {late: head(1, old)}, bins) is None
    assert next_root(state, heads, bins) is state.roots[1]


def test_another_key_of_targets_is_changed_step_by_step(tmp_path: Path) -> None:
    """A root with another key for targets waits for targets that both keys signed; targets signed only by the new key wait for the root."""
    offline = people(tmp_path, "pep458")
    another = ceremony.make_key("ecdsa").signer
    root, targets = copy.deepcopy(offline.root), copy.deepcopy(offline.targets)
    assert targets is not None
    for keyid in [*root.roles["targets"].keyids]:
        root.revoke_key(keyid, "targets")
    root.add_key(another.public_key, "targets")
    root.roles["targets"].threshold = 1
    root.version = targets.version = 2
    by_both = Metadata[Targets].from_dict(offline.sign(targets))
    by_both.sign(another, append=True)
    targets.version = 3
    by_the_new = Metadata(targets)
    by_the_new.sign(another)
    of_targets = [NewMetadata(role="targets", metadata=metadata.to_dict()) for metadata in (by_both, by_the_new)]
    state = submit(offline, [NewMetadata(role="root", metadata=offline.sign(root)), *of_targets])
    bins = fold_bins(offline, roles.bin_keys(targets), [[offline.online]] * BINS)
    heads = {"root": head(1), "targets": head(1), "snapshot": head(1, offline.online), "timestamp": head(1, offline.online)}
    assert next_root(state, heads, bins) is None
    assert next_submitted_targets(state, heads, bins, state.roots[0].signed) is state.targets[1]
    heads["targets"] = head(2)
    assert next_root(state, heads, bins) is state.roots[1]
    assert next_submitted_targets(state, heads, bins, state.roots[0].signed) is None
    assert next_submitted_targets(state, heads, bins, state.roots[1].signed) is state.targets[2]


def test_a_root_waits_for_online_targets_that_delegate_to_its_key(tmp_path: Path) -> None:
    """If the signer makes the targets, a root with another key for them is released once they delegate the bins to that key."""
    offline = people(tmp_path, "rstuf")
    old = offline.online
    state = submit(offline, offline.rotate())
    both = (old, offline.online)
    heads = {"root": head(1), "targets": head(1, *both), "snapshot": head(1, *both), "timestamp": head(1, *both)}

    def release_under(root: Root) -> object:
        return next_root(state, heads, fold_bins(offline, roles.online_bin_keys(root), [both] * BINS))

    assert release_under(state.roots[0].signed) is None
    assert release_under(state.roots[1].signed) is state.roots[1]


def test_a_new_catch_all_role_is_no_renewal_of_the_bins(tmp_path: Path) -> None:
    """The catch-all role is named like all bins, and a commit that makes it covers no renewal of bins that are not renewed yet."""
    offline = people(tmp_path, "rstuf")
    state = submit(offline, [Renewal(roles=["bins", "timestamp"], since=5)])
    bins = fold_bins(offline, roles.online_bin_keys(state.roots[0].signed), [[offline.online]] * BINS)
    heads = {"root": head(1), "targets": head(1), "snapshot": head(1), "timestamp": head(1)}
    made = {"targets", state.settings.name_prefix, "snapshot", "timestamp"}
    assert unfinished_renewals(state, heads, bins, made, covered=0) == [1]
