"""The keys that sign a role, and the limits of accepted root and targets."""

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root, SuccinctRoles, Targets

from tufline.errors import MetadataError
from tufline.metadata import canonical, keyids
from tufline.metadata.delegations import NO_DELEGATIONS
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import with_fields
from tufline.metadata.profiles import STANDARD
from tufline.records import CURRENT_RULES, FIRST_RULES, Settings
from tufline.trust import roles, rules
from tufline.trust.ceremony import Ceremony, make_key
from tufline.trust.roles import BINS, ROLE_FIELD, RoleKeys
from tufline_testing.payloads import make_bootstrap

NOW = datetime.now(UTC)
KEYS = [make_key("ed25519").signer.public_key for _ in range(3)]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    """A bootstrap of PEP 458's mode."""
    return make_bootstrap(tmp_path_factory.mktemp("keys"), bins=8, mode="pep458")


def metadata_of(held: Ceremony, role: str) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(held.payload["metadata"][role])
    return found


def role_keys(threshold: int, *keys: SSlibKey) -> RoleKeys:
    return RoleKeys({key.keyid: key for key in keys}, threshold)


def test_a_role_needs_as_many_keys_as_its_threshold() -> None:
    """Signatures meet a role's threshold if enough of its keys are among them; foreign keys do not count, and no key counts twice."""
    one, two, other = (key.keyid for key in KEYS)
    keys = role_keys(2, *KEYS[:2])
    assert keys.are_met_by([one, two])
    assert keys.are_met_by([other, two, one])
    for few in ([], [one], [one, one], [one, other]):
        assert not keys.are_met_by(few)


@pytest.mark.parametrize("uri", [None, "", 7, ["fn:a.pem"]])
def test_a_key_with_a_uri_is_online(uri: Any) -> None:
    """A key is online if and only if it has a URI; no other value in that field counts."""
    without = SSlibKey("a", "ed25519", "ed25519", {"public": "00"}, {} if uri is None else {ONLINE_KEY_URI: uri})
    online = with_fields(KEYS[0], **{ONLINE_KEY_URI: "fn:online.pem"})
    assert role_keys(1, without, online).online == {online.keyid: "fn:online.pem"}


def test_a_field_is_covered_by_the_keyid() -> None:
    """If a keyid covers the whole key, it is recomputed when the key gets another field."""
    named = SSlibKey("chosen by others", "ed25519", "ed25519", KEYS[0].keyval)
    for key in (KEYS[0], named, with_fields(KEYS[0], first="1")):
        whole = with_fields(key, second="2")
        assert whole.keyid == keyids.keyid_of(whole.to_dict())
        assert whole.unrecognized_fields == {**key.unrecognized_fields, "second": "2"}
        assert "second" not in key.unrecognized_fields


@pytest.mark.parametrize("keyid", ["0" * 64, "f" * 64])
def test_a_keyid_that_does_not_cover_other_fields_stays(keyid: str) -> None:
    """A keyid that does not cover all fields of its key stays as it is, because others use it."""
    key = SSlibKey(keyid, "ed25519", "ed25519", KEYS[0].keyval, {"x-note": "a"})
    assert with_fields(key, second="2").keyid == keyid


def test_the_keys_of_the_bins_if_targets_is_online(held: Ceremony) -> None:
    """Any of the keys that root marks for the bins can sign them; if it marks none, the keys of targets sign."""
    root = roles.parse(Root, metadata_of(held, "root")).signed
    assert roles.online_bin_keys(root) == roles.root_keys(root, Targets.type)
    for keyid in root.roles[Targets.type].keyids:  # a mark of another kind does not count
        root.keys[keyid].unrecognized_fields[ROLE_FIELD] = "bin"
    assert roles.online_bin_keys(root) == roles.root_keys(root, Targets.type)
    marked = [with_fields(key, **{ROLE_FIELD: BINS}) for key in KEYS[:2]]
    for key in marked:
        root.keys[key.keyid] = key
    assert roles.online_bin_keys(root) == role_keys(1, *marked)


def test_a_keyid_without_a_key_counts_for_nobody(held: Ceremony) -> None:
    """Keyids without a key in root or targets are left out, and the threshold stays."""
    root = roles.parse(Root, metadata_of(held, "root")).signed
    del root.keys[root.roles[Root.type].keyids[0]]
    assert set(roles.root_keys(root, Root.type).keys) == set(root.roles[Root.type].keyids[1:])
    assert roles.root_keys(root, Root.type).threshold == 2


def test_the_name_of_the_bins_is_read_from_targets(held: Ceremony) -> None:
    """Submitted targets determine the names of their bins; targets without bins are refused with the reason."""
    targets = metadata_of(held, "targets")
    assert roles.bins_prefix(targets) == "bins"
    targets["signed"]["delegations"] = {"keys": {}, "roles": []}
    with pytest.raises(MetadataError, match="does not delegate to hash bins"):
        roles.bins_prefix(targets)
    with pytest.raises(MetadataError, match="does not delegate to hash bins"):
        roles.bin_keys(roles.parse(Targets, targets).signed)
    del targets["signed"]["delegations"]
    with pytest.raises(MetadataError, match="does not delegate to hash bins"):
        roles.bins_prefix(targets)
    with pytest.raises(MetadataError, match="does not delegate to hash bins"):
        roles.bin_keys(roles.parse(Targets, targets).signed)


OTHER_BINS = [(2, "bins", "to 4 bins"), (4, "bins", "to 16 bins"), (3, "a", "its bins 'a'"), (3, "c", "its bins 'c'")]


