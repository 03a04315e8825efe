"""Every client verifies and finds what people have signed, and nothing of what waits for them."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from tufline_testing.clients.custom_roles import roles_found
from tufline_testing.clients.running import Client
from tufline_testing.resign import signature
from tufline_testing.rest import Rest, bootstrapped

SIGN, PATHS = "/api/v1/metadata/sign", ["ours/a", "ours/b"]


async def sign(server: Rest, version: int, path: str | None, signers: Sequence[CryptoSigner]) -> None:
    """Sign a version once it has a path, and wait until it is published."""
    answer: Any = {}
    for number, signer in enumerate(signers):
        waiting: Any = {}
        async with asyncio.timeout(20):
            while not waiting or len(waiting["signatures"]) < number or (path is not None and path not in waiting["signed"]["targets"]):
                waiting = (await server.ask("GET", SIGN))[1].get("data", {}).get("metadata", {}).get("ours")
                await asyncio.sleep(0.02)
        assert waiting["signed"]["version"] == version
        _, answer = await server.ask("POST", SIGN, {"role": "ours", "signature": signature(waiting, signer)})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"


async def test_every_client_finds_what_people_signed(every_client: list[Client], tmp_path: Path) -> None:
    """The role, the catch-all role and the bins are those of the signer; one artifact is signed, and one waits."""
    signers = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa()]
    keys = {one.public_key.keyid: one.public_key.to_dict() for one in signers}
    role = {"name": "ours", "terminating": False, "keyids": [*keys], "threshold": 2, "paths": ["ours/*"], "x-rstuf-expire-policy": 90}

    def artifact(path: str) -> dict[str, Any]:
        return {"path": path, "info": {"length": 4, "hashes": {"sha256": hashlib.sha256(b"ours").hexdigest()}}}

    async with bootstrapped(tmp_path, mode="rstuf") as server:
        await server.ask("POST", "/api/v1/delegations", {"delegations": {"keys": keys, "roles": [role]}})
        await sign(server, 1, None, signers)
        _, answer = await server.ask("POST", "/api/v1/artifacts", {"artifacts": [artifact(PATHS[0])]})
        await sign(server, 2, PATHS[0], signers)
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        await server.ask("POST", "/api/v1/artifacts", {"artifacts": [artifact(PATHS[1])]})
        found = await asyncio.to_thread(roles_found, every_client, tmp_path / "origin", tmp_path / "states", PATHS)
    assert found == {client.name: {PATHS[0]: "ours", PATHS[1]: ""} for client in every_client}
