"""The settings of the repository: RSTUF's calls to read and change them, and what the signer makes of it."""

import asyncio
import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tufline.clock import utc_now
from tufline_testing.payloads import make_bootstrap
from tufline_testing.repository_logs import Log
from tufline_testing.rest import Rest, artifact, bootstrapped, rest
from tufline_testing.server import run_tufline

CONFIG, ADD, BOOTSTRAP = "/api/v1/config/", "/api/v1/artifacts/", "/api/v1/bootstrap/"
QUICK = {"renewal_check": 0.2}
BINS = 8


async def change(server: Rest, days: dict[str, Any]) -> dict[str, Any]:
    """Change lifetimes as RSTUF's clients do, and return the finished task."""
    status, answer = await server.ask("PUT", CONFIG, {"settings": {"expiration": days}})
    assert (status, answer["message"]) == (202, "Settings successfully submitted."), answer
    return await server.task(answer["data"]["task_id"])


def published_days(directory: Path) -> dict[str, float]:
    """Return for how many days from now the newest published version of each role is valid; of the bins the shortest and the longest."""
    found: dict[str, float] = {}
    newest: dict[str, int] = {}
    for file in (directory / "origin").rglob("*.json"):
        version, _, role = file.stem.rpartition(".")
        signed = json.loads(file.read_bytes()).get("signed")  # the directory also has the file that says who publishes there
        if signed is not None and int(version or 0) >= newest.get(role, 0):
            newest[role] = int(version or 0)
            expires = datetime.fromisoformat(signed["expires"])
            found[role] = (expires - utc_now()) / timedelta(days=1)
    of_bins = [days for role, days in found.items() if role.startswith("bins-")]
    assert len(of_bins) == BINS
    rest = {role: days for role, days in found.items() if not role.startswith("bins-")}
    return rest | {"first bin": min(of_bins), "last bin": max(of_bins)}


async def valid_for(directory: Path, days: dict[str, int]) -> None:
    """Wait until the published versions are valid for almost the given number of days."""
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.to_thread(published_days, directory)
            if all(number - 0.01 < found[role] <= number for role, number in days.items()):
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_settings_are_those_of_rstuf(tmp_path: Path, mode: str) -> None:
    """The settings have RSTUF's names, and say what is so: lifetimes, thresholds, keys, bins, and whether targets is online."""
    payload = make_bootstrap(tmp_path / "keys", bins=BINS, mode=mode).payload
    async with bootstrapped(tmp_path, payload=payload) as server:
        status, answer = await server.ask("GET", CONFIG)
        assert (status, answer["message"]) == (200, "Current Settings")
        settings = answer["data"]
        assert settings["bootstrap"] == (await server.ask("GET", BOOTSTRAP))[1]["data"]["id"]
        assert (settings["targets_online_key"], settings["number_of_delegated_bins"]) == (mode == "rstuf", BINS)
        assert (settings["root_threshold"], settings["root_num_keys"]) == (2, 3)
        assert (settings["bins_threshold"], settings["bins_num_keys"]) == (1, 1)
        for role, of_role in payload["settings"]["roles"].items():
            assert settings[f"{role}_expiration"] == of_role["expiration"]


async def test_new_lifetimes_count_at_once(tmp_path: Path, log: Log) -> None:
    """Shorter and longer lifetimes are those of every online role within seconds, without a new artifact, and after a restart."""
    days = {"targets": 40, "snapshot": 20, "timestamp": 5, "bins": 3}
    payload = make_bootstrap(tmp_path / "keys", bins=BINS, mode="rstuf", days={**days, "bins": 30, "timestamp": 1}).payload
    async with bootstrapped(tmp_path, log=log, payload=payload, signer=QUICK) as server:
        task = await change(server, {**days, "root": 9, "nobody": 2})
        assert (task["state"], task["result"]["task"], task["result"]["status"]) == ("SUCCESS", "update_settings", True)
        assert set(task["result"]["details"]["updated_roles"]) == set(days)
        assert set(task["result"]["details"]["invalid_roles"]) == {"root", "nobody"}
        expected = {"targets": 40, "snapshot": 20, "timestamp": 5, "first bin": 3, "last bin": 3}
        await valid_for(tmp_path, expected)
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        _, answer = await server.ask("GET", CONFIG)
        assert {role: answer["data"][f"{role}_expiration"] for role in days} == days
        _, answer = await server.ask("POST", ADD, {"artifacts": [artifact(str(number)) for number in range(50)]})
        await server.task(answer["data"]["task_id"])
        await valid_for(tmp_path, expected)


