"""``POST /api/v1/metadata/online``: new versions of roles that the signer signs, although none is due."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.log import newest_heads
from tufline_testing.payloads import make_bootstrap
from tufline_testing.repository_logs import Log
from tufline_testing.rest import Rest, bootstrapped, rest

ONLINE, TASK = "/api/v1/metadata/online", "/api/v1/task/?task_id="
RARE = {"renewal_check": 3600.0}
"""Whatever is renewed for its time alone is renewed in an hour at the earliest."""

BINS = 256


async def renew(server: Rest, *roles: str) -> str:
    """Ask for new versions, and return the task id."""
    status, answer = await server.ask("POST", ONLINE, {"roles": roles})
    assert (status, answer["message"]) == (202, "Force online metadata update accepted."), answer
    task_id: str = answer["data"]["task_id"]
    return task_id


async def every_version(server: Rest) -> dict[str, int]:
    """Return the newest version of each role on the log."""
    return {role: head.version for role, head in (await newest_heads(server.bus)).items()}


async def versions(server: Rest) -> dict[str, int]:
    """Return the newest version of each role on the log; of the bins the lowest."""
    found = await every_version(server)
    of_bins = [version for role, version in found.items() if role.startswith("bins-")]
    assert len(of_bins) == BINS
    return {role: version for role, version in found.items() if not role.startswith("bins-")} | {"bins": min(of_bins)}


RENEWED: dict[str, tuple[str, list[str], list[str]]] = {
    "timestamp": ("rstuf", ["timestamp"], ["timestamp"]),
    "snapshot": ("rstuf", ["snapshot"], ["snapshot", "timestamp"]),
    "targets": ("rstuf", ["targets", "targets"], ["targets", "snapshot", "timestamp"]),
    "bins": ("rstuf", ["bins"], ["bins", "snapshot", "timestamp"]),
    "all, targets too": ("rstuf", [], ["targets", "snapshot", "timestamp", "bins"]),
    "all, but targets": ("pep458", [], ["snapshot", "timestamp", "bins"]),
}


@pytest.mark.parametrize(("mode", "roles", "renewed"), RENEWED.values(), ids=RENEWED)
async def test_roles_are_renewed(tmp_path: Path, log: Log, mode: str, roles: list[str], renewed: list[str]) -> None:
    """When the task is done, every role that was asked for has a new version, and so have those that name it; all others have none."""
    payload = make_bootstrap(tmp_path / "keys", bins=BINS, mode=mode).payload
    async with bootstrapped(tmp_path, log=log, payload=payload, signer=RARE) as server:
        before = await versions(server)
        task = await server.task(await renew(server, *roles))
        after = await versions(server)
        assert (task["state"], task["result"]["task"]) == ("SUCCESS", "force_online_metadata_update")
        assert task["result"]["details"] == {"updated_roles": renewed}
        assert {role for role, version in after.items() if version > before[role]} == set(renewed)


async def test_a_renewal_is_made_once(tmp_path: Path, log: Log) -> None:
    """A renewal that was accepted while no signer ran is made when one runs, once: a restart makes no more new versions."""
    payload = make_bootstrap(tmp_path / "keys", bins=BINS, mode="rstuf").payload
    async with bootstrapped(tmp_path, log=log, payload=payload, signer=RARE):
        pass
    async with rest(tmp_path, log=log) as server:
        before = await versions(server)
        task_id = await renew(server, "bins", "targets")
        _, answer = await server.ask("GET", TASK + task_id)
        assert answer["data"] == {"task_id": task_id, "state": "RUNNING"}
    async with rest(tmp_path, log=log, whole=True, signer=RARE) as server:
        assert (await server.task(task_id))["state"] == "SUCCESS"
        after = await versions(server)
        assert (after["bins"], after["targets"]) == (before["bins"] + 1, before["targets"] + 1)
    async with rest(tmp_path, log=log, whole=True, signer=RARE) as server:
        second = await server.task(await renew(server, "timestamp"))
        assert second["state"] == "SUCCESS"
        later = await versions(server)
        assert {role for role, version in later.items() if version > after[role]} == {"timestamp"}
        assert (await server.task(task_id))["state"] == "SUCCESS"
        await server.task(await renew(server, "bins"))
        of_bins = {version for role, version in (await every_version(server)).items() if role.startswith("bins-")}
        assert of_bins == {after["bins"] + 1}, "bins were renewed again when the signer started"


async def test_the_service_changes_while_roles_are_renewed(tmp_path: Path, log: Log) -> None:
    """Artifacts that come during a renewal are live as ever, and several renewals at once are all done."""
    payload = make_bootstrap(tmp_path / "keys", bins=BINS, mode="rstuf").payload
    async with bootstrapped(tmp_path, log=log, payload=payload, signer=RARE) as server:
        before = await versions(server)
        tasks = [await renew(server) for _ in range(3)]
        body: Any = {"artifacts": [{"path": f"a/{number}", "info": {"length": 1, "hashes": {"sha256": "ab" * 32}}} for number in range(50)]}
        _, answer = await server.ask("POST", "/api/v1/artifacts/", body)
        results = await asyncio.gather(*map(server.task, [*tasks, answer["data"]["task_id"]]))
        assert {result["state"] for result in results} == {"SUCCESS"}
        after = await versions(server)
        assert all(after[role] > before[role] for role in ("targets", "snapshot", "timestamp", "bins"))


REFUSED: dict[str, tuple[Any, str]] = {
    "no roles": ({}, "missing required field `roles`"),
    "null": ({"roles": None}, "Expected `array`"),
    "targets that people sign": ({"roles": ["bins", "targets"]}, "targets is signed by people here"),
    "root": ({"roles": ["root"]}, "the signer does not sign root"),
    "unknown role": ({"roles": ["snapshot", "x" * 9000]}, "name some of snapshot, timestamp, bins"),
    "many roles": ({"roles": ["bins"] * 1001}, "length <= 1000"),
}


async def test_renewals_that_are_refused(tmp_path: Path) -> None:
    """A renewal that can't be made is answered with 422 and the reason, and leaves no trace."""
    async with bootstrapped(tmp_path) as server:
        log = await server.on_log()
        for name, (body, says) in REFUSED.items():
            status, answer = await server.ask("POST", ONLINE, body)
            assert (status, says in str(answer)) == (422, True), (name, answer)
        assert await server.on_log() == log


async def test_nothing_is_renewed_before_the_bootstrap(tmp_path: Path) -> None:
    """Before the bootstrap the call is answered as RSTUF does."""
    async with rest(tmp_path) as server:
        status, answer = await server.ask("POST", ONLINE, {"roles": []})
        expected = {"message": "Task not accepted.", "error": "It requires bootstrap finished. State: None"}
        assert (status, answer["detail"]) == (404, expected)
