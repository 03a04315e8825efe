"""The keys of people who sign root or targets: generated encrypted, handed over as public keys, and used from a file or a URI."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root

from tufline.clock import utc_now
from tufline.trust import ceremony, key_files
from tufline_cli import main
from tufline_cli.exit_codes import Exit
from tufline_testing.server import run_tufline

PASSPHRASE = "correct horse battery"


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    """Write a file with a passphrase."""
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    return file


@pytest.mark.parametrize("scheme", ["ecdsa", "ed25519"])
def test_a_new_key_is_encrypted(tmp_path: Path, scheme: str) -> None:
    """The private key is read with the passphrase that was typed, and only with that; the public key does not say where it is."""
    file = tmp_path / "ada.pem"
    done = CliRunner().invoke(main, ["keys", "generate", str(file), "--scheme", scheme], input=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert done.exit_code == Exit.OK, done.output
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(TypeError, match="encrypted"):
        load_pem_private_key(file.read_bytes(), None)
    private = load_pem_private_key(file.read_bytes(), PASSPHRASE.encode())
    found = key_files.read((tmp_path / "ada.pub.json").read_text(), utc_now())
    assert (found.key, found.proved) == (SSlibKey.from_crypto(private.public_key()), None)
    again = CliRunner().invoke(main, ["keys", "generate", str(file), "--unencrypted"])
    assert (again.exit_code, "never overwritten" in again.output) == (Exit.USAGE, True), again.output


REFUSED = {
    "short": (["--passphrase-file", "short"], "", Exit.USAGE, "must have at least 12"),
    "typed twice differently": ([], f"{PASSPHRASE}\nanother one, too\n", 1, "do not match"),
    "nothing typed": ([], "", 1, "Aborted"),
    "refused and given": (["--passphrase-file", "passphrase", "--unencrypted"], "", Exit.USAGE, "contradicts"),
}


@pytest.mark.parametrize(("arguments", "typed", "code", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", [["keys", "generate", "ada.pem"], ["init", "--out", "keys", "--bins", "2"]], ids=["generate", "init"])
def test_no_key_is_written_without_a_passphrase(
    tmp_path: Path,
    passphrase: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    arguments: list[str],
    typed: str,
    code: int,
    reason: str,
) -> None:
    """Only ``--unencrypted`` writes private keys in the clear: without a good passphrase nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("too short")
    done = CliRunner().invoke(main, [*command, *arguments], input=typed)
    assert (done.exit_code, reason in done.output) == (code, True), done.output
    assert {path.name for path in tmp_path.iterdir()} == {"passphrase", "short"}


def test_init_encrypts_what_people_hold(tmp_path: Path, passphrase: Path) -> None:
    """All offline keys of ``init`` are encrypted; the online key is not, as a server reads it."""
    done = run_tufline("init", "--out", "keys", "--bins", "2", "--passphrase-file", passphrase, cwd=tmp_path)
    assert done.returncode == Exit.OK, done.stderr
    offline = sorted((tmp_path / "keys" / "offline").iterdir())
    assert len(offline) == 6
    assert all(b"BEGIN ENCRYPTED PRIVATE KEY" in file.read_bytes() for file in offline)
    load_pem_private_key((tmp_path / "keys" / "online" / "online.pem").read_bytes(), None)


def _root(directory: Path, key: SSlibKey) -> Path:
    """Write the next version of a root, with one root key, and the trusted version."""
    root = Metadata[Root].from_dict(ceremony.hold(ceremony.Plan(2)).payload["metadata"]["root"])
    for keyid in list(root.signed.roles["root"].keyids):
        root.signed.revoke_key(keyid, "root")
    root.signed.add_key(key, "root")
    root.signed.roles["root"].threshold = 1
    root.signatures.clear()
    for name in ("root.json", "trusted-root.json"):
        root.to_file(str(directory / name))
    return directory / "root.json"


