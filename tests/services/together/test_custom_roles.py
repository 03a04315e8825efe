"""Custom roles over REST, with all services: what a request says is what a client reads."""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tufline.clock import utc_now
from tufline.trust.ceremony import Ceremony, make_key
from tufline_signer.commits import online_targets
from tufline_testing.origin import Reader
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import resign, signature
from tufline_testing.rest import Rest, artifact, bootstrapped, bulk_line

ARTIFACTS, DELETE, BULK, DELEGATIONS = "/api/v1/artifacts", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/delegations"

SIGN = "/api/v1/metadata/sign"
QUICK = {"release_delay": 0.0, "renewal_check": 0.2}


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


async def sign_targets(server: Rest, held: Ceremony) -> None:
    """Sign the waiting targets as two key holders do, and wait until it is published."""
    answer: Any = {}
    for key in held.targets[:2]:
        _, waiting = await server.ask("GET", SIGN)
        body = {"role": "targets", "signature": signature(waiting["data"]["metadata"]["targets"], key.signer)}
        status, answer = await server.ask("POST", SIGN, body)
        assert status == 202, answer
    assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"


async def test_people_sign_the_targets_of_a_change(tmp_path: Path) -> None:
    """Where targets is offline, a change makes the next targets. It counts once enough people signed it; until then nothing changes."""
    held = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458")
    async with bootstrapped(tmp_path, payload=held.payload, signer=QUICK) as server:
        reader = Reader(tmp_path / "origin", utc_now)
        (in_bin,) = await add(server, "dev/old")
        _, answer = await server.ask("POST", DELEGATIONS, {"delegations": {"roles": [role("dev", "dev/*")]}})
        task = answer["data"]["task_id"]
        waiting = (await server.ask("GET", f"/api/v1/task?task_id={task}"))[1]["data"]
        assert (waiting["state"], waiting["result"]["details"]["delegated_roles"]) == ("RUNNING", ["dev"])
        assert "targets version 2 waits for signatures" in waiting["result"]["message"]
        again = await server.ask("POST", DELEGATIONS, {"delegations": {"roles": [role("doc", "doc/*")]}})
        assert (again[0], "waits for signatures already" in str(again[1])) == (422, True)
        assert await add(server, "dev/old", length=2) == [in_bin]
        await sign_targets(server, held)
        assert (await server.task(task))["state"] == "SUCCESS"
        (bin_of_other,) = await add(server, "other", length=2)
        assert await add(server, "dev/old", "other", length=3) == sorted({"dev", bin_of_other})
        assert await asyncio.to_thread(reader.refresh) == {"dev/old": 3, "other": 3}

        # People may also submit targets that they made themselves: here without custom roles again.
        _, trust = await server.ask("GET", "/api/v1/trust")
        following = copy.deepcopy(trust["targets"]["metadata"])
        following["signed"] |= {"version": 3, "delegations": held.payload["metadata"]["targets"]["signed"]["delegations"]}
        resign(following, [key.signer for key in held.targets[:2]])
        _, answer = await server.ask("POST", "/api/v1/metadata", {"metadata": {"targets": following}})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert (await server.ask("GET", DELEGATIONS))[1]["data"]["roles"] == []
        assert await add(server, "dev/old", length=4) == [in_bin]
        assert await asyncio.to_thread(reader.refresh) == {"dev/old": 4, "other": 3}
        assert (await server.ask("GET", "/api/v1/status"))[1]["problems"] == {}


async def test_a_change_that_nobody_signs_can_be_withdrawn(tmp_path: Path) -> None:
    """Its task ends with the reason, and the next change can be made."""
    held = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458")
    async with bootstrapped(tmp_path, payload=held.payload, signer=QUICK) as server:
        _, answer = await server.ask("POST", DELEGATIONS, {"delegations": {"roles": [role("dev", "dev/*")]}})
        status, _ = await server.ask("POST", f"{SIGN}/delete", {"role": "targets"})
        assert status == 202
        task = await server.task(answer["data"]["task_id"])
        assert (task["state"], task["result"]["details"]["failed_roles"][0]["role"]) == ("ERRORED", "dev")
        assert "withdrawn" in task["result"]["error"]
        await server.ask("POST", DELEGATIONS, {"delegations": {"roles": [role("doc", "doc/*")]}})
        await sign_targets(server, held)
        assert await add(server, "doc/a", "dev/a") == sorted({"doc", *await add(server, "dev/a")})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda roles: roles.pop(), "bins"),
        (lambda roles: roles[-1].update(path_hash_prefixes=["0"]), "must take every path"),
        (lambda roles: roles[-1].update(name="rest"), "catch-all role is named 'rest'"),
        (lambda roles: roles[0].update(name="1.root"), "name of a file"),
        (lambda roles: roles[0].update(paths=["dev/[ab]"]), "clients read differently"),
        (lambda roles: roles[0].update(threshold=9), "needs 9 online key"),
        (lambda roles: roles[0].update(Terminating=True), "Terminating"),
    ],
)
async def test_targets_with_roles_that_clients_refuse_are_refused(tmp_path: Path, change: Callable[[list[Any]], Any], reason: str) -> None:
    """Correct signatures do not help: the answer names what is wrong, and the next correct targets are accepted."""
    held = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458")
    async with bootstrapped(tmp_path, payload=held.payload, signer=QUICK) as server:
        await server.ask("POST", DELEGATIONS, {"delegations": {"roles": [role("dev", "dev/*")]}})
        good = (await server.ask("GET", SIGN))[1]["data"]["metadata"]["targets"]
        bad = copy.deepcopy(good)
        change(bad["signed"]["delegations"]["roles"])
        for metadata in (bad, good):
            resign(metadata, [key.signer for key in held.targets[:2]])
        status, answer = await server.ask("POST", "/api/v1/metadata", {"metadata": {"targets": bad}})
        assert (status, reason in str(answer)) == (422, True), answer
        status, answer = await server.ask("POST", "/api/v1/metadata", {"metadata": {"targets": good}})
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert await add(server, "dev/a") == ["dev"]


async def test_a_role_that_can_not_be_signed_keeps_no_other_task_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own task is RUNNING until it has a key that can be used; the role that is added after it is published, with its artifacts."""
    monkeypatch.setattr(online_targets, "PATIENCE_SECONDS", 0.5)
    async with bootstrapped(tmp_path, mode="rstuf") as server:
        key = make_key("ed25519", "fn:late").signer.public_key  # it is in no file
        body = {"keys": {key.keyid: key.to_dict()}, "roles": [role("late", "late/*", keyids=[key.keyid])]}
        _, answer = await server.ask("POST", DELEGATIONS, {"delegations": body})
        late = answer["data"]["task_id"]
        await delegate(server, "POST", role("dev", "dev/*"))
        assert await add(server, "dev/a") == ["dev"]
        assert await asyncio.to_thread(Reader(tmp_path / "origin", utc_now).refresh) == {"dev/a": 1}
        assert (await server.ask("GET", f"{ARTIFACTS}/dev/a"))[1]["role"] == "dev"
        assert (await server.ask("GET", f"/api/v1/task?task_id={late}"))[1]["data"]["state"] == "RUNNING"
        await delegate(server, "PUT", role("late", "late/*"))  # by the keys of the bins
        assert (await server.task(late))["state"] == "SUCCESS"
        assert await add(server, "late/a") == ["late"]
