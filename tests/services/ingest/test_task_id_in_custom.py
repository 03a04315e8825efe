"""``add_task_id_to_custom``: any ingest answers for the id in an artifact's custom, as for the request's own id."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.records import Add, cursor, topics
from tufline.records.cursor import Cursor, Task
from tufline.records.routing import Routing
from tufline_ingest import accept
from tufline_ingest.rest import task_states
from tufline_testing.log import settings_of
from tufline_testing.rest import PARTITIONS, Rest, artifact, bootstrapped, rest

ARTIFACTS, TASK = "/api/v1/artifacts/", "/api/v1/task/?task_id="
FIELD = "added_by_task_id"


async def add(server: Rest, *artifacts: Mapping[str, Any]) -> str:
    """Add artifacts with the task id in their custom, and return the id that the answer has."""
    body = json.dumps({"artifacts": artifacts, "add_task_id_to_custom": True}).encode()
    status, answer = await server.ask("POST", ARTIFACTS, body)
    assert status == 202, answer
    assert answer["message"] == "New Artifact(s) successfully submitted."
    task_id: str = answer["data"]["task_id"]
    return task_id


async def custom_of(server: Rest, path: str) -> Any:
    return (await server.ask("GET", f"{ARTIFACTS}{path}"))[1]["custom"]


async def test_the_task_id_is_in_custom(tmp_path: Path) -> None:
    """Each artifact of the request has the answer's id in its custom, which is otherwise unchanged; other artifacts have none."""
    async with bootstrapped(tmp_path) as server:
        named = [artifact("a"), artifact("b", custom={"k": [1]}), artifact("c", custom={FIELD: "older"}), artifact("d", custom=None)]
        task_id = await add(server, *named)
        other = (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("e", custom={"k": 2})]}))[1]["data"]["task_id"]
        task = await server.task(task_id)
        await server.task(other)
        assert [await custom_of(server, path) for path in "abcde"] == [
            {FIELD: task_id},
            {FIELD: task_id, "k": [1]},
            {FIELD: task_id},
            {FIELD: task_id},
            {"k": 2},
        ]
        assert (task["task_id"], task["state"]) == (task_id, "SUCCESS")
        assert sorted(task["result"]["details"]["added_artifacts"]) == ["a", "b", "c", "d"]


async def test_every_process_answers_for_the_id(tmp_path: Path) -> None:
    """By the id, a process that did not accept the request finds all of its records, even several in a partition and among others."""
    many = [artifact(f"large/{number}", number, custom={"x": "y" * 3_000}) for number in range(1, 901)]
    async with bootstrapped(tmp_path, max_request_bytes=8_000_000) as server:
        small = [server.ask("POST", ARTIFACTS, {"artifacts": [artifact(f"small/{number}")]}) for number in range(20)]
        large, *_ = await asyncio.gather(add(server, *many), *small)
        expected = await server.task(large)
        ends = await server.on_log()
    assert sum(ends[topics.ARTIFACTS]) > PARTITIONS + len(small), "the request has several records in a partition"
    assert len(expected["result"]["details"]["added_artifacts"]) == len(many)
    async with rest(tmp_path, max_request_bytes=8_000_000) as restarted:
        assert await restarted.task(large) == expected


async def test_a_request_that_is_partly_on_the_log_is_not_done(tmp_path: Path) -> None:
    """If ingest dies while it appends, the result of the task is unknown, and never reported as a success."""
    routing = Routing(settings_of(8, PARTITIONS, {}).partitioning)
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    try:
        async with bootstrapped(tmp_path, bus=bus) as server:
            changes = [Add(path, 1, {"sha256": "ab" * 32}) for path in "abcdefgh"]
            named = await accept.name_task(Task.ADD, bus, changes, routing, utc_now())
            messages = await accept.make_messages(changes, routing, 0, named=named)
            assert len(messages) > 1
            positions = await bus.append(messages[:-1])
            await server.task(cursor.encode(accept.make_cursor(Task.ADD, bus.log_id, positions)))
            _, answer = await server.ask("GET", TASK + cursor.encode(named.cursor))
            assert answer["data"]["state"] == "PENDING"
            await bus.append(messages[-1:])
            assert (await _finished(server, cursor.encode(named.cursor)))["state"] == "SUCCESS"
    finally:
        await bus.close()


async def _finished(server: Rest, task_id: str) -> Any:
    async with asyncio.timeout(30):
        while (data := (await server.ask("GET", TASK + task_id))[1]["data"])["state"] in {"PENDING", "RUNNING"}:
            await asyncio.sleep(0.01)
    return data


async def test_an_invented_id_is_unknown(tmp_path: Path) -> None:
    """An id of this log that names no request is PENDING, whatever place it names."""
    async with bootstrapped(tmp_path) as server:
        await server.task(await add(server, artifact("a")))
        for where in ({0: [0]}, {PARTITIONS: [0]}, {0: [2**63 - 1]}):
            task_id = cursor.encode(Cursor(cursor.NAMED_FORMAT, Task.ADD, server.bus.log_id, 1, where, "invented"))
            _, answer = await server.ask("GET", TASK + task_id)
            assert answer["data"] == {"task_id": task_id, "state": "PENDING"}


async def test_only_a_part_of_the_log_is_read_for_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for the records of an id ends after a number of bytes: an id that names a place far before them costs no more."""
    async with bootstrapped(tmp_path) as server:
        for length in (1, 2):
            task_id = await add(server, artifact("a", length))
            await server.task(task_id)
        named = cursor.decode(task_id, server.bus.log_id)
        early = cursor.encode(msgspec.structs.replace(named, positions={partition: [0] for partition in named.positions}))
    async with rest(tmp_path) as restarted:
        assert (await _finished(restarted, early))["state"] == "SUCCESS"
    monkeypatch.setattr(task_states, "GROWTH", 0)
    async with rest(tmp_path) as restarted:
        _, answer = await restarted.ask("GET", TASK + early)
        assert answer["data"] == {"task_id": early, "state": "PENDING"}
