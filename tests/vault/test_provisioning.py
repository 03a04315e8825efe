"""``tufline keys`` and ``tufline init`` with a real OpenBao: what they create, and that the signer's policy permits nothing else."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hvac.exceptions import Forbidden, InvalidRequest, VaultError
from tuf.api.metadata import Metadata, Root, Targets

from tufline.clock import utc_now
from tufline.keys.vault import provision
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.trust import key_files
from tufline_cli.exit_codes import Exit
from tufline_testing.log import Published
from tufline_testing.rest import artifact, rest
from tufline_testing.server import run_tufline
from tufline_testing.servers.vault_server import MOUNT, VaultServer
from tufline_testing.vaults import make_key, new_name, signer_config

pytestmark = pytest.mark.slow


def admin_environment(server: VaultServer) -> dict[str, str]:
    return {"TUFLINE_VAULT__ADDRESS": server.url, "TUFLINE_VAULT__AUTH": "token", "TUFLINE_VAULT__TOKEN": server.root_token}


@pytest.mark.parametrize(("kind", "scheme"), [("ecdsa-p256", "ecdsa-sha2-nistp256"), ("ed25519", "ed25519")])
def test_create_makes_a_key_that_can_not_leave(vault: VaultServer, tmp_path: Path, kind: str, scheme: str) -> None:
    """``create`` prints the key that it makes; it can't be exported, backed up or deleted; and it is never made twice."""
    name = new_name()
    made = run_tufline("keys", "create", name.path, "--type", kind, cwd=tmp_path, env=admin_environment(vault))
    assert made.returncode == 0, made.stderr
    ((_, key),) = json.loads(made.stdout).items()
    assert (key["scheme"], key[ONLINE_KEY_URI]) == (scheme, name.uri)
    api = vault.admin.secrets.transit
    settings = api.read_key(name.key, mount_point=MOUNT)["data"]
    assert {setting: settings[setting] for setting in provision.SAFE} == provision.SAFE
    with pytest.raises(InvalidRequest):
        api.export_key(name.key, "signing-key", mount_point=MOUNT)
    with pytest.raises(VaultError, match="exporting is disallowed"):
        api.backup_key(name.key, mount_point=MOUNT)
    with pytest.raises(InvalidRequest):
        api.delete_key(name.key, mount_point=MOUNT)
    shown = run_tufline("keys", "show", name.path, cwd=tmp_path, env=admin_environment(vault))
    assert (shown.stdout, shown.stderr) == (made.stdout, "")
    again = run_tufline("keys", "create", name.uri, cwd=tmp_path, env=admin_environment(vault))
    assert (again.returncode, "already" in again.stderr) == (Exit.FAILED, True)


def test_show_tells_versions_and_dangers(vault: VaultServer, tmp_path: Path) -> None:
    """``show`` prints each version as a separate key, and warns of a key that could leave Vault."""
    name = new_name()
    api = vault.admin.secrets.transit
    api.create_key(name.key, key_type="ecdsa-p256", exportable=True, auto_rotate_period="1h", mount_point=MOUNT)
    api.rotate_key(name.key, mount_point=MOUNT)
    shown = run_tufline("keys", "show", f"vault:{name.path}", cwd=tmp_path, env=admin_environment(vault))
    uris = [key[ONLINE_KEY_URI] for key in json.loads(shown.stdout).values()]
    assert uris == [f"vault:{name.path}#1", f"vault:{name.path}#2"]
    assert "the private key can be exported" in shown.stderr
    assert "the key is rotated automatically" in shown.stderr
    one = run_tufline("keys", "show", f"{name.path}#2", cwd=tmp_path, env=admin_environment(vault))
    assert [key[ONLINE_KEY_URI] for key in json.loads(one.stdout).values()] == uris[1:]
    missing = run_tufline("keys", "show", f"{name.path}#3", cwd=tmp_path, env=admin_environment(vault))
    assert (missing.returncode, "no version 3" in missing.stderr) == (Exit.FAILED, True)


def test_a_sealed_vault_is_not_ready(own_vault: VaultServer, tmp_path: Path) -> None:
    """A sealed Vault does not count as a refusal: the exit code reports that it is not ready, and the message tells what to do."""
    own_vault.seal()
    env = {**admin_environment(own_vault), "TUFLINE_VAULT__RETRY": "0"}
    done = run_tufline("keys", "show", "transit/k", cwd=tmp_path, env=env)
    assert (done.returncode, "is sealed: unseal it" in done.stderr) == (Exit.UNREACHABLE, True), done.stderr


DATA = base64.b64encode(b"x").decode()

