"""Keys in a real OpenBao: other libraries verify their signatures, and anything but a signature of the right key is refused."""

import asyncio
import itertools
import os
import random
import time
from base64 import b64encode

import pytest
from securesystemslib.signer import Signature

from tufline.errors import KeyUnavailableError
from tufline.keys.vault import key as vault_keys
from tufline.keys.vault import provision
from tufline.keys.vault.key import open_vault_key
from tufline.metadata.key_uris import VaultKeyName
from tufline_testing.servers.vault_server import MOUNT, VaultServer
from tufline_testing.vaults import admin_config, make_key, new_name, session, signer_config

pytestmark = pytest.mark.slow

KINDS = ["ecdsa-p256", "ed25519"]


@pytest.mark.parametrize("kind", KINDS)
async def test_signs_what_others_verify(vault: VaultServer, kind: str) -> None:
    """More payloads than one call accepts, of any length, are signed in order, and securesystemslib verifies each signature."""
    name, public = await make_key(vault, kind)
    payloads = [f"payload {number}".encode() * (number % 7) for number in range(1000)]
    async with session(signer_config(vault, name)) as of_signer:
        signatures = await (await open_vault_key(name.uri, public, of_signer)).sign_many(payloads)
    assert len(signatures) == len(payloads)
    for payload, entry in zip(payloads, signatures, strict=True):
        public.verify_signature(Signature(entry.keyid, entry.sig), payload)


async def test_large_payloads_of_ed25519_go_in_several_calls(vault: VaultServer) -> None:
    """Bins of the largest size are signed with Ed25519, although one call could not contain them all."""
    name, public = await make_key(vault, "ed25519")
    payloads = [bytes([number]) * 4_000_000 for number in range(10)]
    async with session(signer_config(vault, name)) as of_signer:
        signatures = await (await open_vault_key(name.uri, public, of_signer)).sign_many(payloads)
    public.verify_signature(Signature(signatures[9].keyid, signatures[9].sig), payloads[9])


async def test_the_event_loop_never_waits(vault: VaultServer) -> None:
    """While Vault signs, other tasks of the process can run between the calls."""
    name, public = await make_key(vault)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async with session(signer_config(vault, name, connections=1)) as of_signer:
        key = await open_vault_key(name.uri, public, of_signer)
        ticking = asyncio.create_task(tick())
        await key.sign_many([os.urandom(40) for _ in range(400)])
        ticking.cancel()
    assert ticks > 400 / 16


@pytest.mark.parametrize("mount", [MOUNT, "of/a/team/transit"])
async def test_version_is_pinned(vault: VaultServer, mount: str) -> None:
    """A new version in Vault does not affect a key that is pinned to the old version; each version is a separate key; any mount works."""
    if mount != MOUNT:
        vault.admin.sys.enable_secrets_engine("transit", path=mount)
    name, public = await make_key(vault, name=VaultKeyName(mount, "pinned", 1))
    async with session(admin_config(vault)) as admin:
        key = await open_vault_key(name.uri, public, admin)
        second, other = await provision.new_version(admin, name)
        assert (second.version, other.keyid == public.keyid) == (2, False)
        for opened, of in ((key, public), (await open_vault_key(second.uri, other, admin), other)):
            (entry,) = await opened.sign_many([b"x"])
            of.verify_signature(Signature(entry.keyid, entry.sig), b"x")
        await provision.forbid_below(admin, second)
        for _ in range(2):
            with pytest.raises(KeyUnavailableError, match="min"):
                await key.sign_many([b"x"])
        with pytest.raises(KeyUnavailableError, match="min_encryption_version is 2"):
            await key.sign_many([b"x"])


BAD_URIS = {
    "no version": ("vault:transit/k", "lacks the version"),
    "no mount": ("vault:k#1", "is not a valid name of a key in Vault"),
    "an empty version": ("vault:transit/k#", "is not a valid name of a key in Vault"),
    "version zero": ("vault:transit/k#0", "is not a valid name of a key in Vault"),
    "another path": ("vault:../sys/k#1", "is not a valid name of a key in Vault"),
    "a query": ("vault:transit/k?x#1", "is not a valid name of a key in Vault"),
    "a space": ("vault:transit/a b#1", "is not a valid name of a key in Vault"),
}


