"""The next versions of root and targets that people make: each can be accepted by the rules, or is refused with a reason."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from tuf.api.metadata import Metadata, Root, Targets

from tufline.errors import InvalidUpdateError
from tufline.metadata.expiry import expiry_warning
from tufline.records import CHAIN_RULES, CURRENT_RULES, Bootstrap, NewMetadata
from tufline.trust import acceptance, proposals, renewal, roles
from tufline.trust.admin_state import AdminState
from tufline.trust.ceremony import Ceremony, NewKey, Plan, hold, make_key
from tufline.trust.renewal import KeyChanges
from tufline_cli import main
from tufline_cli.exit_codes import Exit
from tufline_testing.log import settings_of

NOW = datetime.now(UTC).replace(microsecond=0)
EXPIRES = NOW + timedelta(days=400)
HELD: Ceremony = hold(Plan(4, scheme="ed25519"), NOW)


def begun() -> AdminState:
    """Return the state after a bootstrap whose root and targets two of three keys signed."""
    settings = settings_of(4, 2, {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "bins": 7})
    metadata = HELD.payload["metadata"]
    bootstrap = Bootstrap(v=settings.schema, settings=settings, root=metadata["root"], targets=metadata["targets"], rules=CURRENT_RULES)
    return acceptance.begin(AdminState(), bootstrap, 0, NOW)


def submit(state: AdminState, signed: Root | Targets, *signers: NewKey) -> AdminState:
    """Submit a version that keys signed."""
    metadata: Metadata[Any] = Metadata(signed)
    for one in signers:
        metadata.sign(one.signer, append=True)
    update = NewMetadata(role=signed.type, metadata=metadata.to_dict(), rules=CURRENT_RULES)  # type: ignore[arg-type]
    after, _ = proposals.submit(state, update, state.next_offset + 1, NOW)
    return after


def test_renewed_versions_are_accepted() -> None:
    """Root and targets with another lifetime, and nothing else, are accepted with the signatures of before."""
    state = begun()
    root = renewal.renewed(state.roots[-1].signed, EXPIRES)
    state = submit(state, root, *HELD.root[:2])
    targets = renewal.renewed(state.targets[-1].signed, EXPIRES)
    state = submit(state, targets, *HELD.targets[1:])
    assert (state.roots[-1].signed, state.targets[-1].signed) == (root, targets)
    assert (root.version, root.expires, targets.version, targets.expires) == (2, EXPIRES, 2, EXPIRES)
    assert root.roles == state.roots[0].signed.roles


def test_a_key_is_replaced() -> None:
    """The next root has the new key in place of the old one, and the same threshold; both old and new keys sign it."""
    state, new = begun(), make_key("ed25519")
    gone = HELD.root[2].signer.public_key.keyid
    changes = {"root": KeyChanges([new.signer.public_key], [gone[:12]])}
    root = renewal.with_keys(state.roots[-1].signed, changes, EXPIRES)
    assert set(root.roles["root"].keyids) == {new.signer.public_key.keyid, *(one.signer.public_key.keyid for one in HELD.root[:2])}
    assert gone not in root.keys
    assert root.roles["root"].threshold == 2
    state = submit(state, root, *HELD.root[:2])
    assert state.roots[-1].signed == root
    assert not renewal.must_be_signed_again(state.targets[-1].metadata, root)


def test_thresholds_change() -> None:
    """A threshold alone is a change; more signatures are needed from then on, and for the version itself."""
    state = begun()
    root = renewal.with_keys(state.roots[-1].signed, {"root": KeyChanges(threshold=3), "targets": KeyChanges(threshold=1)}, EXPIRES)
    assert [root.roles[role].threshold for role in ("root", "targets")] == [3, 1]
    assert submit(state, root, *HELD.root[:2]).open_proposal("root") is not None
    assert submit(state, root, *HELD.root).open_proposal("root") is None


def test_targets_that_must_be_signed_again_are_recognized() -> None:
    """If a key goes that targets needs, the root waits for a targets version with signatures by the keys of before and of afterwards."""
    state, new = begun(), make_key("ed25519")
    changes = {"targets": KeyChanges([new.signer.public_key], [HELD.targets[0].signer.public_key.keyid])}
    root = renewal.with_keys(state.roots[-1].signed, changes, EXPIRES)
    assert renewal.must_be_signed_again(state.targets[-1].metadata, root)
    assert not renewal.must_be_signed_again(None, root)
    state = submit(state, root, *HELD.root[:2])
    targets = renewal.renewed(state.targets[-1].signed, EXPIRES)
    state = submit(state, targets, HELD.targets[1], HELD.targets[2])
    assert state.open_proposal("targets") is None
    assert not renewal.must_be_signed_again(state.targets[-1].metadata, root)


def restored_targets_keys() -> tuple[AdminState, NewKey]:
    """Return the state after a root with a new key of targets, whose threshold is one, and a later root without it; and that key."""
    state, new = begun(), make_key("ed25519")
    old = state.roots[-1].signed.roles["targets"]
    forth = {"targets": KeyChanges([new.signer.public_key], old.keyids, threshold=1)}
    state = submit(state, renewal.with_keys(state.roots[-1].signed, forth, EXPIRES), *HELD.root[:2])
    back = {"targets": KeyChanges([key.signer.public_key for key in HELD.targets], [new.signer.public_key.keyid], threshold=2)}
    return submit(state, renewal.with_keys(state.roots[-1].signed, back, EXPIRES), *HELD.root[:2]), new


def test_targets_are_signed_for_a_root_in_between_too() -> None:
    """If a root takes the keys of targets away and the next one restores them, both wait until targets is signed for the one in between."""
    state, new = restored_targets_keys()
    assert state.targets[-1].verifies_under(state.roots[2].signed)
    assert state.waiting_root == state.roots[1]
    targets = renewal.renewed(state.targets[-1].signed, EXPIRES)
    begun_again = submit(state, targets, *HELD.targets[:2])
    assert begun_again.open_proposal("targets") is not None
    assert begun_again.waiting_root == state.roots[1]
    state = submit(state, targets, new, *HELD.targets[:2])
    assert all(state.targets[-1].verifies_under(root.signed) for root in state.roots)
    assert state.waiting_root is None


def test_targets_on_the_log_are_judged_by_the_rules_of_their_time() -> None:
    """Targets that earlier rules accepted without the signatures for a root in between stay accepted, and that root waits."""
    state, _ = restored_targets_keys()
    metadata: Metadata[Any] = Metadata(renewal.renewed(state.targets[-1].signed, EXPIRES))
    for one in HELD.targets[:2]:
        metadata.sign(one.signer, append=True)
    update = NewMetadata(role="targets", metadata=metadata.to_dict(), rules=CHAIN_RULES - 1)
    assert acceptance.update(state, update, 3, NOW).waiting_root == state.roots[1]
    with pytest.raises(InvalidUpdateError, match="targets"):
        acceptance.update(state, msgspec.structs.replace(update, rules=CHAIN_RULES), 3, NOW)


def test_a_root_that_skips_the_overlap_ends_the_wait_of_those_before_it() -> None:
    """Such a root waits for targets that verify under itself alone, and they need no signatures for the roots before it."""
    state, new = restored_targets_keys()
    third = state.roots[-1].signed
    change = {"targets": KeyChanges([new.signer.public_key], third.roles["targets"].keyids, threshold=1)}
    metadata: Metadata[Any] = Metadata(renewal.with_keys(third, change, EXPIRES))
    for one in HELD.root[:2]:
        metadata.sign(one.signer, append=True)
    update = NewMetadata(role="root", metadata=metadata.to_dict(), skip_overlap=True, rules=CURRENT_RULES)
    lost = acceptance.update(state, update, 3, NOW)
    assert lost.waiting_root == lost.roots[3]
    assert submit(lost, renewal.renewed(lost.targets[-1].signed, EXPIRES), new).waiting_root is None
    same = {"targets": KeyChanges(threshold=1)}
    metadata = Metadata(renewal.with_keys(third, same, EXPIRES))
    for one in HELD.root[:2]:
        metadata.sign(one.signer, append=True)
    assert acceptance.update(state, msgspec.structs.replace(update, metadata=metadata.to_dict()), 3, NOW).waiting_root is None


def _remove(role: str, *keyids: str) -> Callable[[Root], dict[str, KeyChanges]]:
    return lambda _: {role: KeyChanges(remove=keyids)}


REFUSED: dict[str, tuple[Callable[[Root], dict[str, KeyChanges]], str]] = {
    "unknown key": (_remove("root", "0" * 64), "names 0 keys of root: its keys are"),
    "no key": (_remove("root", ""), "names 3 keys|names 0 keys|'' names"),
    "key of another role": (lambda root: {"root": KeyChanges(remove=[root.roles["targets"].keyids[0]])}, "names 0 keys of root"),
    "key that is there": (lambda root: {"root": KeyChanges([root.keys[root.roles["root"].keyids[0]]])}, "already: add another one"),
    "too few keys": (
        lambda root: {"root": KeyChanges(remove=root.roles["root"].keyids[:2])},
        "root would need 2 signatures, but it has 1 keys",
    ),
    "threshold of none": (lambda _: {"root": KeyChanges(threshold=0)}, "choose a threshold from 1 to 3"),
    "nothing": (lambda _: {"root": KeyChanges()}, "no key and no threshold would change"),
    "same threshold": (lambda _: {"root": KeyChanges(threshold=2)}, "no key and no threshold would change"),
    "online role": (lambda _: {"timestamp": KeyChanges(threshold=1)}, "tufline keys rotate replaces an online key"),
    "online key": (lambda _: {"root": KeyChanges([make_key("ecdsa", "fn:x").signer.public_key])}, "names a private key's URI"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_impossible_changes_are_refused(changes: Callable[[Root], dict[str, KeyChanges]], reason: str) -> None:
    """No version is made that people would sign in vain, and the root of before is unchanged."""
    root = roles.parse(Root, HELD.payload["metadata"]["root"]).signed
    before = root.to_dict()
    with pytest.raises(InvalidUpdateError, match=reason):
        renewal.with_keys(root, changes(root), EXPIRES)
    assert root.to_dict() == before


def test_targets_of_the_server_have_no_people() -> None:
    """In RSTUF's mode a key of targets is an online key, and is not changed here."""
    root = roles.parse(Root, hold(Plan(4, "rstuf")).payload["metadata"]["root"]).signed
    with pytest.raises(InvalidUpdateError, match="replace it with tufline keys rotate"):
        renewal.with_keys(root, {"targets": KeyChanges(threshold=1)}, EXPIRES)


