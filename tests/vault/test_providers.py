"""Keys of other providers: a PKCS#11 token (SoftHSM2), AWS KMS (moto's server), and the errors for missing libraries."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import SecretStr
from securesystemslib.signer import Signature, SSlibKey
from tuf.api.metadata import Metadata, Role, Root

from tufline.clock import utc_now
from tufline.config.settings import SignerConfig, VaultConfig
from tufline.errors import KeyUnavailableError
from tufline.keys.opening import KeyOpener
from tufline.keys.securesystemslib import EXTRAS, _azure_names, _hsm_names
from tufline.trust import key_files
from tufline.trust.ceremony import make_key
from tufline_testing.log import Published
from tufline_testing.rest import artifact, bootstrapped
from tufline_testing.server import run_tufline

PIN = "4826"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make a PKCS#11 token with two keys on P-256, and return its label."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("NO SOFTHSM2, so nothing is shown about PKCS#11: apt-get install softhsm2")
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        patch.setenv("PYKCS11LIB", module)
        command = ["softhsm2-util", "--init-token", "--free", "--label", "tufline", "--pin", PIN, "--so-pin", "1234"]
        subprocess.run(command, check=True, capture_output=True)
        import pkcs11  # noqa: PLC0415 (reads SOFTHSM2_CONF when the library is loaded)
        from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415 (as above)

        with pkcs11.lib(module).get_token(token_label="tufline").open(rw=True, user_pin=PIN) as session:
            for number in (1, 2):
                parameters = session.create_domain_parameters(
                    pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
                )
                parameters.generate_keypair(store=True, id=bytes([number]), label=f"key{number}")
        yield "tufline"


def opener(**settings: object) -> KeyOpener:
    return KeyOpener(SignerConfig.model_validate(settings), VaultConfig())


async def sign_and_verify(opened: KeyOpener, uri: str) -> SSlibKey:
    """Read a key's public part from its provider, sign with it, and let securesystemslib verify it."""
    public = await opened.public_of(uri)
    key = await opened.open(public.unrecognized_fields["x-rstuf-online-key-uri"], public)
    payloads = [f"payload {number}".encode() for number in range(20)]
    for payload, entry in zip(payloads, await key.sign_many(payloads), strict=True):
        public.verify_signature(Signature(entry.keyid, entry.sig), payload)
    return public


@pytest.mark.slow
async def test_pkcs11_token(token: str) -> None:
    """Keys on a PKCS#11 token sign, even two of them concurrently."""
    opened = opener(hsm_pin=PIN)
    first, second = [await sign_and_verify(opened, f"hsm:{number}?label={token}") for number in (1, 2)]
    assert first.keyid != second.keyid
    await opened.close()


@pytest.mark.slow
def test_a_person_signs_with_a_token(token: str, tmp_path: Path) -> None:
    """A key holder hands over the public part of a key on a token, without its URI, and signs a root with it."""
    env = {"TUFLINE_SIGNER__HSM_PIN": PIN}
    uri = f"hsm:1?label={token}"
    exported = run_tufline("keys", "public", uri, "--out", "ada.pub.json", cwd=tmp_path, env=env)
    assert exported.returncode == 0, exported.stderr
    key = key_files.read((tmp_path / "ada.pub.json").read_text(), utc_now()).key
    assert not key.unrecognized_fields
    root = Metadata(Root(roles={role: Role([], 1) for role in ("root", "targets", "snapshot", "timestamp")}))
    root.signed.add_key(key, "root")
    for name in ("root.json", "trusted-root.json"):
        root.to_file(str(tmp_path / name))
    signed = run_tufline("sign", "root.json", "--key", uri, cwd=tmp_path, env=env)
    assert (signed.returncode, "complete" in signed.stdout) == (0, True), signed
    made = Metadata[Root].from_file(str(tmp_path / "root.json"))
    made.signed.verify_delegate("root", made.signed_bytes, made.signatures)


@pytest.mark.slow
async def test_wrong_pin_is_tried_once(token: str, tmp_path: Path) -> None:
    """A PIN that the token refused is not tried again, because that would lock the token; a new PIN in the file is tried."""
    pin_file = tmp_path / "pin"
    pin_file.write_text("9999\n")
    right, wrong = opener(hsm_pin=PIN), opener(hsm_pin_file=pin_file)
    public = await right.public_of(f"hsm:1?label={token}")
    with pytest.raises(KeyUnavailableError, match="PinIncorrect"):
        await wrong.open("hsm:1", public)
    for _ in range(20):
        with pytest.raises(KeyUnavailableError, match="which is not tried again"):
            await wrong.open("hsm:1", public)
    pin_file.write_text(PIN)
    assert await (await wrong.open("hsm:1", public)).sign_many([b"x"])
    with pytest.raises(KeyUnavailableError, match=r"signer\.hsm_pin_file is not set"):
        await opener().open("hsm:1", public)
    with pytest.raises(KeyUnavailableError, match="it may hold another key"):
        await wrong.open("hsm:2", public)
    for one in (right, wrong):
        await one.close()