async def test_a_plan_is_made_with_the_settings_of_the_server(tmp_path: Path) -> None:
    """``tufline plan --url`` has the number of bins and the lifetimes of the server, as they are now; other bins can be tried with them."""

    async def plan(*arguments: str | Path) -> Any:
        command = ["plan", "--files", "1000", "--changes", "1", "--json", *arguments]
        done = await asyncio.to_thread(partial(run_tufline, *command, cwd=tmp_path))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    days = {"targets": 40, "snapshot": 3, "timestamp": 2, "bins": 5}
    (answers := tmp_path / "answers.yaml").write_text(
        f"root_holders: [ada]\nbins: {BINS}\n" + "".join(f"{role}_days: {number}\n" for role, number in days.items())
    )
    async with bootstrapped(tmp_path, payload=make_bootstrap(tmp_path / "keys", bins=BINS).payload) as server:
        before = await plan("--url", server.url)
        await change(server, days)
        found = await plan("--url", server.url)
        of_answers = await plan("--answers", answers)
        assert found["load"] == of_answers["load"]
        assert found["day"]["renewed"] == of_answers["day"]["renewed"]
        assert found["day"]["timestamps"] == of_answers["day"]["timestamps"]
        assert found["day"]["timestamps"] != before["day"]["timestamps"]
        other = await plan("--url", server.url, "--bins", "16")
        assert other["load"]["bins"] == 16
        assert other["day"]["renewed"] == pytest.approx(2 * found["day"]["renewed"], rel=0.1)


REFUSED: dict[str, tuple[Any, str]] = {
    "no settings": ({}, "missing required field `settings`"),
    "no expiration": ({"settings": {}}, "missing required field `expiration`"),
    "no role": ({"settings": {"expiration": {}}}, "length >= 1"),
    "role that people sign": ({"settings": {"expiration": {"root": 3}}}, "targets, snapshot, timestamp, bins"),
    "days that are text": ({"settings": {"expiration": {"bins": "x"}}}, "Expected `int | float`, got `str`"),
    "days that are null": ({"settings": {"expiration": {"bins": None}}}, "Expected `int | float`, got `null`"),
    "half a day": ({"settings": {"expiration": {"bins": 0.5}}}, "must be a whole number"),
    "no days": ({"settings": {"expiration": {"bins": 0}}}, "the expiration of bins must be from 1 to 3650 days, not 0"),
    "a century": ({"settings": {"expiration": {"timestamp": 36500}}}, "the expiration of timestamp must be from 1 to 3650 days"),
    "many roles": ({"settings": {"expiration": {f"role{number}": 1 for number in range(1001)}}}, "length <= 1000"),
    "a long role": ({"settings": {"expiration": {"r" * 257: 1}}}, "length <= 256"),
}


async def test_settings_that_are_refused(tmp_path: Path) -> None:
    """Settings that can't be accepted are answered with 422 and the reason, and leave no trace; a forged task id is unknown."""
    async with bootstrapped(tmp_path, mode="rstuf") as server:
        before, log = (await server.ask("GET", CONFIG))[1], await server.on_log()
        for name, (body, says) in REFUSED.items():
            status, answer = await server.ask("PUT", CONFIG, body)
            assert (status, says in str(answer)) == (422, True), (name, answer)
        assert ((await server.ask("GET", CONFIG))[1], await server.on_log()) == (before, log)


async def test_no_settings_before_the_bootstrap(tmp_path: Path) -> None:
    """Before the bootstrap both calls are answered as RSTUF does."""
    async with rest(tmp_path) as server:
        state = "It requires bootstrap finished. State: None"
        status, answer = await server.ask("GET", CONFIG)
        assert (status, answer["detail"]) == (404, {"message": "No Repository Settings/Config found.", "error": state})
        status, answer = await server.ask("PUT", CONFIG, {"settings": {"expiration": {"bins": 3}}})
        assert (status, answer["detail"]) == (404, {"message": "Task not accepted.", "error": state})
