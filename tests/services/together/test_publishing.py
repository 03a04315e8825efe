"""Changes that are held until they are published, and a freeze, over REST with all services."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import tufline.metadata.bins
from tufline import records
from tufline.records import cursor, topics
from tufline.records.cursor import Task
from tufline_testing.log import append_marks, append_publish, eventually, read_all
from tufline_testing.repository_logs import Log
from tufline_testing.rest import Rest, artifact, bootstrapped

ADD = "/api/v1/artifacts/"
DELETE = "/api/v1/artifacts/delete"
PUBLISH = "/api/v1/artifacts/publish/"

ADDED = "New Artifact(s) successfully submitted."
REMOVED = "Remove Artifact(s) successfully submitted."
HELD = " Publishing will be skipped."
PUBLISHED = "Publish artifacts successfully submitted."


async def add(server: Rest, *paths: str, length: int = 1, publish: bool = True) -> dict[str, Any]:
    """Add artifacts, and return the result of the task."""
    body = {"artifacts": [artifact(path, length) for path in paths], "publish_artifacts": publish}
    task = await server.submit(ADD, body, ADDED + ("" if publish else HELD))
    result: dict[str, Any] = task["result"]
    return result


async def length(server: Rest, path: str) -> int:
    """Return the live length of an artifact; 0 if it is not live."""
    status, answer = await server.ask("GET", f"/api/v1/artifacts/{path}")
    return answer["length"] if status == 200 else 0


async def role_of(server: Rest, path: str) -> str:
    """Return the bin of a path."""
    bootstrap = records.decode(records.admin_decoder, (await read_all(server.bus, topics.ADMIN))[0].value)
    assert isinstance(bootstrap, records.Bootstrap)
    layout = bootstrap.settings.layout
    return layout.name(layout.index_of(path))


async def test_a_held_request_is_done_at_once_and_live_after_a_publish(tmp_path: Path, log: Log) -> None:
    """A held request's task is SUCCESS with ``held``, but nothing of it is live; the publish's task names the bins that it changed."""
    async with bootstrapped(tmp_path, log=log) as server:
        await add(server, "gone")
        details = (await add(server, "a", "b", publish=False))["details"]
        assert details["held"] is True
        assert (details["added_artifacts"], details["invalid_paths"]) == (["a", "b"], [])
        removed = await server.submit(DELETE, {"artifacts": ["gone"], "publish_artifacts": False}, REMOVED + HELD)
        assert removed["result"]["details"] == {"deleted_artifacts": ["gone"], "not_found_artifacts": [], "held": True}
        await add(server, "c")
        assert [await length(server, path) for path in ("a", "b", "c", "gone")] == [0, 0, 1, 1]
        assert (await server.ask("GET", "/api/v1/status"))[1]["held"] == 3

        published = await server.submit(PUBLISH, None, PUBLISHED)
        assert (published["state"], published["result"]["task"]) == ("SUCCESS", "publish_artifacts")
        assert published["result"]["details"] == {"artifact_roles": sorted({await role_of(server, path) for path in ("a", "b", "gone")})}
        assert [await length(server, path) for path in ("a", "b", "c", "gone")] == [1, 1, 1, 0]
        assert (await server.ask("GET", "/api/v1/status"))[1]["held"] == 0

        again = await server.submit(PUBLISH, None, PUBLISHED)
        assert again["result"]["details"] == {"artifact_roles": []}
        assert (await server.task(published["task_id"]))["result"] == published["result"]


async def test_the_task_of_an_old_publish_still_tells_what_it_released(tmp_path: Path, log: Log) -> None:
    """The result of a publish is found after many others, in a few steps, and never confused with theirs."""
    async with bootstrapped(tmp_path, log=log) as server:
        tasks = []
        for number in range(9):
            await add(server, f"p/{number}", publish=False)
            if number % 3 == 0:
                await server.submit(PUBLISH, None, PUBLISHED)
            tasks.append((await server.submit(PUBLISH, None, PUBLISHED))["task_id"])
        for number, task_id in enumerate(tasks):
            wanted = [] if number % 3 == 0 else [await role_of(server, f"p/{number}")]
            assert (await server.task(task_id))["result"]["details"] == {"artifact_roles": wanted}


async def test_a_hold_with_the_task_id_in_custom(tmp_path: Path, log: Log) -> None:
    """A request may be held and have its task id in custom: its task is found by name, and is done before the publish."""
    async with bootstrapped(tmp_path, log=log) as server:
        body = {"artifacts": [artifact("a")], "publish_artifacts": False, "add_task_id_to_custom": True}
        task = await server.submit(ADD, body, ADDED + HELD)
        assert task["result"]["details"]["held"] is True
        await server.submit(PUBLISH, None, PUBLISHED)
        _, live = await server.ask("GET", "/api/v1/artifacts/a")
        assert live["custom"]["added_by_task_id"] == task["task_id"]


async def test_a_partition_refuses_more_than_it_may_hold(tmp_path: Path) -> None:
    """Beyond the limit a held change's task is ERRORED with the reason; status warns before, and after a publish there is room."""
    async with bootstrapped(tmp_path, signer={"max_held_changes": 5}) as server:
        paths: dict[str, list[str]] = {}
        for number in range(100):
            paths.setdefault(await role_of(server, f"p/{number}"), []).append(f"p/{number}")
        first, *others = next(iter(paths.values()))[:6]
        for number, path in enumerate([first, *others[:4]]):
            assert "held" not in (await server.ask("GET", "/api/v1/status"))[1]["problems"], number
            assert (await add(server, path, publish=False))["status"]
        status = (await server.ask("GET", "/api/v1/status"))[1]
        assert "5 of at most 5" in status["problems"]["held"]
        assert "held" in status["warnings"]
        refused = await add(server, others[4], publish=False)
        assert not refused["status"]
        assert "max_held_changes" in refused["error"]
        assert refused["details"]["invalid_paths"] == [others[4]]
        await server.submit(PUBLISH, None, PUBLISHED)
        assert await length(server, others[4]) == 0
        assert (await add(server, others[4], publish=False))["status"]


