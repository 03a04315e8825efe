"""Public keys in files, and the proofs that their private keys can be used."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tufline.errors import MetadataError
from tufline.metadata import canonical
from tufline.metadata.envelope import SignatureEntry
from tufline.trust import key_files
from tufline.trust.ceremony import NewKey, make_key
from tufline_cli.exit_codes import Exit
from tufline_testing.server import run_tufline

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
URI = "vault:transit/tufline#1"


def prove(made: NewKey, now: datetime = NOW) -> dict[str, Any]:
    """Make a proof as ``tufline keys prove`` does."""
    statement = key_files.statement(made.signer.public_key, now)
    signature = made.signer.sign(canonical.encode(statement))
    content: dict[str, Any] = json.loads(key_files.proof(statement, SignatureEntry(signature.keyid, signature.signature)))
    return content


@pytest.mark.parametrize("scheme", ["ecdsa", "ed25519"])
def test_a_proof_gives_the_key(scheme: str) -> None:
    """A valid proof has the key with its URI, and the time; a key without a proof has no time."""
    made = make_key(scheme, URI)
    found = key_files.read(json.dumps(prove(made)), NOW + timedelta(days=29))
    assert found == key_files.KeyFile(made.signer.public_key, NOW)
    assert key_files.read(key_files.to_json([made.signer.public_key]), NOW) == key_files.KeyFile(made.signer.public_key, None)


def _another_key(proof: dict[str, Any]) -> None:
    other = make_key("ecdsa", URI).signer.public_key
    proof["signed"] |= {"keyid": other.keyid, "key": other.to_dict()}
    proof["signatures"][0]["keyid"] = other.keyid


def _another_uri(proof: dict[str, Any]) -> None:
    proof["signed"]["uri"] = "vault:transit/tufline#2"


def _another_uri_in_both(proof: dict[str, Any]) -> None:
    _another_uri(proof)
    proof["signed"]["key"]["x-rstuf-online-key-uri"] = "vault:transit/tufline#2"


def _another_time(proof: dict[str, Any]) -> None:
    proof["signed"]["made"] = "2026-11-27T12:00:00Z"


def _metadata(proof: dict[str, Any]) -> None:
    proof["signed"]["_type"] = "root"


def _no_signature(proof: dict[str, Any]) -> None:
    proof["signatures"] = []


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "signature of another key": (_another_key, "not signed by the key that it names"),
    "URI of another key": (_another_uri, "but its key names"),
    "another URI": (_another_uri_in_both, "not signed by the key that it names"),
    "another time": (_another_time, "not signed by the key that it names"),
    "signed metadata": (_metadata, "not the proof of a key"),
    "no signature": (_no_signature, "or a proof of one"),
}


@pytest.mark.parametrize(("change", "reason"), BAD.values(), ids=BAD)
def test_a_proof_that_does_not_hold_is_refused(change: Callable[[dict[str, Any]], None], reason: str) -> None:
    """No part of the statement can be changed without the key's signature."""
    proof = prove(make_key("ecdsa", URI))
    key_files.read(json.dumps(proof), NOW)
    changed = copy.deepcopy(proof)
    change(changed)
    with pytest.raises(MetadataError, match=reason):
        key_files.read(json.dumps(changed), NOW)


@pytest.mark.parametrize("later", [timedelta(days=31), timedelta(days=-2)])
def test_a_proof_of_another_time_is_refused(later: timedelta) -> None:
    """An old proof does not show that the key works today, and one from the future was made with a wrong clock."""
    proof = json.dumps(prove(make_key("ecdsa", URI)))
    with pytest.raises(MetadataError, match="was made on 2026-11-26: make it again"):
        key_files.read(proof, NOW + later)


def test_prove_signs_with_the_key(tmp_path: Path) -> None:
    """``tufline keys prove`` writes a file that the ceremony accepts; a missing key is reported, and nothing is printed."""
    made = make_key("ecdsa")
    (tmp_path / "online.pem").write_bytes(made.pem)
    env = {"TUFLINE_SIGNER__KEY_DIR": str(tmp_path)}
    done = run_tufline("keys", "prove", "fn:online.pem", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    found = key_files.read(done.stdout, datetime.now(UTC))
    assert found.proved is not None
    assert found.key.keyval == made.signer.public_key.keyval
    missing = run_tufline("keys", "prove", "fn:other.pem", cwd=tmp_path, env=env)
    assert (missing.returncode, missing.stdout, "can't be read" in missing.stderr) == (Exit.FAILED, "", True), missing
    (tmp_path / "proof.json").write_text(done.stdout.replace("online.pem", "other.pem"))
    refused = run_tufline("init", "--out", "keys", "--unencrypted", "--bins", "4", "--online-key", "proof.json", cwd=tmp_path)
    assert (refused.returncode, "not signed by the key" in refused.stderr, (tmp_path / "keys").exists()) == (Exit.FAILED, True, False)


def test_a_provider_that_returns_no_public_key(tmp_path: Path) -> None:
    """With ``--public`` the proof must be of that key: it is refused if the private key does not belong to it."""
    made, other = make_key("ed25519"), make_key("ed25519")
    (tmp_path / "online.pem").write_bytes(made.pem)
    env = {"CRYPTO_SIGNER_PATH_PREFIX": str(tmp_path)}
    for key, code in ((made, Exit.OK), (other, Exit.FAILED)):
        (tmp_path / "public.json").write_text(key_files.to_json([key.signer.public_key]))
        done = run_tufline("keys", "prove", "file2:online.pem", "--public", "public.json", cwd=tmp_path, env=env)
        assert done.returncode == code, done.stderr
    assert "does not match public key" in done.stderr
