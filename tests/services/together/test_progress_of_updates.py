"""The task of an update whose bins must be signed with other keys tells how many are, until it is done."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.offline import Offline
from tufline_testing.rest import Rest, bootstrapped, rest

METADATA, TASK = "/api/v1/metadata/", "/api/v1/task/?task_id="
BINS = 64
QUICK = {"release_delay": 1.0}


async def state_of(server: Rest, task_id: str) -> dict[str, Any]:
    data: dict[str, Any] = (await server.ask("GET", TASK + task_id))[1]["data"]
    return data


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_an_update_reports_its_progress(tmp_path: Path, mode: str) -> None:
    """While an update with a new online key is RUNNING, its task counts the bins that are signed with it: first none, then all."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode=mode, days=DEFAULT_DAYS)
    async with bootstrapped(tmp_path, payload=offline.payload, signer=QUICK):
        pass
    updates = {update.role: update.metadata for update in offline.rotate()}
    async with rest(tmp_path) as server:
        _, answer = await server.ask("POST", METADATA, {"metadata": updates})
        task_id = answer["data"]["task_id"]
        async with asyncio.timeout(30):
            while "result" not in (data := await state_of(server, task_id)):  # this process still reads what the bins are signed with
                await asyncio.sleep(0.05)
        assert data["state"] == "RUNNING"
        assert "status" not in data["result"]
        details = data["result"]["details"]
        assert (details["bins_signed"], details["number_of_bins"], details["roles"]) == (0, BINS, [*updates])
    async with rest(tmp_path, whole=True, signer=QUICK) as server:
        seen = []
        async with asyncio.timeout(30):
            while (data := await state_of(server, task_id))["state"] == "RUNNING":
                seen += [data["result"]["details"]["bins_signed"]] if "result" in data else []
        assert (data["state"], data["result"]["status"]) == ("SUCCESS", True)
        assert data["result"]["details"] == {"role": "root", "roles": [*updates]}
        assert seen == sorted(seen)
        assert seen[-1] == BINS, "the root waits for the delay after the last bin was signed"


async def test_an_update_without_other_keys_of_bins_is_not_counted(tmp_path: Path) -> None:
    """If people sign targets, a root with the same keys of targets does not wait for bins."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode="pep458", days=DEFAULT_DAYS)
    async with bootstrapped(tmp_path, payload=offline.payload):
        pass
    root = next(update.metadata for update in offline.rotate() if update.role == "root")
    async with rest(tmp_path) as server:
        _, answer = await server.ask("POST", METADATA, {"metadata": {"root": root}})
        for _ in range(3):
            assert await state_of(server, answer["data"]["task_id"]) == {"task_id": answer["data"]["task_id"], "state": "RUNNING"}
