"""Custom roles over REST, with all services: what a request says is what a client reads."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest

from tufline.clock import utc_now
from tufline_testing.origin import Reader
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import Rest, artifact, bootstrapped, bulk_line

ARTIFACTS, DELETE, BULK, DELEGATIONS = "/api/v1/artifacts", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/delegations"


def role(name: str, *paths: str, **more: Any) -> dict[str, Any]:
    """Make a role of a request."""
    return {"name": name, "terminating": False, "keyids": [], "threshold": 1, "paths": [*paths], "x-rstuf-expire-policy": 7} | more


async def add(server: Rest, *paths: str, length: int = 1) -> list[str]:
    """Add artifacts, and return the roles that they went to."""
    _, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact(path, length) for path in paths]})
    details = (await server.task(answer["data"]["task_id"]))["result"]["details"]
    assert details["added_artifacts"] == [*paths]
    found: list[str] = details["artifact_roles"]
    return found


async def remove(server: Rest, *paths: str) -> dict[str, Any]:
    """Remove artifacts, and return the details of the task."""
    _, answer = await server.ask("POST", DELETE, {"artifacts": [*paths]})
    details: dict[str, Any] = (await server.task(answer["data"]["task_id"]))["result"]["details"]
    return details


async def delegate(server: Rest, method: str, *roles: dict[str, Any], path: str = DELEGATIONS) -> None:
    """Change the roles, and wait until that is published."""
    _, answer = await server.ask(method, path, {"delegations": {"roles": [*roles]}})
    assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"


async def test_roles_come_and_go(tmp_path: Path) -> None:
    """An artifact is in the first role in which clients look; once removed it stays away, whichever role is deleted later."""
    async with bootstrapped(tmp_path, mode="rstuf") as server:
        reader = Reader(tmp_path / "origin", utc_now)
        (in_bin,) = await add(server, "dev/old")
        assert in_bin.startswith("bins-")
        await delegate(server, "POST", role("dev", "dev/*"), role("doc", "doc/*", terminating=True))
        listed = (await server.ask("GET", DELEGATIONS))[1]["data"]["roles"]
        assert [(one["name"], one["version"]) for one in listed] == [("dev", 1), ("doc", 1)]
        assert all(one["expires"] and one["signed_by"] for one in listed)
        # The artifact from before is still found in its bin, and its next version in the role.
        assert (await server.ask("GET", f"{ARTIFACTS}/dev/old"))[1]["role"] == in_bin
        assert await add(server, "dev/old", "doc/a", length=2) == ["dev", "doc"]
        assert (await server.ask("GET", f"{ARTIFACTS}/dev/old"))[1]["role"] == "dev"
        assert await asyncio.to_thread(reader.refresh) == {"dev/old": 2, "doc/a": 2}
        # It is removed from the role and from the bin, with one result.
        assert await remove(server, "dev/old", "dev/never") == {"deleted_artifacts": ["dev/old"], "not_found_artifacts": ["dev/never"]}
        assert (await server.ask("GET", f"{ARTIFACTS}/dev/old"))[0] == 404
        await delegate(server, "POST", {"name": "dev"}, path=f"{DELEGATIONS}/delete")
        assert await asyncio.to_thread(reader.refresh) == {"doc/a": 2}
        assert (await add(server, "dev/old", length=3)) == [in_bin]
        _, status = await server.ask("GET", "/api/v1/status")
        assert (status["number_of_custom_roles"], status["problems"]) == (1, {})


@pytest.mark.parametrize("bins", [True, False])
async def test_a_repository_begins_with_custom_roles(tmp_path: Path, bins: bool) -> None:
    """Its first targets name them; without bins no other artifact is accepted, and a removal of one finds nothing."""
    payload = copy.deepcopy(make_bootstrap(tmp_path / "keys", bins=8, mode="rstuf").payload)
    payload["settings"]["roles"]["delegations"] = {"keys": {}, "roles": [role("dev", "dev/*")]}
    if not bins:
        payload["settings"]["roles"]["bins"] = None
    async with bootstrapped(tmp_path, payload=payload) as server:
        assert await add(server, "dev/a") == ["dev"]
        other = bulk_line(path="other", info=artifact("other")["info"]) + b"\n" + bulk_line(path="dev/b", info=artifact("b")["info"])
        _, bulk = await server.ask("POST", BULK, other)
        assert bulk["data"]["refused"] == (0 if bins else 1)
        assert (await server.task(bulk["data"]["task_id"]))["result"]["details"]["refused"] == 0
        there = {"dev/a": 1, "dev/b": 1} | ({"other": 1} if bins else {})
        assert await asyncio.to_thread(Reader(tmp_path / "origin", utc_now).refresh) == there
        gone = await remove(server, "other")
        assert gone == {"deleted_artifacts": ["other"] if bins else [], "not_found_artifacts": [] if bins else ["other"]}
        assert not server.health.problems
