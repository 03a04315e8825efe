"""Online keys in files, and the verification of their signatures."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner, Key, Signature

from tufline.config.settings import SignerConfig, VaultConfig
from tufline.errors import ConfigError, KeyUnavailableError, MetadataError
from tufline.keys import SigningKey
from tufline.keys.opening import KeyOpener
from tufline.metadata import envelope
from tufline.metadata.envelope import MetaFile, SignatureEntry, is_signed_by
from tufline.trust.ceremony import make_key


def write(directory: Path, pem: bytes, name: str = "online.pem") -> None:
    (directory / name).write_bytes(pem)


async def open_key(uri: str, public: Key, key_dir: Path) -> SigningKey:
    opener = KeyOpener(SignerConfig(key_dir=key_dir), VaultConfig())
    try:
        return await opener.open(uri, public)
    finally:
        await opener.close()


@pytest.mark.parametrize("scheme", ["ecdsa", "ed25519"])
async def test_signs_what_others_verify(tmp_path: Path, scheme: str) -> None:
    """Signatures are in order, one for each payload, and securesystemslib verifies them."""
    made = make_key(scheme)
    write(tmp_path, made.pem)
    key = await open_key("fn:online.pem", made.signer.public_key, tmp_path)
    payloads = [f"payload {number}".encode() * (number + 1) for number in range(50)]
    signatures = await key.sign_many(payloads)
    for payload, entry in zip(payloads, signatures, strict=True):
        made.signer.public_key.verify_signature(Signature(entry.keyid, entry.sig), payload)


async def test_rsa_goes_through_securesystemslib(tmp_path: Path) -> None:
    """A key of another type in a file also signs."""
    private = generate_rsa(65537, 2048)
    write(tmp_path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = CryptoSigner(private).public_key
    (signature,) = await (await open_key("fn:online.pem", public, tmp_path)).sign_many([b"x"])
    assert is_signed_by(public, signature, b"x")
    assert not is_signed_by(public, signature, b"y")


async def test_file2_is_securesystemslib_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URI of securesystemslib works as that library defines it."""
    made = make_key("ed25519")
    write(tmp_path, made.pem)
    monkeypatch.setenv("CRYPTO_SIGNER_PATH_PREFIX", str(tmp_path))
    opener = KeyOpener(SignerConfig(key_dir=tmp_path / "elsewhere"), VaultConfig())
    (signature,) = await (await opener.open("file2:online.pem", made.signer.public_key)).sign_many([b"x"])
    await opener.close()
    assert is_signed_by(made.signer.public_key, signature, b"x")


def encrypted() -> bytes:
    signer = make_key("ecdsa").signer
    pem: bytes = signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return pem


BAD_KEYS: dict[str, tuple[str, bytes | None, str]] = {
    "not there": ("fn:online.pem", None, "can't be read"),
    "not a PEM": ("fn:online.pem", b"nonsense", "not an unencrypted PKCS#8 PEM"),
    "encrypted": ("fn:online.pem", encrypted(), "not an unencrypted PKCS#8 PEM"),
    "another key": ("fn:online.pem", make_key("ecdsa").pem, "it may hold another key"),
    "of another kind": ("fn:online.pem", make_key("ed25519").pem, "can't sign with the scheme"),
    "outside the directory": ("fn:../online.pem", b"", "does not name a file in the key directory"),
    "hidden": ("fn:.online.pem", b"", "does not name a file in the key directory"),
    "no name": ("fn:", b"", "does not name a file in the key directory"),
    "unknown provider": ("carrier-pigeon:x", b"", "can't be used"),
}


@pytest.mark.parametrize(("uri", "pem", "reason"), BAD_KEYS.values(), ids=BAD_KEYS)
async def test_key_that_can_not_sign(tmp_path: Path, uri: str, pem: bytes | None, reason: str) -> None:
    """A key that can't be used, or is not the one in the metadata, is refused with its reason when it is opened."""
    if pem:
        write(tmp_path, pem)
    with pytest.raises(KeyUnavailableError, match=reason.replace("?", r"\?")):
        await open_key(uri, make_key("ecdsa").signer.public_key, tmp_path)


async def test_a_missing_client_of_vault_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a key is in Vault and hvac is not installed, the error tells what to install."""
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[vault\]'"):
        await open_key("vault:transit/k#1", make_key("ecdsa").signer.public_key, tmp_path)


def test_ingest_and_publisher_have_no_client_of_vault() -> None:
    """Ingest and publisher load no code that opens keys, and their installation has no Vault client."""
    program = "import sys, tufline_ingest.service, tufline_publisher.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith("tufline.keys")]
    locks = Path(__file__).resolve().parents[2] / "requirements"
    assert {name: "\nhvac==" in (locks / f"{name}.lock").read_text() for name in ("tufline", "signer")} == {
        "tufline": False,
        "signer": True,
    }


def signed_by(count: int) -> tuple[list[Key], MetaFile]:
    keys = [make_key("ecdsa").signer for _ in range(count)]
    entries = [SignatureEntry(key.public_key.keyid, key.sign(b"{}").signature) for key in keys]
    return [key.public_key for key in keys], envelope.disassemble(envelope.assemble(b"{}", entries))


def test_threshold_counts_keys_not_signatures() -> None:
    """A threshold is met only by different keys of the role, each with a valid signature."""
    keys, content = signed_by(3)
    by_id = {key.keyid: key for key in keys}
    envelope.verify_threshold("r", content, by_id, list(by_id), 3)
    twice = MetaFile([content.signatures[0]] * 3, content.signed)
    forged = MetaFile([SignatureEntry(entry.keyid, content.signatures[0].sig) for entry in content.signatures], content.signed)
    nonsense = MetaFile([SignatureEntry(entry.keyid, "zz") for entry in content.signatures], content.signed)
    for bad, valid in ((twice, 1), (forged, 1), (nonsense, 0)):
        with pytest.raises(MetadataError, match=f"has {valid} valid signatures, but its threshold is 2"):
            envelope.verify_threshold("r", bad, by_id, list(by_id), 2)
    with pytest.raises(MetadataError, match="has 0 valid signatures, but its threshold is 1"):
        envelope.verify_threshold("r", content, {}, list(by_id), 1)


def test_remembered_signatures_vouch_for_nothing_else() -> None:
    """A valid signature is remembered only for that key, signature and content, however often it is checked."""
    made, other = make_key("ecdsa").signer, make_key("ecdsa").signer
    signature = SignatureEntry(made.public_key.keyid, made.sign(b"right").signature)
    for _ in range(2):
        assert is_signed_by(made.public_key, signature, b"right")
        assert not is_signed_by(made.public_key, signature, b"wrong")
        assert not is_signed_by(other.public_key, signature, b"right")
        assert not is_signed_by(made.public_key, SignatureEntry(signature.keyid, signature.sig[:-2] + "00"), b"right")
