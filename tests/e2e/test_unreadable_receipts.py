"""Unreadable receipts: every task is answered, health names the record, and what may have been refused is never reported as live."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tufline.metadata.bins
from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.embedded.bus import open_embedded
from tufline.client.events import Client, Event, remove
from tufline.records import cursor, topics
from tufline.records.cursor import FORMAT, Cursor, Task
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_cli.commands.journal import open_journal
from tufline_cli.exit_codes import Exit
from tufline_testing.log import read_all
from tufline_testing.rest import PARTITIONS, Rest, artifact, bootstrapped, rest
from tufline_testing.server import run_tufline

ARTIFACTS, DELETE, BULK, TASK = "/api/v1/artifacts/", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/task/?task_id="
PART = "ingest.tasks.records"
BIG = {"k": "x" * 3_000}

KINDS = ["damaged", "junk", "newer"]
NEWER = b'{"v":99,"kind":"change","offset":0,"index":0,"path":"p","outcome":"refused"}'


def spoil(path: Path, spoiled: Sequence[Record], kind: str) -> None:
    """Damage records of a closed log, or replace them by content that this version can't read."""
    value, headers = {"damaged": (7, "{"), "junk": (b"\xff", None), "newer": (NEWER, None)}[kind]
    change = "UPDATE records SET value = ?, headers = ? WHERE key = ? AND value = ?"
    with closing(sqlite3.connect(path / "log.db")) as db, db:
        for record in spoiled:
            assert db.execute(change, (value, headers, record.key, record.value)).rowcount == 1


async def change_receipts(bus: Bus) -> list[tuple[Record, ChangeReceipt]]:
    """Read the receipts of changes, with their records; all of them can be read."""
    every = [record for partition in range(PARTITIONS) for record in await read_all(bus, topics.RECEIPTS, partition)]
    found = [(record, records.decode(receipt_decoder, record.value)) for record in every]
    return [(record, receipt) for record, receipt in found if isinstance(receipt, ChangeReceipt)]


async def done(server: Rest, path: str, body: Any) -> dict[str, Any]:
    """Send a request and wait for the task's data."""
    status, answer = await server.ask("POST", path, body)
    assert status == 202, answer
    return await server.task(answer["data"]["task_id"])


def lines(artifacts: Sequence[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in artifacts)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_possible_refusal_makes_the_result_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A task with an unreadable receipt is ERRORED and names what is unknown; tasks of other batches are answered as before."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", len(BIG["k"]))
    async with bootstrapped(tmp_path) as server:
        fine = await done(server, ARTIFACTS, {"artifacts": [artifact("fine")]})
        refused = await done(server, ARTIFACTS, {"artifacts": [artifact("big", custom=BIG)]})
        assert refused["result"]["details"]["invalid_paths"] == ["big"]
        ((record, _),) = await change_receipts(server.bus)
    spoil(tmp_path, [record], kind)
    async with rest(tmp_path) as server:
        assert await server.task(fine["task_id"]) == fine
        assert PART not in server.health.warnings
        for _ in range(2):
            task = await server.task(refused["task_id"])
            assert (task["state"], task["result"]["status"]) == ("ERRORED", False)
            assert task["result"]["details"]["added_artifacts"] == []
            assert task["result"]["details"]["unknown_artifacts"] == ["big"]
            assert "what became of 1 artifacts is unknown" in task["result"]["error"]
        assert PART in server.health.warnings
        assert str(record.offset) in server.health.warnings[PART]


async def test_a_receipt_of_another_request_makes_nothing_unknown(tmp_path: Path) -> None:
    """A receipt names its request in its key: if that can be read, other tasks of the same batch are answered as before."""
    async with bootstrapped(tmp_path):
        pass
    async with rest(tmp_path) as server:  # no signer runs, so that it finds all in one batch
        answers = [(await server.ask("POST", DELETE, {"artifacts": ["never"]}))[1] for _ in range(2)]
    async with rest(tmp_path, whole=True) as server:
        tasks = [await server.task(answer["data"]["task_id"]) for answer in answers]
        (first, _), (_, _) = await change_receipts(server.bus)
    spoil(tmp_path, [first], "junk")
    async with rest(tmp_path) as server:
        assert (await server.task(tasks[0]["task_id"]))["result"]["details"]["unknown_artifacts"] == ["never"]
        assert await server.task(tasks[1]["task_id"]) == tasks[1]