@pytest.mark.parametrize(("bit_length", "prefix", "says"), OTHER_BINS)
def test_targets_delegate_to_the_bins_of_the_settings(held: Ceremony, bit_length: int, prefix: str, says: str) -> None:
    """Targets with fewer or more bins than the settings, or with other names, are refused with their number or name."""
    targets = roles.parse(Targets, metadata_of(held, "targets")).signed
    rules.check_bins(Settings(8, "bins", 3, {}), targets, CURRENT_RULES)
    assert targets.delegations is not None
    assert targets.delegations.succinct_roles is not None
    keys = list(targets.delegations.succinct_roles.keyids)
    targets.delegations.succinct_roles = SuccinctRoles(keys, 1, bit_length, prefix)
    with pytest.raises(MetadataError, match=says):
        rules.check_bins(Settings(8, "bins", 3, {}), targets, CURRENT_RULES)


@pytest.mark.parametrize(("role", "most"), [(Root, 500_000), (Targets, 4_000_000)])
def test_the_largest_files(held: Ceremony, role: Any, most: int) -> None:
    """Root of 500,000 bytes and targets of 4,000,000 are accepted, as the file that clients get, and not one byte more."""
    content = metadata_of(held, role.type)
    content["signed"]["x-filling"] = ["x" * 1_000] * (most // 1_100)
    content["signed"]["x-rest"] = ""
    content["signed"]["x-rest"] = "x" * (most - len(roles.file_bytes(content)))
    rules.check_submitted(role, content, NOW)
    content["signed"]["x-rest"] += "x"
    with pytest.raises(MetadataError, match=f"{role.type} has {most + 1} bytes, but TUF clients accept at most {most}"):
        rules.check_submitted(role, content, NOW)


def test_metadata_that_cannot_be_read(held: Ceremony) -> None:
    """Content that is not metadata of the role is refused with the reason: a missing field, or python-tuf's message."""
    content = metadata_of(held, "root")
    del content["signed"]["keys"]
    with pytest.raises(MetadataError, match=r"^not root metadata: 'keys' is missing$"):
        roles.parse(Root, content)
    with pytest.raises(MetadataError, match=r"^not root metadata: (?!.*is missing)"):
        roles.parse(Root, b"{")
    with pytest.raises(MetadataError, match="this is targets metadata, not root"):
        roles.parse(Root, metadata_of(held, "targets"))


def test_expired_metadata_is_refused(held: Ceremony) -> None:
    """Root that has expired is refused; it is accepted until then."""
    content = metadata_of(held, "root")
    expires = datetime.strptime(content["signed"]["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    rules.check_submitted(Root, content, expires - timedelta(seconds=1))
    with pytest.raises(MetadataError, match=f"root expired on {expires:%Y-%m-%d}"):
        rules.check_submitted(Root, content, expires + timedelta(seconds=1))


def test_key_providers_are_judged_since_there_are_rules(held: Ceremony) -> None:
    """An online key without a known provider is refused, except in versions that were accepted before this rule existed."""
    root = roles.parse(Root, metadata_of(held, "root")).signed
    (keyid,) = root.roles["timestamp"].keyids
    rules.check_root_roles(root, targets_online=False, rules=CURRENT_RULES)
    root.keys[keyid].unrecognized_fields[ONLINE_KEY_URI] = "nonsense"
    rules.check_root_roles(root, targets_online=False, rules=FIRST_RULES)
    with pytest.raises(MetadataError, match="can't find the key"):
        rules.check_root_roles(root, targets_online=False, rules=FIRST_RULES + 1)


@pytest.mark.parametrize("expires", ["2035-01-01T00:00:00.5Z", "2035-01-01T00:00:00"])
def test_metadata_that_python_tuf_encodes_differently_is_refused(held: Ceremony, expires: str) -> None:
    """Metadata that python-tuf would serialize differently is refused, because it would verify other bytes than other clients."""
    content = metadata_of(held, "root")
    content["signed"]["x-note"] = "m"
    signed = roles.parse(Root, content).signed
    rules.check_form(signed, content, CURRENT_RULES, STANDARD)
    for other in ("a", "z"):
        signed.unrecognized_fields["x-note"] = other
        with pytest.raises(MetadataError, match=r"would write this (root|targets) differently"):
            rules.check_form(signed, content, CURRENT_RULES, STANDARD)
    content["signed"]["expires"] = expires
    rules.check_form(signed, content, FIRST_RULES, STANDARD)
    with pytest.raises(MetadataError, match="expires"):
        rules.check_form(signed, content, CURRENT_RULES, STANDARD)


def test_targets_that_the_signer_makes(tmp_path: Path) -> None:
    """Targets that are online delegate to the bins of the settings, and expire at a whole second of UTC."""
    payload = make_bootstrap(tmp_path, bins=8, mode="rstuf").payload
    root = roles.parse(Root, payload["metadata"]["root"]).signed
    expires = datetime(2035, 1, 1, 1, 2, 3, 999_999, timezone(timedelta(hours=2)))
    to_sign, in_file = rules.make_targets(root, Settings(8, "my-bins", 3, {}), NO_DELEGATIONS, 5, expires)
    made = json.loads(in_file)
    assert (made["version"], made["expires"], made["targets"]) == (5, "2034-12-31T23:02:03Z", {})
    online = roles.online_bin_keys(root)
    assert made["delegations"]["succinct_roles"] == {
        "keyids": list(online.keys),
        "threshold": online.threshold,
        "bit_length": 3,
        "name_prefix": "my-bins",
    }
    assert set(made["delegations"]["keys"]) == set(online.keys)
    assert canonical.encode(json.loads(in_file)) == in_file
    assert to_sign.decode() == encode_canonical(made)
