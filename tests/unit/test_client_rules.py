"""Root and targets that a TUF client would refuse, or read differently from others, are refused, whoever signed them."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner, SSlibKey

from tufline.errors import InvalidBootstrapError, MetadataError
from tufline.metadata import keyids, profiles
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.profiles import RSTUF, STANDARD
from tufline.records import CURRENT_RULES, FIRST_RULES, Bootstrap, Settings
from tufline.trust import client_rules
from tufline.trust import rules as trust
from tufline.trust.ceremony import Ceremony, make_key
from tufline_ingest.rest.bootstrap import make_bootstrap as make_record
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.schemas.trust import BootstrapRequest
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import resign

Spoil = Callable[[Ceremony, dict[str, Any]], None]

PARTITIONS = 4


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    """A bootstrap of PEP 458's mode, signed by two of three."""
    return make_bootstrap(tmp_path_factory.mktemp("keys"), bins=8, mode="pep458")


def record(held: Ceremony, metadata: dict[str, Any], *, rules: int = CURRENT_RULES, profile: Any = STANDARD) -> Bootstrap:
    targets = metadata.get("targets")
    prefix = "bins" if targets is None else targets["signed"]["delegations"]["succinct_roles"]["name_prefix"]
    days = {role: of_role["expiration"] for role, of_role in held.payload["settings"]["roles"].items()}
    return Bootstrap(settings=Settings(8, prefix, PARTITIONS, days, profile), root=metadata["root"], targets=targets, rules=rules)


def judge(held: Ceremony, metadata: dict[str, Any], **how: Any) -> None:
    trust.check_bootstrap(record(held, metadata, **how), datetime.now(UTC))