@pytest.mark.parametrize("kind", KINDS)
async def test_older_tasks_are_answered_without_the_trail(tmp_path: Path, kind: str) -> None:
    """If a receipt that links to older ones is unreadable, they are found without it: no task is delayed, and no result is invented."""
    async with bootstrapped(tmp_path) as server:
        tasks = [await done(server, DELETE, {"artifacts": ["never"]}) for _ in range(6)]
        found = await change_receipts(server.bus)
        assert len(found) == 6
    spoil(tmp_path, [record for record, _ in found[1:]], kind)
    async with rest(tmp_path) as server:
        for task in tasks:
            answer = await server.task(task["task_id"])
            details = answer["result"]["details"]
            assert details["deleted_artifacts"] == []
            assert answer["state"] == "ERRORED" or details["not_found_artifacts"] == ["never"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bulk_task_counts_what_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A bulk task with an unreadable receipt is ERRORED, and names the record whose result is unknown; so does an import."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", len(BIG["k"]))
    async with bootstrapped(tmp_path) as server:
        task = await done(server, BULK, lines([artifact("fine"), artifact("big", custom=BIG)]))
        assert [one["path"] for one in task["result"]["details"]["refused_artifacts"]] == ["big"]
        ((record, _),) = await change_receipts(server.bus)
    spoil(tmp_path, [record], kind)
    source, journal = tmp_path / "source.ndjson", tmp_path / "journal"
    source.write_bytes(b"")
    async with rest(tmp_path) as server:
        answer = await server.task(task["task_id"])
        assert (answer["state"], answer["result"]["status"]) == ("ERRORED", False)
        ((path, reason),) = [(one["path"], one["reason"]) for one in answer["result"]["details"]["refused_artifacts"]]
        assert (path, f"offset {record.offset} of receipts/{record.partition}" in reason) == ("", True)
        assert "or may have been" in answer["result"]["error"]
        assert server.health.warnings[PART]
        with open_journal(journal, source, server.bus.log_id) as journaled:
            journaled.expect(task["task_id"], 2)
        command = await asyncio.to_thread(run_tufline, "import", source, "--journal", journal, "--url", server.url, cwd=tmp_path)
        assert command.returncode == Exit.FAILED, command.stderr
        assert "it is unknown whether it was refused" in command.stderr


async def test_an_old_bulk_id_claims_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a bulk request from an older version does not show what was refused, so its task is not reported as a success."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", len(BIG["k"]))
    source, journal = tmp_path / "source.ndjson", tmp_path / "journal"
    source.write_bytes(b"")
    async with bootstrapped(tmp_path) as server:
        task = await done(server, BULK, lines([artifact("fine"), artifact("big", custom=BIG)]))
        where = cursor.decode(task["task_id"], server.bus.log_id)
        last = {partition: offsets[-1:] for partition, offsets in where.positions.items()}
        old = cursor.encode(Cursor(FORMAT, Task.BULK, where.log, where.time, last))
        answer = await server.task(old)
        assert (answer["state"], answer["result"]["status"]) == ("ERRORED", False)
        assert "unknown which of its changes were refused" in answer["result"]["error"]
        with open_journal(journal, source, server.bus.log_id) as journaled:
            journaled.expect(old, 2)
        command = await asyncio.to_thread(run_tufline, "import", source, "--journal", journal, "--url", server.url, cwd=tmp_path)
        assert command.returncode == Exit.FAILED, command.stderr
        assert "unknown which of its changes were refused" in command.stderr


@pytest.mark.parametrize("kind", ["damaged", "junk"])
async def test_a_client_of_the_inbox_learns_that_receipts_may_be_missing(tmp_path: Path, kind: str) -> None:
    """If an event's receipt is unreadable, a client that sends the event again is not told that all of it was applied."""
    event = Event("repo", [remove("never")], id="1")
    async with bootstrapped(tmp_path) as server, Client(server.bus) as client:
        first = await client.publish(event)
        assert (len(first.receipts), first.is_complete) == (1, True)
        ((record, _),) = await change_receipts(server.bus)
    spoil(tmp_path, [record], kind)
    async with rest(tmp_path, whole=True) as server, Client(server.bus) as client:
        again = await client.publish(event)
        assert (again.is_duplicate, again.receipts, again.is_complete) == (True, [], False)


async def test_a_problem_ends_when_the_record_is_gone(tmp_path: Path) -> None:
    """Health reports a skipped record until the log no longer has it."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    await bus.append([*(Message(topics.ARTIFACTS, "k", b"\xff") for _ in range(2))])
    health = Health()
    passed = PassedOver(health, "part")
    for record in await read_all(bus, topics.ARTIFACTS):
        passed.add(record, "it is junk")
    for below, is_problem in ((1, True), (2, False)):
        await bus.trim(topics.ARTIFACTS, 0, below)
        await bus.maintain()
        await passed.drop_gone(bus)
        assert ("part.records" in health.warnings) == is_problem
    await bus.close()


async def test_a_damaged_record_does_not_hide_the_status(tmp_path: Path) -> None:
    """While an unreadable record of artifacts waits for the signer, the status shows that it waits."""
    async with bootstrapped(tmp_path):
        pass
    async with rest(tmp_path) as server:  # no signer runs
        for path in ("a", "b"):
            assert (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact(path)]}))[0] == 202
        waiting = [one for partition in range(PARTITIONS) for one in await read_all(server.bus, topics.ARTIFACTS, partition)]
    spoil(tmp_path, waiting[:1], "damaged")
    async with rest(tmp_path) as server:
        status, answer = await server.ask("GET", "/api/v1/status")
        assert (status, answer["backlog"]) == (200, 1), answer