@pytest.mark.slow
async def test_repository_with_its_keys_on_a_token(token: str, tmp_path: Path) -> None:
    """All services run with their online keys on a PKCS#11 token, one for the bins and one for the rest, and a client accepts it."""
    of_bins, of_others = [await opener(hsm_pin=PIN).public_of(f"hsm:{number}?label={token}") for number in (1, 2)]
    online = {"bins": of_bins, "snapshot": of_others, "timestamp": of_others}
    async with bootstrapped(tmp_path, online=online, signer={"hsm_pin": SecretStr(PIN)}) as server:
        _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a")]})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert list((await Published.read(server.bus)).verify(utc_now())) == ["a"]


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run moto's server of AWS KMS with a key on P-256, and return its id.

    AWS signs a digest directly (MessageType DIGEST). moto treats it as a message and hashes it again: only this step is fixed here.
    """
    from moto.kms.utils import ECDSAPrivateKey  # noqa: PLC0415 (takes half a second, and only this test needs it)
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 (as above)

    def sign(key: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256"
        signature: bytes = key.private_key.sign(message, ECDSA(Prehashed(SHA256())))  # refuses anything else than a digest
        return signature

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3  # noqa: PLC0415 (as above)

    try:
        made = boto3.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        yield str(made["KeyMetadata"]["KeyId"])
    finally:
        server.stop()


@pytest.mark.slow
async def test_aws_kms(kms: str, tmp_path: Path) -> None:
    """All services run with their online key in AWS KMS (moto's), and a client accepts it; a missing key is reported."""
    opened = opener()
    public = await sign_and_verify(opened, f"awskms:{kms}")
    with pytest.raises(KeyUnavailableError, match=r"can't be used: .*NotFoundException"):
        await opened.open("awskms:00000000-0000-0000-0000-000000000000", public)
    await opened.close()
    async with bootstrapped(tmp_path, online=dict.fromkeys(("bins", "snapshot", "timestamp"), public)) as server:
        _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a")]})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert list((await Published.read(server.bus)).verify(utc_now())) == ["a"]


UNPROVED = {
    "gcpkms": "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
    "azurekms": "azurekms://v.vault.azure.net/keys/k/1",
}


@pytest.mark.parametrize(("scheme", "uri"), UNPROVED.items(), ids=UNPROVED)
async def test_a_missing_library_is_reported(scheme: str, uri: str) -> None:
    """A provider's missing library is reported with the extra that installs it, both for signing and for reading the public part."""
    opened = opener()
    advice = rf"pip install '\.\[{EXTRAS[scheme]}\]'"
    with pytest.raises(KeyUnavailableError, match=advice):
        await opened.public_of(uri)
    with pytest.raises(KeyUnavailableError, match=advice):
        await opened.open(uri, make_key("ecdsa").signer.public_key)
    await opened.close()


def test_uris_of_others_are_read() -> None:
    """The names in the URIs of Azure and of a PKCS#11 token are those that their libraries expect."""
    assert _azure_names("//team.vault.azure.net/keys/tufline/0123") == ("team", "tufline")
    assert _hsm_names("2?label=my+token") == (2, "my token")
    assert _hsm_names("") == (None, None)


BAD_URIS = {
    "azure without a key": ("azurekms://v.vault.azure.net/", "write azurekms://<vault>.vault.azure.net/keys/<key>/<version>"),
    "azure elsewhere": ("azurekms://v.example.org/keys/k/1", "write azurekms://"),
    "hsm without a number": ("hsm:x", "can't be used"),
    "no such provider": ("carrier-pigeon:x", "does not return public keys: only those of awskms:, gcpkms:, azurekms:, hsm: do"),
}


@pytest.mark.parametrize(("uri", "reason"), BAD_URIS.values(), ids=BAD_URIS)
async def test_uri_that_names_no_key(uri: str, reason: str) -> None:
    """A URI that its provider can't parse is reported."""
    opened = opener(hsm_pin=PIN)
    with pytest.raises(KeyUnavailableError, match=reason):
        await opened.public_of(uri)
    await opened.close()
