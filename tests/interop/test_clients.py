"""Clients in three languages, the oldest supported and the newest version of each, accept what the services publish."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner

from tufline.config.settings import WebConfig
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import with_fields
from tufline.metadata.profiles import CLIENTS, RSTUF, STANDARD, Profile
from tufline.origin import web_server
from tufline.trust import shared_ceremony
from tufline.trust.ceremony import ONLINE_ROLES, write_private
from tufline_testing.clients.running import Client, Job
from tufline_testing.key_holders import NOW, People
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import artifact, bootstrapped

pytestmark = pytest.mark.slow

CONTENT = {"a.txt": b"first", "d/b-1.0.whl": b"second"}

Make = Callable[[Path], dict[str, Any]]
"""Makes a bootstrap payload, and its online key in a directory."""


def with_profile(profile: Profile, payload: dict[str, Any]) -> dict[str, Any]:
    payload["settings"]["client_profile"] = profile
    return payload


def of_rstuf(keys: Path) -> dict[str, Any]:
    """Use what only the profile rstuf allows for keys: RSA."""
    private = generate_rsa(65537, 2048)
    signer = CryptoSigner(private)
    write_private(keys / "rsa.pem", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    online = with_fields(signer.public_key, **{ONLINE_KEY_URI: "fn:rsa.pem"})
    return with_profile(RSTUF, make_bootstrap(keys, bins=8, mode="rstuf", online=dict.fromkeys(ONLINE_ROLES["rstuf"], online)).payload)


def of_a_ceremony(keys: Path) -> dict[str, Any]:
    """Start with three people, each of whom has one key for root and targets."""
    people = People(keys.parent / "ceremony", {"root_holders": ["ada", "ben", "cy"], "bins": 8})
    for path, made in people.online.items():
        write_private(keys / f"{path.stem}.pem", made.pem)
    people.hand_over()
    shared_ceremony.prepare(people.place, NOW)
    for name in ("ada", "cy"):
        people.sign(name, "root", "targets")
    return shared_ceremony.bootstrap(people.place, shared_ceremony.collect(people.place, NOW))


REPOSITORIES: dict[str, tuple[Profile, Make]] = {
    "standard with ECDSA": (STANDARD, lambda keys: with_profile(STANDARD, make_bootstrap(keys, bins=8, mode="pep458").payload)),
    "standard with Ed25519": (STANDARD, lambda keys: with_profile(STANDARD, make_bootstrap(keys, bins=8, scheme="ed25519").payload)),
    "standard of a ceremony": (STANDARD, of_a_ceremony),
    "rstuf with RSA": (RSTUF, of_rstuf),
}


@asynccontextmanager
async def published(tmp_path: Path, make: Make | None = None) -> AsyncIterator[str]:
    """Publish some files with all services, serve them, and return the URL."""
    files, listening = tmp_path / "files", asyncio.get_running_loop().create_future()
    for path, content in CONTENT.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_bytes(content)
    payload = None if make is None else make(tmp_path / "keys")
    async with bootstrapped(tmp_path, payload=payload) as server:
        # RSTUF's tools use a hash algorithm that tuf-js and go-tuf don't know.
        is_rstuf = payload is not None and payload["settings"]["client_profile"] == RSTUF
        hashes = [
            {"blake2b-256": hashlib.blake2b(content, digest_size=32).hexdigest()}
            if is_rstuf
            else {"sha256": hashlib.sha256(content).hexdigest()}
            for content in CONTENT.values()
        ]
        added = [artifact(path, len(content), one) for (path, content), one in zip(CONTENT.items(), hashes, strict=True)]
        _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": added})
        await server.task(answer["data"]["task_id"])
        serving = asyncio.create_task(web_server.serve(tmp_path / "origin", WebConfig(port=0, targets=files), listening.set_result))
        try:
            yield await listening
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("repository", REPOSITORIES)
async def test_the_oldest_and_newest_clients_of_a_profile_read_its_repositories(
    every_client: list[Client], tmp_path: Path, repository: str
) -> None:
    """Each client of the profile refreshes, finds an added file, downloads it, and reports that another path does not exist."""
    profile, make = REPOSITORIES[repository]
    names = {client.name for client in CLIENTS[profile]}
    readers = [client for client in every_client if client.name.split()[0] in names]
    assert len(readers) == 2 * len(names)
    async with published(tmp_path, make) as url:
        for client in readers:
            job = Job(
                f"{url}/metadata/", f"{url}/targets/", tmp_path / "origin" / "1.root.json", tmp_path / client.name, [*CONTENT, "nope"]
            )
            result = await asyncio.to_thread(client.run, job)
            assert not result.error, client.name
            assert [file.error for file in result.files] == [""] * 3, client.name
            assert [file.found for file in result.files] == [True, True, False], client.name
            downloaded = {file.path: file.sha256 for file in result.files if file.found}
            assert downloaded == {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}, client.name


async def test_each_client_refuses_what_was_changed(every_client: list[Client], tmp_path: Path) -> None:
    """Each client refuses a changed file and a changed timestamp, so its acceptance of the others is meaningful."""
    async with published(tmp_path) as url:
        timestamp = tmp_path / "origin" / "timestamp.json"
        good = timestamp.read_bytes()
        (tmp_path / "files" / "a.txt").write_bytes(b"forgd")
        root = tmp_path / "origin" / "1.root.json"
        for client in every_client:
            job = Job(f"{url}/metadata/", f"{url}/targets/", root, tmp_path / client.name, list(CONTENT))
            changed, kept = (await asyncio.to_thread(client.run, job)).files
            assert (changed.sha256, kept.error) == ("", ""), client.name
            assert changed.error, client.name
            timestamp.write_bytes(good.replace(b'"version":', b'"version":1'))
            result = await asyncio.to_thread(client.run, job)
            assert result.error, client.name
            timestamp.write_bytes(good)
