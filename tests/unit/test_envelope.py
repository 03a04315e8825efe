"""The common parts of all metadata files: their names, their expiry, and the verification of signatures."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.envelope import OLD_ECDSA, REMEMBERED_ED25519_BYTES, SignatureEntry, is_signed_by
from tufline.trust.ceremony import make_key


def test_names_of_files() -> None:
    """Every file except the timestamp has its version in its name, as clients of consistent snapshots expect."""
    assert envelope.file_name("timestamp", 7) == "timestamp.json"
    assert [envelope.file_name(role, 7) for role in ("root", "bins-0f", "z-0")] == ["7.root.json", "7.bins-0f.json", "7.z-0.json"]


def test_metadata_expires_after_its_lifetime() -> None:
    """The time of expiry is the current time plus the lifetime, in UTC and whole seconds, and is read back unchanged."""
    now = datetime(2030, 1, 1, 1, 30, 5, 999_999, timezone(timedelta(hours=2)))
    text = envelope.expiry(now, timedelta(days=2))
    assert text == "2030-01-02T23:30:05Z"
    assert envelope.parse_expires(text) == datetime(2030, 1, 2, 23, 30, 5, tzinfo=UTC)


OTHER_TIMES = {
    "nothing": "",
    "a day": "2030-01-01",
    "no zone": "2030-01-01T00:00:00",
    "another letter": "2030-01-01T00:00:00A",
    "lower case": "2030-01-01T00:00:00z",
    "an offset": "2030-01-01T00:00:00+00:00",
    "a short offset": "20300101T000000+0000",
    "a fraction": "2030-01-01T00:00:00.5Z",
    "a short time with a fraction": "2030-01-01T000000.0Z",
    "a space": "2030-01-01 00:00:00Z",
    "a week": "2030-W01-1T00:00:00Z",
    "a day that does not exist": "2030-02-30T00:00:00Z",
    "hour 24": "2030-01-01T24:00:00Z",
    "digits that are not ASCII": "\u0662030-01-01T00:00:00Z",
    "a newline": "2030-01-01T00:00:00Z\n",
}


@pytest.mark.parametrize("text", OTHER_TIMES.values(), ids=OTHER_TIMES)
def test_times_in_another_form_are_refused(text: str) -> None:
    """A time of expiry is read only in the one form that all clients read."""
    with pytest.raises(MetadataError, match="is not a time such as 2030-01-01T00:00:00Z"):
        envelope.parse_expires(text)


KEYS: dict[str, Callable[[], Signer]] = {
    "ecdsa": lambda: make_key("ecdsa").signer,
    "ed25519": lambda: make_key("ed25519").signer,
    "rsa": cache(CryptoSigner.generate_rsa),
}


def sign(signer: Signer, content: bytes) -> SignatureEntry:
    return SignatureEntry(signer.public_key.keyid, signer.sign(content).signature)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Start without remembered signatures."""
    found: set[bytes] = set()
    monkeypatch.setattr(envelope, "_known_valid", found)
    return found


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("length", [0, REMEMBERED_ED25519_BYTES, REMEMBERED_ED25519_BYTES + 1])
def test_signatures_over_content_of_any_length(kind: str, length: int, remembered: set[bytes]) -> None:
    """A valid signature verifies, and one over other bytes does not, however often; it is remembered if that saves time."""
    signer, content, other = KEYS[kind](), b"x" * length, b"y" * (length + 1)
    signature = sign(signer, content)
    for _ in range(2):
        assert is_signed_by(signer.public_key, signature, content)
        assert not is_signed_by(signer.public_key, signature, other)
    assert len(remembered) == (kind != "ed25519" or length <= REMEMBERED_ED25519_BYTES)


def test_few_signatures_are_remembered(monkeypatch: pytest.MonkeyPatch, remembered: set[bytes]) -> None:
    """Valid signatures are remembered up to a limit, so that their memory is bounded."""
    monkeypatch.setattr(envelope, "REMEMBERED_SIGNATURES", 3)
    signer, sizes = KEYS["ecdsa"](), []
    for content in (b"a", b"b", b"c", b"d", b"e"):
        assert is_signed_by(signer.public_key, sign(signer, content), content)
        sizes.append(len(remembered))
    assert sizes == [1, 2, 3, 1, 2]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: str(curve.name))
def test_a_key_whose_type_has_its_old_name_verifies(curve: ec.EllipticCurve) -> None:
    """Old tools gave an ECDSA key its scheme as the type; it is read like ``ecdsa``, without a warning (warnings are errors here)."""
    signer = CryptoSigner(ec.generate_private_key(curve))
    key = signer.public_key
    assert isinstance(key, SSlibKey)
    entry = SignatureEntry(key.keyid, signer.sign(b"content").signature)
    old = SSlibKey(key.keyid, key.scheme, key.scheme, key.keyval)
    assert is_signed_by(old, entry, b"content")
    assert not is_signed_by(old, entry, b"other content")
    other = next(scheme for scheme in OLD_ECDSA if scheme != key.scheme)
    assert not is_signed_by(SSlibKey(key.keyid, other, key.scheme, key.keyval), entry, b"content"), "the old name of another curve"
