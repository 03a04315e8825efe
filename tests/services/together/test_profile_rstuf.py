"""A repository of RSTUF's clients: what their tools send is accepted without a setting, and everybody can see who can't read it."""

import hashlib
from pathlib import Path

import pytest

from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import artifact, bootstrapped, rest

ADD, STATUS = "/api/v1/artifacts/", "/api/v1/status"
BLAKE = {"blake2b-256": hashlib.blake2b(b"x", digest_size=32).hexdigest()}


@pytest.mark.parametrize("named", [True, False], ids=["named", "from RSTUF's fields"])
async def test_blake2b_alone_is_accepted(tmp_path: Path, named: bool) -> None:
    """In the profile ``rstuf`` a target may have blake2b-256 alone by default; the status names the clients that can't read it."""
    payload = make_bootstrap(tmp_path / "keys", bins=8, mode="rstuf").payload
    payload["settings"].pop("client_profile", None)
    if named:
        payload["settings"]["client_profile"] = "rstuf"
    async with bootstrapped(tmp_path, payload=payload) as server:
        _, answer = await server.ask("POST", ADD, {"artifacts": [artifact("a", 1, BLAKE)]})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert (await server.ask("GET", f"{ADD}a"))[1]["hashes"] == BLAKE
        _, status = await server.ask("GET", STATUS)
        assert (status["client_profile"], status["unreadable_hashes"]) == ("rstuf", {"blake2b-256": ["tuf-js", "go-tuf"]})


async def test_the_standard_profile_accepts_what_all_clients_read(tmp_path: Path) -> None:
    """In the profile ``standard`` blake2b-256 is refused, and the status names no client that can't read a target."""
    payload = make_bootstrap(tmp_path / "keys", bins=8, mode="rstuf").payload
    payload["settings"]["client_profile"] = "standard"
    async with rest(tmp_path) as server:
        _, status = await server.ask("GET", STATUS)
        assert (status["client_profile"], status["unreadable_hashes"]) == (None, None)
    async with bootstrapped(tmp_path, payload=payload) as server:
        status_code, answer = await server.ask("POST", ADD, {"artifacts": [artifact("a", 1, BLAKE)]})
        assert (status_code, "client profile 'rstuf'" in answer["detail"]) == (422, True)
        _, status = await server.ask("GET", STATUS)
        assert (status["client_profile"], status["unreadable_hashes"]) == ("standard", {})