async def test_a_made_up_task_id_learns_nothing(tmp_path: Path) -> None:
    """An id that calls a published request held, or another record a publish, names no task."""
    async with bootstrapped(tmp_path) as server:
        body = {"artifacts": [artifact("a")]}
        where = cursor.decode((await server.submit(ADD, body, ADDED))["task_id"], server.bus.log_id)
        made_up = cursor.Cursor(where.format, where.task, where.log, where.time, where.positions, hold=True)
        in_admin = [cursor.Cursor(1, Task.PUBLISH, where.log, where.time, {0: [offset]}) for offset in (0, 1, 1000)]
        for one in (made_up, *in_admin):
            _, answer = await server.ask("GET", f"/api/v1/task/?task_id={cursor.encode(one)}")
            assert answer["data"]["state"] == "PENDING"


async def test_an_older_publish_than_the_state_keeps_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of ``admin`` keeps the newest publishes only; an older task is recognized by its record."""
    monkeypatch.setattr("tufline.trust.admin_records.KEPT_PUBLISHES", 1)
    async with bootstrapped(tmp_path) as server:
        await add(server, "a", publish=False)
        task = await server.submit(PUBLISH, None, PUBLISHED)
        await server.submit(PUBLISH, None, PUBLISHED)
        assert (await server.task(task["task_id"]))["result"]["details"] == {"artifact_roles": [await role_of(server, "a")]}


async def test_frozen_changes_wait_until_they_are_thawed(tmp_path: Path, log: Log) -> None:
    """While it is frozen, tasks are RUNNING and status says so; after the thaw all of them are done, in their order."""
    async with bootstrapped(tmp_path, log=log) as server:
        await add(server, "a")
        status, answer = await server.ask("POST", "/api/v1/freeze")
        assert (status, answer["data"]["frozen_since"] is None) == (200, False)
        assert (await server.ask("POST", "/api/v1/freeze"))[1] == answer
        await asyncio.sleep(0.2)
        _, accepted = await server.ask("POST", ADD, {"artifacts": [artifact("a", 2)]})
        _, held = await server.ask("POST", ADD, {"artifacts": [artifact("b")], "publish_artifacts": False})
        _, published = await server.ask("POST", PUBLISH)
        for task in (accepted, held, published):
            _, state = await server.ask("GET", f"/api/v1/task/?task_id={task['data']['task_id']}")
            assert state["data"]["state"] == "RUNNING"
        assert await length(server, "a") == 1
        _, shown = await server.ask("GET", "/api/v1/status")
        assert shown["frozen_since"] == answer["data"]["frozen_since"]
        assert "thaw" in shown["problems"]["freeze"]
        assert shown["backlog"] > 0
        assert (await server.ask("GET", "/readyz"))[0] == 200

        assert (await server.ask("POST", "/api/v1/thaw"))[1]["data"] == {"frozen_since": None}
        for task in (accepted, held, published):
            assert (await server.task(task["data"]["task_id"]))["state"] == "SUCCESS"
        assert (await length(server, "a"), await length(server, "b")) == (2, 1)
        assert (await server.ask("GET", "/api/v1/status"))[1]["frozen_since"] is None


async def test_a_publish_that_comes_from_another_process_is_applied_at_once(tmp_path: Path, log: Log) -> None:
    """Workers that wait for changes learn of a publish from ``admin``, not only when the next change comes."""
    async with bootstrapped(tmp_path, log=log, signer={"renewal_check": 3600.0}) as server:
        await add(server, "a", publish=False)
        bootstrap = records.decode(records.admin_decoder, (await read_all(server.bus, topics.ADMIN))[0].value)
        assert isinstance(bootstrap, records.Bootstrap)
        ends = await append_marks(server.bus, bootstrap.settings)
        await asyncio.sleep(0.5)  # the workers have applied the marks, and wait for the next change
        await append_publish(server.bus, ends)

        async def is_live() -> bool:
            return await length(server, "a") == 1

        await eventually(is_live)


async def test_a_change_that_a_bin_can_not_take_is_refused_at_the_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a bin is full, the publish is ERRORED and names what was refused, and everything else is live."""
    async with bootstrapped(tmp_path) as server:
        large = [artifact("a", custom={"filling": "x" * 3000}), artifact("b")]
        await server.submit(ADD, {"artifacts": large, "publish_artifacts": False}, ADDED + HELD)
        monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", 2000)
        task = await server.submit(PUBLISH, None, PUBLISHED)
        assert task["state"] == "ERRORED"
        assert task["result"]["details"] == {"artifact_roles": [await role_of(server, "b")], "invalid_paths": ["a"]}
        assert "1 held changes were refused" in task["result"]["error"]
        assert (await length(server, "a"), await length(server, "b")) == (0, 1)
        assert (await server.ask("GET", "/api/v1/status"))[1]["held"] == 0