FORBIDDEN: dict[str, Callable[[Any, str, str], Any]] = {
    "sign with another key": lambda it, _, other: it.secrets.transit.sign_data(other, DATA, mount_point=MOUNT),
    "read another key": lambda it, _, other: it.secrets.transit.read_key(other, mount_point=MOUNT),
    "list keys": lambda it, _, __: it.secrets.transit.list_keys(mount_point=MOUNT),
    "make a key": lambda it, _, __: it.secrets.transit.create_key("new", key_type="ecdsa-p256", mount_point=MOUNT),
    "rotate": lambda it, key, _: it.secrets.transit.rotate_key(key, mount_point=MOUNT),
    "configure": lambda it, key, _: it.secrets.transit.update_key_configuration(key, deletion_allowed=True, mount_point=MOUNT),
    "make exportable": lambda it, key, _: it.secrets.transit.update_key_configuration(key, exportable=True, mount_point=MOUNT),
    "delete": lambda it, key, _: it.secrets.transit.delete_key(key, mount_point=MOUNT),
    "export": lambda it, key, _: it.secrets.transit.export_key(key, "signing-key", mount_point=MOUNT),
    "export the public part by another way": lambda it, key, _: it.read(f"{MOUNT}/export/public-key/{key}"),
    "back up": lambda it, key, _: it.secrets.transit.backup_key(key, mount_point=MOUNT),
    "restore": lambda it, _, __: it.secrets.transit.restore_key("x", mount_point=MOUNT),
    "trim": lambda it, key, _: it.secrets.transit.trim_key(key, 1, mount_point=MOUNT),
    "verify": lambda it, key, _: it.secrets.transit.verify_signed_data(key, DATA, signature="vault:v1:x", mount_point=MOUNT),
    "hmac": lambda it, key, _: it.secrets.transit.generate_hmac(key, DATA, mount_point=MOUNT),
    "encrypt": lambda it, key, _: it.secrets.transit.encrypt_data(key, DATA, mount_point=MOUNT),
    "hash": lambda it, _, __: it.secrets.transit.hash_data(DATA, mount_point=MOUNT),
    "import": lambda it, _, __: it.write_data(f"{MOUNT}/keys/new/import", data={"ciphertext": "x"}),
    "read secrets": lambda it, _, __: it.secrets.kv.v1.read_secret("a", mount_point="secret"),
    "write secrets": lambda it, _, __: it.secrets.kv.v1.create_or_update_secret("a", {"b": "c"}, mount_point="secret"),
    "make tokens": lambda it, _, __: it.auth.token.create(),
    "make tokens without parent": lambda it, _, __: it.auth.token.create_orphan(),
    "look at tokens": lambda it, _, __: it.list("auth/token/accessors"),
    "make SecretIDs": lambda it, _, __: it.auth.approle.generate_secret_id("signer"),
    "read roles": lambda it, _, __: it.auth.approle.read_role_id("signer"),
    "read policies": lambda it, _, __: it.sys.list_policies(),
    "change policies": lambda it, _, __: it.sys.create_or_update_policy("signer", 'path "*" { capabilities = ["sudo"] }'),
    "mount engines": lambda it, _, __: it.sys.enable_secrets_engine("transit", path="mine"),
    "enable logins": lambda it, _, __: it.sys.enable_auth_method("userpass"),
    "audit devices": lambda it, _, __: it.sys.list_enabled_audit_devices(),
    "seal": lambda it, _, __: it.sys.seal(),
}


@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_the_policy_permits_nothing_else(vault: VaultServer, forbidden: Callable[[Any, str, str], Any]) -> None:
    """A token with only the printed policy, without Vault's default one, can sign with its key and read it, and nothing else."""
    (name, _), (other, _) = await make_key(vault), await make_key(vault)
    vault.admin.sys.create_or_update_policy("least", provision.policy([name]))
    token = vault.admin.auth.token.create(policies=["least"], no_default_policy=True)["auth"]["client_token"]
    of_signer = vault.client(token)
    assert of_signer.secrets.transit.sign_data(name.key, DATA, mount_point=MOUNT)["data"]["signature"]
    assert of_signer.secrets.transit.read_key(name.key, mount_point=MOUNT)["data"]["keys"]
    assert of_signer.auth.token.lookup_self()["data"]["policies"] == ["least"]
    assert of_signer.auth.token.renew_self()["auth"]
    with pytest.raises(Forbidden):
        forbidden(of_signer, name.key, other.key)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_a_repository_with_a_key_for_each_role(vault: VaultServer, tmp_path: Path, mode: str) -> None:
    """``tufline init`` accepts keys from Vault and from files, one for each role; each role is signed by its own; a client accepts it."""
    roles = ["timestamp", "snapshot", "bins"] + (["targets"] if mode == "rstuf" else [])
    names = {role: (await make_key(vault))[0] for role in roles}
    written = run_tufline("keys", "show", names["snapshot"].uri, cwd=tmp_path, env=admin_environment(vault)).stdout
    (tmp_path / "snapshot.json").write_text(written)
    options = [f"{role}={'snapshot.json' if role == 'snapshot' else name.uri}" for role, name in names.items()]
    arguments = [part for option in options for part in ("--online-key", option)]
    made = run_tufline(
        "init", "--out", "keys", "--unencrypted", "--bins", "8", "--mode", mode, *arguments, cwd=tmp_path, env=admin_environment(vault)
    )
    assert made.returncode == 0, made.stderr
    assert not (tmp_path / "keys" / "online").exists()
    payload = json.loads((tmp_path / "keys" / "bootstrap.json").read_text())
    async with rest(tmp_path, whole=True, vault=signer_config(vault, *names.values())) as server:
        status, answer = await server.ask("POST", "/api/v1/bootstrap/", payload)
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a")]})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        published = await Published.read(server.bus)
    assert list(published.verify(utc_now())) == ["a"]
    keyids = {}
    for role in roles:
        file = published.timestamp if role == "timestamp" else published.files[f"1.{'bins-0' if role == 'bins' else role}.json"]
        (keyids[role],) = Metadata.from_bytes(file).signatures
    uris = {keyid: key.unrecognized_fields[ONLINE_KEY_URI] for keyid, key in online_keys(published).items()}
    assert {role: uris[keyid] for role, keyid in keyids.items()} == {role: name.uri for role, name in names.items()}