def of_root(spoil: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change root's signed part, and sign it again."""

    def apply(held: Ceremony, metadata: dict[str, Any]) -> None:
        spoil(metadata["root"]["signed"])
        resign(metadata["root"], [key.signer for key in held.root[:2]])

    return apply


def of_targets(spoil: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change the signed part of targets, and sign it again."""

    def apply(held: Ceremony, metadata: dict[str, Any]) -> None:
        spoil(metadata["targets"]["signed"])
        resign(metadata["targets"], [key.signer for key in held.targets[:2]])

    return apply


def entry(role: str, **fields: Any) -> Spoil:
    """Add an unsigned signature entry, as anybody between signer and server could."""
    return lambda _, metadata: metadata[role]["signatures"].append(fields)


def one_key_twice(held: Ceremony, metadata: dict[str, Any]) -> None:
    """Let one public key meet a threshold of two by using both keyids that are allowed for it."""
    signed, signer = metadata["root"]["signed"], held.root[0].signer
    key = signed["keys"][signer.public_key.keyid]
    twin = {**key, "x-name": "twin"}
    keyid = keyids.keyid_of(twin)
    signed["keys"][keyid] = twin
    signed["roles"]["root"]["keyids"] = [signer.public_key.keyid, keyid]
    resign(metadata["root"], [signer])
    metadata["root"]["signatures"].append({"keyid": keyid, "sig": metadata["root"]["signatures"][0]["sig"]})


def other_keyid(held: Ceremony, metadata: dict[str, Any]) -> None:
    """Rename a key's keyid to something that is not a hash of it."""
    signed, keyid = metadata["root"]["signed"], held.root[2].signer.public_key.keyid
    signed["keys"]["0" * 64] = signed["keys"].pop(keyid)
    signed["roles"]["root"]["keyids"] = ["0" * 64 if one == keyid else one for one in signed["roles"]["root"]["keyids"]]
    resign(metadata["root"], [key.signer for key in held.root[:2]])


def extra_key(key: SSlibKey, **changes: str) -> Spoil:
    """Add a key to root that no role uses, optionally with another public part."""
    keyval = {**key.keyval, **changes}
    written = {"keytype": key.keytype, "scheme": key.scheme, "keyval": keyval}
    return of_root(lambda signed: signed["keys"].update({keyids.keyid_of(written): written}))


def online(*named_by: str, **fields: Any) -> Spoil:
    """Change the online key in root, and recompute its keyid from some or all of its fields."""

    def spoil(signed: dict[str, Any]) -> None:
        (old,) = signed["roles"]["timestamp"]["keyids"]
        key = {**signed["keys"].pop(old), **fields}
        new = keyids.keyid_of({name: key[name] for name in named_by or key})
        signed["keys"][new] = key
        for role in ("timestamp", "snapshot"):
            signed["roles"][role]["keyids"] = [new]

    return of_root(spoil)


def set_in(*steps: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = steps

    def apply(signed: dict[str, Any]) -> None:
        for step in path:
            signed = signed[step]
        signed[last] = value

    return apply


ECDSA = make_key("ecdsa").signer.public_key
ED25519 = make_key("ed25519").signer.public_key
P384 = CryptoSigner(generate_ec(SECP384R1())).public_key
RSA = CryptoSigner(generate_rsa(65537, 2048)).public_key
SMALL_RSA = CryptoSigner(generate_rsa(65537, 1024)).public_key
PEM = str(ECDSA.keyval["public"])
BINS = ("delegations", "succinct_roles")

REFUSED: dict[str, tuple[Spoil, str]] = {
    "one public key under two keyids": (one_key_twice, "names one public key under two keyids"),
    "a keyid that is not the hash of its key": (other_keyid, "is not the SHA-256 of its key"),
    "an entry without a signature": (entry("root", keyid="nope", sig=None), "can't be published"),
    "an entry whose signature is a number": (entry("targets", keyid="nope", sig=1), "targets"),
    "an entry whose signature is not hexadecimal": (entry("root", keyid="a" * 64, sig="zz"), "signatures[2].sig"),
    "an entry in upper case": (entry("root", keyid="a" * 64, sig="AB"), "signatures[2].sig"),
    "an entry of odd length": (entry("targets", keyid="a" * 64, sig="abc"), "signatures[2].sig"),
    "an entry with a newline": (entry("root", keyid="a" * 64, sig="ab\n"), "signatures[2].sig"),
    "an entry whose keyid is a property of every JavaScript object": (entry("root", keyid="constructor", sig=""), "not a SHA-256"),
    "an entry with another field": (entry("root", keyid="a" * 64, sig="", SIG="00"), "SIG"),
    "bins in another directory": (of_targets(set_in(*BINS, "name_prefix", "../x")), "name_prefix"),
    "bins named like a root": (of_targets(set_in(*BINS, "name_prefix", "1.root")), "name_prefix"),
    "bins with a newline": (of_targets(set_in(*BINS, "name_prefix", "bins\n")), "name_prefix"),
    "bins with a space": (of_targets(set_in(*BINS, "name_prefix", "a b")), "name_prefix"),
    "bins with a name too long for a file": (of_targets(set_in(*BINS, "name_prefix", "x" * 300)), "name_prefix"),
    "bins with a name of 101 letters": (of_targets(set_in(*BINS, "name_prefix", "x" * 101)), "name_prefix"),
    "bins without a name": (of_targets(set_in(*BINS, "name_prefix", "")), "name_prefix"),
    "targets that list a file": (
        of_targets(set_in("targets", "a", {"length": 1, "hashes": {"sha256": "0" * 64}})),
        "targets lists 1 files itself",
    ),
    "a hex-encoded ECDSA key": (
        extra_key(ECDSA, public="04" + "ab" * 64),
        "is hex-encoded, which python-tuf and go-tuf can't load for ecdsa-sha2-nistp256: write it as PEM",
    ),
    "an ECDSA key that is empty": (extra_key(ECDSA, public=""), "is not valid PEM"),
    "an ECDSA key that is not PEM": (extra_key(ECDSA, public="zz"), "is not valid PEM"),
    "a PEM with other line ends": (extra_key(ECDSA, public=f"{PEM}\n"), "PEM that not all clients can load"),
    "a PEM after some text": (extra_key(ECDSA, public=f"key\n{PEM}"), "PEM that not all clients can load"),
    "an Ed25519 key in upper case": (extra_key(ED25519, public=str(ED25519.keyval["public"]).upper().replace("0", "A")), "lower-case"),
    "an Ed25519 key that is too long": (extra_key(ED25519, public=f"{ED25519.keyval['public']}00"), "64 lower-case"),
    "an Ed25519 key that is too short": (extra_key(ED25519, public=str(ED25519.keyval["public"])[:62]), "64 lower-case"),
    "an entry whose keyid is too short": (entry("root", keyid="a" * 63, sig=""), "not a SHA-256"),
    "an entry whose keyid is too long": (entry("root", keyid="a" * 65, sig=""), "not a SHA-256"),
    "an Ed25519 key with spaces": (extra_key(ED25519, public=" ".join(str(ED25519.keyval["public"]))), "64 lower-case"),
    "a P-384 key": (extra_key(P384), "python-tuf 3.1.1 to 7.0.1, tuf-js 1.1.7 to 6.0.2, go-tuf 2.0.0 to 2.4.2 can verify"),
    "an RSA key": (extra_key(RSA), "go-tuf 2.0.0"),
    "a P-384 key with a scheme of P-256": (
        extra_key(SSlibKey("", "ecdsa", "ecdsa-sha2-nistp256", dict(P384.keyval))),
        "does not fit its scheme ecdsa-sha2-nistp256",
    ),
    "an RSA key with a scheme of P-256": (
        extra_key(SSlibKey("", "ecdsa", "ecdsa-sha2-nistp256", dict(RSA.keyval))),
        "does not fit its scheme ecdsa-sha2-nistp256",
    ),
    "a second value in a key": (extra_key(ECDSA, Public=PEM), "second field for the public key"),
    "an online key that is not PEM": (online(keyval={"public": "zz"}), "is not valid PEM"),
    "an online key of an unknown provider": (online(**{ONLINE_KEY_URI: "nonsense"}), "'nonsense' is not a URI of a known key provider"),
    "an online key outside the directory": (online(**{ONLINE_KEY_URI: "fn:../x.pem"}), "does not name a file in the key directory"),
    "an online key in Vault without a version": (online(**{ONLINE_KEY_URI: "vault:transit/x"}), "lacks the version"),
    "a field that go-tuf reads as another": (of_root(set_in("Version", 7)), "'Version', which go-tuf reads as 'version'"),
    "a field that go-tuf reads as keys": (of_root(set_in("key\u017f", {})), "which go-tuf reads as 'keys'"),
    "a field of a role that go-tuf reads as keyids": (of_root(set_in("roles", "root", "KeyIDs", [])), "go-tuf reads as 'keyids'"),
    "a keyid without a key": (of_root(lambda signed: signed["roles"]["root"]["keyids"].append("a" * 64)), "but there is no such key"),
    "a threshold that can't be met": (of_root(set_in("roles", "snapshot", "threshold", 2)), "snapshot needs 2 online key"),
    "true as a threshold": (of_root(set_in("roles", "snapshot", "threshold", True)), "threshold"),
    "true as a version": (of_root(set_in("version", True)), "version"),
    "a version beyond 31 bits": (of_root(set_in("version", 2**31)), "version"),
    "version 0": (of_root(set_in("version", 0)), "version"),
    "a version of 2^53": (of_root(set_in("version", 2**53)), "version"),
    "consistent_snapshot that is text": (of_root(set_in("consistent_snapshot", "yes")), "consistent_snapshot"),
    "an expiry without zeros": (of_root(set_in("expires", "2035-1-1T0:0:0Z")), "expires"),
    "an expiry with a digit that is not ASCII": (of_root(set_in("expires", "203\u0665-01-01T00:00:00Z")), "expires"),
    "an expiry with a leap second": (of_root(set_in("expires", "2035-01-01T00:00:60Z")), "second must be in"),
    "a specification version with a digit that is not ASCII": (of_root(set_in("spec_version", "1.\u0660.31")), "spec_version"),
    "roles that are null next to bins": (
        of_targets(set_in("delegations", "roles", None)),
        "python-tuf would write this targets differently",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), REFUSED.values(), ids=REFUSED)
def test_metadata_that_a_client_refuses_is_refused(held: Ceremony, spoil: Spoil, says: str) -> None:
    """A correctly signed bootstrap that a client of the profile would refuse or read otherwise is refused with its reason."""
    metadata = copy.deepcopy(held.payload["metadata"])
    spoil(held, metadata)
    with pytest.raises(InvalidBootstrapError) as caught:
        judge(held, metadata)
    assert says in str(caught.value)


ACCEPTED: dict[str, tuple[Spoil, str]] = {
    "as tufline makes it": (lambda _, __: None, STANDARD),
    "an empty signature of a key that nobody has": (entry("root", keyid="a" * 64, sig=""), STANDARD),
    "a signature that verifies nothing": (entry("targets", keyid="a" * 64, sig="00ff"), STANDARD),
    "a keyid of keytype, scheme and keyval": (online("keytype", "scheme", "keyval"), STANDARD),
    "a key with a custom field": (online(**{"x-name": "x"}), STANDARD),
    "a PEM without its last newline": (extra_key(ECDSA, public=PEM.rstrip("\n")), STANDARD),
    "an Ed25519 key": (extra_key(ED25519), STANDARD),
    "other values in a key": (extra_key(ECDSA, name="a", zone="b"), STANDARD),
    "the largest version": (of_root(set_in("version", 2**31 - 1)), STANDARD),
    "bins with a name of 100 letters": (of_targets(set_in(*BINS, "name_prefix", "x" * 100)), STANDARD),
    "unknown fields": (of_root(set_in("x-note", {"a": [1, None, True]})), STANDARD),
    "a P-384 key for python-tuf": (extra_key(P384), RSTUF),
    "an RSA key for python-tuf": (extra_key(RSA), RSTUF),
}


@pytest.mark.parametrize(("spoil", "profile"), ACCEPTED.values(), ids=ACCEPTED)
def test_metadata_that_all_clients_accept_is_accepted(held: Ceremony, spoil: Spoil, profile: str) -> None:
    """The rules refuse no more than clients do."""
    metadata = copy.deepcopy(held.payload["metadata"])
    spoil(held, metadata)
    judge(held, metadata, profile=profile)


RSA_KEYS = {
    "2047 bits": (2047, 65537, False),
    "2048 bits": (2048, 65537, True),
    "8192 bits": (8192, 65537, True),
    "8193 bits": (8193, 65537, False),
    "the largest exponent": (2048, 2**31 - 1, True),
    "a larger exponent": (2048, 2**31 + 1, False),
}


@pytest.mark.parametrize(("bits", "exponent", "accepted"), RSA_KEYS.values(), ids=RSA_KEYS)
def test_sizes_of_rsa_keys(bits: int, exponent: int, accepted: bool) -> None:
    """RSA keys have 2,048 to 8,192 bits, and an exponent that Go's crypto/rsa accepts."""
    key = RSAPublicNumbers(exponent, 2**bits - 1).public_key()
    written = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    if accepted:
        client_rules.check_public("the key", "rsa", "rsassa-pss-sha256", written, RSTUF)
    else:
        with pytest.raises(MetadataError, match=f"has {bits} bits"):
            client_rules.check_public("the key", "rsa", "rsassa-pss-sha256", written, RSTUF)


@pytest.mark.parametrize("signatures", [None, [{"keyid": 1, "sig": "00"}], [{"keyid": "a" * 64}]])
def test_signatures_that_no_client_reads(signatures: object) -> None:
    """Signatures of another form are refused with the place, even if they arrive without the file."""
    with pytest.raises(MetadataError, match=r"clients can't read the signatures: .*signatures"):
        client_rules.check_signatures(signatures)


def test_small_rsa_keys_are_refused(held: Ceremony) -> None:
    """An RSA key below 2,048 bits is refused in every profile."""
    metadata = copy.deepcopy(held.payload["metadata"])
    extra_key(SMALL_RSA)(held, metadata)
    with pytest.raises(InvalidBootstrapError, match="1024 bits"):
        judge(held, metadata, profile=RSTUF)


def test_older_rules_stay(held: Ceremony) -> None:
    """Records on a log are checked by the rules of their time; a version that could never be published does not count."""
    metadata = copy.deepcopy(held.payload["metadata"])
    other_keyid(held, metadata)
    judge(held, metadata, rules=FIRST_RULES)
    metadata["root"]["signatures"].append({"keyid": "nope", "sig": None})
    with pytest.raises(InvalidBootstrapError, match="can't be published"):
        judge(held, metadata, rules=FIRST_RULES)


def test_the_profile_of_a_bootstrap(tmp_path: Path) -> None:
    """A bootstrap without a profile has RSTUF's if a key has one of RSTUF's fields; tufline init names one, by default standard."""
    payload = make_bootstrap(tmp_path / "keys", mode="rstuf").payload

    def profile(**settings: Any) -> str:
        request = {**payload, "settings": {"roles": payload["settings"]["roles"], **settings}}
        found = make_record(decode(BootstrapRequest, json.dumps(request).encode()), PARTITIONS)
        assert found.rules == CURRENT_RULES
        return trust.profile_of(found)

    assert profile() == RSTUF
    assert payload["settings"]["client_profile"] == profile(client_profile="standard") == STANDARD
    keys = payload["metadata"]["root"]["signed"]["keys"]
    for key in keys.values():
        key.pop(ONLINE_KEY_URI, None)
    assert profile() == STANDARD
    old = Bootstrap(settings=Settings(8, "bins", PARTITIONS, {}), root={"signed": {"keys": {"a": {"x-rstuf-key-name": "a"}}}})
    assert trust.profile_of(old) == RSTUF
    assert profiles.profile_of({"signed": {"keys": 5}}, {"signed": None}, {"x": 1}, None) == STANDARD


def test_hashes_of_a_profile() -> None:
    """RSTUF's tools send blake2b-256, which tuf-js and go-tuf do not know."""
    assert profiles.hash_algorithms(STANDARD, ("sha256", "sha512", "blake2b-256")) == ("sha256", "sha512")
    assert profiles.hash_algorithms(RSTUF, ("sha256",)) == ("sha256", "blake2b-256")


def test_hashes_that_no_client_of_the_profile_knows() -> None:
    """A standard repository accepts what its clients support, whatever is configured; an unknown profile is not guessed."""
    assert profiles.hash_algorithms(STANDARD, ("sha256", "sha384")) == ("sha256",)
    assert profiles.hash_algorithms(STANDARD, ("blake2b-256", "sha384")) == ("sha256", "sha512")
    with pytest.raises(AssertionError):
        profiles.hash_algorithms("newer", ("sha256",))  # type: ignore[arg-type]


def test_keys_that_are_made_are_named_by_their_whole_object(tmp_path: Path) -> None:
    """The keyid of a key that tufline makes is the SHA-256 of its whole object, including the URI of its private part."""
    for mode in ("pep458", "rstuf"):
        metadata = make_bootstrap(tmp_path / mode, mode=mode).payload["metadata"]
        keys = dict(metadata["root"]["signed"]["keys"])
        if "targets" in metadata:
            keys |= metadata["targets"]["signed"]["delegations"]["keys"]
        assert {keyid: keyids.keyid_of(key) for keyid, key in keys.items()} == {keyid: keyid for keyid in keys}
        assert any(ONLINE_KEY_URI in key for key in keys.values())