@pytest.mark.parametrize(("uri", "reason"), BAD_URIS.values(), ids=BAD_URIS)
async def test_uri_that_names_no_key(vault: VaultServer, uri: str, reason: str) -> None:
    """An invalid URI is refused with the right form, and Vault is not asked."""
    _, public = await make_key(vault)
    before = vault.audit_log.stat().st_size
    async with session(admin_config(vault)) as admin:
        with pytest.raises(KeyUnavailableError, match=reason):
            await open_vault_key(uri, public, admin)
    assert vault.audit_log.stat().st_size == before


async def test_wrong_keys_are_refused_when_opened(vault: VaultServer) -> None:
    """Another key, another type, a missing version, key or engine: each is reported as such in one sentence."""
    name, public = await make_key(vault)
    other, _ = await make_key(vault)
    of_other_kind, _ = await make_key(vault, "ed25519")
    vault.admin.secrets.transit.create_key("encrypts", key_type="aes256-gcm96", mount_point=MOUNT)
    wrong = {
        other.uri: "is not the key",
        of_other_kind.uri: "is not the key",
        f"vault:{name.path}#7": r"but Vault lacks it \(it has 1\)",
        new_name().uri: "can't read the key",
        f"vault:nowhere/{name.key}#1": "no handler for route",
        f"vault:{MOUNT}/encrypts#1": "of the type aes256-gcm96",
    }
    async with session(admin_config(vault)) as admin:
        for uri, reason in wrong.items():
            with pytest.raises(KeyUnavailableError, match=reason) as raised:
                await open_vault_key(uri, public, admin)
            assert "\n" not in str(raised.value)


async def test_a_key_that_was_exchanged_signs_nothing(vault: VaultServer) -> None:
    """If another key replaces the one with this name, its signatures are not used, and the reason is reported."""
    name, public = await make_key(vault)
    async with session(admin_config(vault)) as admin:
        key = await open_vault_key(name.uri, public, admin)
        transit_api = vault.admin.secrets.transit
        transit_api.update_key_configuration(name.key, deletion_allowed=True, mount_point=MOUNT)
        transit_api.delete_key(name.key, mount_point=MOUNT)
        transit_api.create_key(name.key, key_type="ecdsa-p256", mount_point=MOUNT)
        with pytest.raises(KeyUnavailableError, match="does not verify"):
            await key.sign_many([b"x"])
        with pytest.raises(KeyUnavailableError, match="is not the key"):
            await key.sign_many([b"x"])


async def test_one_bad_signature_spoils_the_call(vault: VaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vault answers 200 even if it made only some signatures: then none is used, and Vault's message is quoted."""
    name, public = await make_key(vault)
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    bad = random.Random(seed).randrange(100)
    count = itertools.count()
    monkeypatch.setattr(vault_keys, "b64encode", lambda payload: b"%%" if next(count) == bad else b64encode(payload))
    async with session(admin_config(vault)) as admin:
        key = await open_vault_key(name.uri, public, admin)
        with pytest.raises(KeyUnavailableError, match="unable to decode input as base64"):
            await key.sign_many([b"x"] * 100)


async def test_keys_share_one_login(vault: VaultServer) -> None:
    """However many keys and calls there are, a process logs in once."""
    keys = [await make_key(vault) for _ in range(3)]
    config = signer_config(vault, *(name for name, _ in keys))
    before = vault.audit_log.read_text().count('"path":"auth/approle/login"')
    async with session(config) as of_signer:
        opened = await asyncio.gather(*(open_vault_key(name.uri, public, of_signer) for name, public in keys))
        await asyncio.gather(*(key.sign_many([b"x"] * 500) for key in opened))
    deadline = time.monotonic() + 10
    while (logins := vault.audit_log.read_text().count('"path":"auth/approle/login"') - before) < 2 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert logins == 2, "one request and one response"