def online_keys(published: Published) -> dict[str, Any]:
    root = Metadata[Root].from_bytes(published.files["1.root.json"]).signed
    targets = Metadata[Targets].from_bytes(published.files["1.targets.json"]).signed
    assert targets.delegations is not None
    found = {**root.keys, **targets.delegations.keys}
    return {keyid: key for keyid, key in found.items() if ONLINE_KEY_URI in key.unrecognized_fields}


WRONG_KEYS = {
    "no such role": (
        ["bin=vault:transit/k#1"],
        Exit.USAGE,
        "'bin' can't have an online key: the roles that can are timestamp, snapshot, bins",
    ),
    "offline role": (["targets=vault:transit/k#1"], Exit.USAGE, "'targets' can't have an online key"),
    "twice": (["vault:transit/k#1", "vault:transit/l#1"], Exit.USAGE, "set twice for all roles"),
    "no file": (["snapshot=missing.json"], Exit.USAGE, "neither a file nor the URI"),
    "no version": (["vault:transit/k"], Exit.FAILED, "lacks the version"),
    "nobody there": (["vault:transit/k#1"], Exit.UNREACHABLE, "can't be reached"),
    "no key in the file": (["bad.json"], Exit.FAILED, "as 'tufline keys show' prints it"),
}


@pytest.mark.parametrize(("given", "code", "reason"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_wrong_online_keys_are_reported(tmp_path: Path, given: list[str], code: Exit, reason: str) -> None:
    """An unavailable online key is reported with the reason, and nothing is written."""
    (tmp_path / "bad.json").write_text("{}")
    arguments = [part for key in given for part in ("--online-key", key)]
    nobody = {"TUFLINE_VAULT__ADDRESS": "http://127.0.0.1:9", "TUFLINE_VAULT__AUTH": "token", "TUFLINE_VAULT__TOKEN": "t"}
    done = run_tufline("init", "--out", "keys", "--unencrypted", *arguments, cwd=tmp_path, env={**nobody, "TUFLINE_VAULT__RETRY": "0"})
    assert (done.returncode, "Traceback" in done.stderr, (tmp_path / "keys").exists()) == (code, False, False), done.stderr
    assert reason in done.stderr


def test_prove_needs_all_that_the_signer_needs(vault: VaultServer, tmp_path: Path) -> None:
    """With the signer's policy a proof is made that the ceremony accepts; a version or policy with which it could not sign is reported."""
    name, other = new_name(), new_name()
    for one in (name, other):
        assert run_tufline("keys", "create", one.path, cwd=tmp_path, env=admin_environment(vault)).returncode == 0
    vault.admin.sys.create_or_update_policy("prove", provision.policy([name]))
    read_only = f'path "{MOUNT}/keys/{name.key}" {{ capabilities = ["read"] }}'
    vault.admin.sys.create_or_update_policy("read", read_only)

    def prove(uri: str, policy: str) -> tuple[int, str, str]:
        token = vault.admin.auth.token.create(policies=[policy], no_default_policy=True)["auth"]["client_token"]
        env = {
            "TUFLINE_VAULT__ADDRESS": vault.url,
            "TUFLINE_VAULT__AUTH": "token",
            "TUFLINE_VAULT__TOKEN": token,
            "TUFLINE_VAULT__RETRY": "0",
        }
        done = run_tufline("keys", "prove", uri, cwd=tmp_path, env=env)
        return done.returncode, done.stdout, done.stderr

    code, proof, said = prove(name.uri, "prove")
    assert code == Exit.OK, said
    found = key_files.read(proof, utc_now())
    assert (found.key.unrecognized_fields[ONLINE_KEY_URI], found.proved is not None) == (name.uri, True)
    wrong = {
        "no such version": (f"vault:{name.path}#2", "prove", "has no version 2"),
        "no version": (f"vault:{name.path}", "prove", "lacks the version"),
        "another key": (other.uri, "prove", "does not permit to"),
        "may only read": (name.uri, "read", "does not permit to"),
    }
    for uri, policy, reason in wrong.values():
        code, proof, said = prove(uri, policy)
        assert (code, proof, reason in said) == (Exit.FAILED, "", True), said