def test_an_encrypted_file_signs(tmp_path: Path, passphrase: Path) -> None:
    """A key in an encrypted file signs with its passphrase, from a file or typed; with a wrong one nothing changes."""
    run_tufline("keys", "generate", "ada.pem", "--passphrase-file", passphrase, cwd=tmp_path)
    file = _root(tmp_path, key_files.read((tmp_path / "ada.pub.json").read_text(), utc_now()).key)
    before = file.read_bytes()
    (tmp_path / "wrong").write_text("wrong horse battery")
    wrong = run_tufline("sign", file, "--key", "ada.pem", "--passphrase-file", "wrong", cwd=tmp_path)
    assert (wrong.returncode, "the passphrase is wrong" in wrong.stderr, file.read_bytes()) == (Exit.FAILED, True, before), wrong.stderr
    done = CliRunner().invoke(main, ["sign", str(file), "--key", str(tmp_path / "ada.pem")], input=f"{PASSPHRASE}\n")
    assert (done.exit_code, "complete" in done.output) == (Exit.OK, True), done.output
    file.write_bytes(before)
    done_by_file = run_tufline("sign", file, "--key", "ada.pem", "--passphrase-file", passphrase, cwd=tmp_path)
    assert (done_by_file.returncode, "complete" in done_by_file.stdout) == (Exit.OK, True), done_by_file


URIS = {
    "provider that tells the public key": ("fn:ada.pem", []),
    "provider that does not": ("file2:ada.pem", ["--pem", "public.pem"]),
}


@pytest.mark.parametrize(("uri", "arguments"), URIS.values(), ids=URIS)
def test_a_uri_signs(tmp_path: Path, uri: str, arguments: list[str]) -> None:
    """Every key that securesystemslib can use exports its public part, without the URI, and signs; another key there is refused."""
    env = {"TUFLINE_SIGNER__KEY_DIR": str(tmp_path), "CRYPTO_SIGNER_PATH_PREFIX": str(tmp_path)}
    made = ceremony.make_key("ecdsa")
    (tmp_path / "ada.pem").write_bytes(made.pem)
    private = load_pem_private_key(made.pem, None)
    (tmp_path / "public.pem").write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    shown = run_tufline("keys", "public", uri, *arguments, "--out", "ada.pub.json", cwd=tmp_path, env=env)
    assert shown.returncode == Exit.OK, shown.stderr
    key = key_files.read((tmp_path / "ada.pub.json").read_text(), utc_now()).key
    assert key == made.signer.public_key
    file = _root(tmp_path, key)
    signed = run_tufline("sign", file, "--key", uri, cwd=tmp_path, env=env)
    assert (signed.returncode, "complete" in signed.stdout) == (Exit.OK, True), signed
    (tmp_path / "ada.pem").write_bytes(ceremony.make_key("ecdsa").pem)
    assert json.loads(file.read_text())["signatures"]
    foreign = run_tufline("sign", file, "--key", uri, cwd=tmp_path, env=env)
    assert (foreign.returncode, "Traceback" in foreign.stderr) == (Exit.FAILED, False), foreign
    wrong = run_tufline("keys", "public", uri, "--pem", "public.pem", cwd=tmp_path, env=env)
    assert wrong.returncode in {Exit.FAILED, Exit.USAGE}
    assert (wrong.stdout, "Traceback" in wrong.stderr) == ("", False), wrong


def test_a_name_that_is_not_a_key_is_reported(tmp_path: Path) -> None:
    """A name that is neither a file nor a URI, and a file without a private key, are reported."""
    (tmp_path / "nonsense").write_text("nonsense")
    for name, code, reason in (("missing", Exit.USAGE, "neither a file"), ("nonsense", Exit.FAILED, "is not a private key")):
        done = run_tufline("keys", "public", name, cwd=tmp_path)
        assert (done.returncode, reason in done.stderr) == (code, True), done.stderr