@pytest.mark.parametrize("role", ["root", "targets"])
@pytest.mark.parametrize("days", [89, 29, 6, -1])
def test_the_alert_names_the_command(role: str, days: int) -> None:
    """From 90 days before the expiry on, the warning says by which command the role is renewed."""
    lifetime = timedelta(days=365)
    warning = expiry_warning(role, NOW + timedelta(days=days), lifetime, NOW)
    assert warning is not None
    assert warning.text.endswith(f"renew it with tufline {role} renew")
    assert expiry_warning(role, NOW + timedelta(days=91.5), lifetime, NOW) is None


USAGE = {
    "nobody signs": (["root", "renew"], "pass exactly one of --key and --out"),
    "signed and written": (["targets", "renew", "--key", "a.pem", "--out", "o"], "pass exactly one of --key and --out"),
    "no role": (["root", "keys", "--out", "o", "--add", "a.json"], "write --add root="),
    "online role": (["root", "keys", "--out", "o", "--remove", "snapshot=abc"], "write --remove root="),
    "no number": (["root", "keys", "--out", "o", "--threshold", "root=two"], "the threshold 'two' is not a number"),
    "lifetime of ages": (["root", "renew", "--out", "o", "--days", "9999"], "not in the range"),
}


@pytest.mark.parametrize(("arguments", "reason"), USAGE.values(), ids=USAGE)
def test_wrong_use_is_reported_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    """A wrong command line is reported without a server, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*arguments, "--url", "http://127.0.0.1:9"])
    assert (done.exit_code, reason in done.output, list(tmp_path.iterdir())) == (Exit.USAGE, True, []), done.output
