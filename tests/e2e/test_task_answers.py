"""The status of tasks: every result is reported, every id is answered, and neither costs much."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import tufline.metadata.bins
from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Message, Reader, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.records import cursor, topics
from tufline.records.cursor import Cursor, Task
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt
from tufline.views.task_receipts import FoundReceipts
from tufline_ingest import accept
from tufline_ingest.rest import bulk_tasks
from tufline_ingest.rest.task_receipts import TaskReceipts
from tufline_ingest.views import recent_requests
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, Rest, artifact, bootstrapped, lose, rest

ARTIFACTS, DELETE, BULK, TASK = "/api/v1/artifacts/", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/task/?task_id="

ROOM = 6_000
"""The size limit of a bin, in bytes; it is so small that few artifacts fill all bins."""

BIG = {"k": "x" * 3_000}


@dataclass
class CountingBus:
    """A bus that counts how many bytes of each topic are read."""

    bus: EmbeddedBus
    counted: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return CountingReader(self.bus.reader(topic, partition, offset), topic, self.counted)


@dataclass
class CountingReader:
    """A reader of a ``CountingBus``."""

    reader: Reader
    topic: str
    counted: Counter[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        batch = await self.reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        self.counted[self.topic] += sum(len(record.value) for record in batch)
        return batch


def lines(artifacts: Sequence[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in artifacts)


def large(count: int) -> list[dict[str, Any]]:
    """Make artifacts so large that bins of ``ROOM`` bytes hold about fifty."""
    return [artifact(f"p/{number}", custom={"k": "x" * 500}) for number in range(count)]


async def done(server: Rest, path: str, body: Any) -> dict[str, Any]:
    """Send a request and wait for the task's data."""
    status, answer = await server.ask("POST", path, body)
    assert status == 202, answer
    return await server.task(answer["data"]["task_id"])


async def is_live(server: Rest, path: str) -> bool:
    return (await server.ask("GET", f"{ARTIFACTS}{path}"))[0] == 200


async def pages(server: Rest, task_id: str) -> list[dict[str, Any]]:
    """Read all pages of a bulk task."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        status, answer = await server.ask("GET", TASK + task_id + after)
        assert status == 200, answer
        found.append(answer["data"]["result"]["details"])
        if "after" not in found[-1]:
            return found
        after = f"&after={found[-1]['after']}"


async def test_a_bulk_task_names_what_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk task with changes that were refused is ERRORED, counts them, and names each once, page by page; all others are live."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", ROOM)
    monkeypatch.setattr(bulk_tasks, "PAGE_REFUSALS", 7)
    monkeypatch.setattr("tufline_ingest.rest.bulk.BATCH_LINES", 40)
    sent = large(150)
    async with bootstrapped(tmp_path) as server:
        fine = await done(server, BULK, lines([artifact("fine"), {"path": "never", "op": "remove"}]))
        assert (fine["state"], fine["result"]["status"]) == ("SUCCESS", True)
        assert fine["result"]["details"] == {"refused": 0, "refused_artifacts": []}
        task = await done(server, BULK, lines(sent))
        assert (task["state"], task["result"]["status"]) == ("ERRORED", False)
        read = await pages(server, task["task_id"])
        refused = [one["path"] for page in read for one in page["refused_artifacts"]]
        assert len(refused) == len(set(refused)) == read[-1]["refused"]
        assert 20 < len(refused) < 150
        assert len(read) > 3
        assert all("needs more bins" in one["reason"] for page in read for one in page["refused_artifacts"])
        live = {one["path"] for one in sent if await is_live(server, one["path"])}
        assert live | set(refused) == {one["path"] for one in sent}
        assert not live & set(refused)
        # Unchanged additions are not refusals, and the other lines are refused again.
        again = await done(server, BULK, lines(sent))
        read = await pages(server, again["task_id"])
        assert sorted(one["path"] for page in read for one in page["refused_artifacts"]) == sorted(refused)
    async with rest(tmp_path) as restarted:
        assert await pages(restarted, again["task_id"]) == read


async def test_pages_are_read_in_bounded_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads no more than its limit, and the next page has what it did not reach."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", ROOM)
    monkeypatch.setattr("tufline_ingest.rest.bulk.BATCH_LINES", 40)
    bus = CountingBus(await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS)))
    async with bootstrapped(tmp_path, bus=bus) as server:
        task = await done(server, BULK, lines(large(150)))
        whole = await pages(server, task["task_id"])
        monkeypatch.setattr(bulk_tasks, "PAGE_BYTES", 1)
        parts = await pages(server, task["task_id"])
        assert len(parts) > len(whole) == 1
        listed = [one for page in parts for one in page["refused_artifacts"]]
        assert listed == whole[0]["refused_artifacts"]
        assert parts[-1]["refused"] == len(listed)
        for after in ("A", "x" * 101, "%C3%A4", parts[0]["after"] + "AA"):
            status, answer = await server.ask("GET", f"{TASK}{task['task_id']}&after={after}")
            assert (status, "after is not from an answer" in answer["detail"]) == (422, True)
    await bus.bus.close()


async def test_few_receipts_are_read_for_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many other receipts there are between a task's acceptance and its own receipts, they are not read."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", 0)
    bus = CountingBus(await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS)))
    async with bootstrapped(tmp_path, bus=bus) as server:
        tasks = []
        for number in range(12):
            body = {"artifacts": [f"never/{number}"]}
            tasks.append((await done(server, DELETE, body))["task_id"])
            others = [ChangeReceipt(offset=0, index=one, path="x" * 200, outcome="unchanged") for one in range(500)]
            for partition in range(PARTITIONS):
                await bus.bus.append([Message(topics.RECEIPTS, "r", records.encode(one), partition) for one in others])
    async with rest(tmp_path, bus=bus) as server:
        bus.counted.clear()
        for number, task in enumerate(tasks):
            data = await server.task(task)
            assert data["result"]["details"] == {"deleted_artifacts": [], "not_found_artifacts": [f"never/{number}"]}
        assert 0 < bus.counted[topics.RECEIPTS] < 12 * 2_000
    await bus.bus.close()


async def test_a_task_without_receipts_reads_no_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forged id with an acceptance time in 1970 costs no more than the true one: only the task's own records are read."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", 0)
    bus = CountingBus(await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS)))
    async with bootstrapped(tmp_path, bus=bus) as server:
        task = await done(server, ARTIFACTS, {"artifacts": [artifact("p")]})
        where = cursor.decode(task["task_id"], bus.bus.log_id)
        (partition,) = where.positions
        others = [ChangeReceipt(offset=1, index=one, path="x" * 200, outcome="unchanged") for one in range(5000)]
        await bus.bus.append([Message(topics.RECEIPTS, "r", records.encode(one), partition) for one in others])
        bus.counted.clear()
        for time in (where.time, 0):
            data = await server.task(cursor.encode(Cursor(1, Task.ADD, where.log, time, where.positions)))
            assert data["result"]["details"]["added_artifacts"] == ["p"]
        assert bus.counted[topics.RECEIPTS] == 0
        assert 0 < bus.counted[topics.ARTIFACTS] < 2_000
    await bus.bus.close()


async def test_a_request_of_many_records_is_answered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records a request has, its answer names each artifact, even if they are read back from the log."""
    monkeypatch.setattr(accept, "MAX_CHANGES_BYTES", 300)
    paths = [f"p/{number}" for number in range(400)]
    async with bootstrapped(tmp_path) as server:
        task = await done(server, ARTIFACTS, {"artifacts": [artifact(path) for path in paths]})
        assert sum(map(len, cursor.decode(task["task_id"], server.bus.log_id).positions.values())) > 256
        assert sorted(task["result"]["details"]["added_artifacts"]) == sorted(paths)
    async with rest(tmp_path) as restarted:
        assert await restarted.task(task["task_id"]) == task


async def test_made_up_ids_are_pending(tmp_path: Path) -> None:
    """A task id that matches nothing on this log, or not a single request, is PENDING without a result, and costs little."""
    bus = CountingBus(await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS)))
    async with bootstrapped(tmp_path, bus=bus) as server:
        log = bus.bus.log_id
        task = await done(server, ARTIFACTS, {"artifacts": [artifact(f"p/{number}") for number in range(50)]})
        await done(server, ARTIFACTS, {"artifacts": [artifact(f"q/{number}") for number in range(50)]})
        bulk = await done(server, BULK, lines([artifact(f"r/{number}") for number in range(50)]))
        in_bulk = cursor.decode(bulk["task_id"], log)
        where = cursor.decode(task["task_id"], log)
        time = where.time
        made_up = {
            "no base64": "%C3%A4%20%00",
            "nothing of ours": "0123456789abcdef0123456789abcdef",
            "not msgpack": "_" * 6000,
            "newer form": cursor.encode(Cursor(9, Task.ADD, log, time, where.positions)),
            "another log": cursor.encode(Cursor(1, Task.ADD, "other", time, where.positions)),
            "far beyond the end": cursor.encode(Cursor(1, Task.ADD, log, time, {0: [10**9]})),
            "an offset beyond 63 bits": cursor.encode(Cursor(1, Task.BULK, log, time, {0: [2**63]})),
            "no such partition": cursor.encode(Cursor(1, Task.ADD, log, time, {99: [0]})),
            "negative partition": cursor.encode(Cursor(1, Task.ADD, log, time, {-1: [0]})),
            "negative offset": cursor.encode(Cursor(1, Task.ADD, log, time, {0: [-5]})),
            "not sorted": cursor.encode(Cursor(1, Task.ADD, log, time, {0: [3, 1]})),
            "no offsets": cursor.encode(Cursor(1, Task.ADD, log, time, {0: []})),
            "time of 2^60": cursor.encode(Cursor(1, Task.BULK, log, 2**60, where.positions)),
            "time of -2^60": cursor.encode(Cursor(1, Task.ADD, log, -(2**60), where.positions)),
            "the offset of no bootstrap": cursor.encode(Cursor(1, Task.BOOTSTRAP, log, time, {0: [5]})),
            "update of partition 1": cursor.encode(Cursor(1, Task.METADATA, log, time, {1: [0]})),
            "the offset of no signature": cursor.encode(Cursor(1, Task.SIGN, log, time, {0: [0]})),
            "signature of partition 1": cursor.encode(Cursor(1, Task.SIGN, log, time, {1: [0]})),
            "the offset of no withdrawal": cursor.encode(Cursor(1, Task.WITHDRAW, log, time, {0: [0]})),
            "two requests": cursor.encode(Cursor(1, Task.ADD, log, time, {0: [0, 1]})),
            "a bulk request's record": cursor.encode(Cursor(1, Task.ADD, log, time, {0: [in_bulk.positions[0][0]]})),
            "bulk of another name": cursor.encode(Cursor(2, Task.BULK, log, time, in_bulk.positions, "0" * 32)),
        }
        bus.counted.clear()
        for name, task_id in made_up.items():
            status, answer = await server.ask("GET", TASK + task_id)
            assert (status, answer["data"].get("state"), "result" in answer["data"]) == (200, "PENDING", False), name
        assert bus.counted[topics.ARTIFACTS] < 100_000
        for task_id in ("", "A" * 6001):
            assert (await server.ask("GET", TASK + task_id))[0] == 422
    await bus.bus.close()


async def test_a_record_that_is_gone_is_pending(tmp_path: Path) -> None:
    """Nothing is claimed about a task whose records are no longer kept."""
    async with bootstrapped(tmp_path) as server:
        task = await done(server, ARTIFACTS, {"artifacts": [artifact("p")]})
        (partition,) = cursor.decode(task["task_id"], server.bus.log_id).positions
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    await bus.trim(topics.ARTIFACTS, partition, 1)
    await bus.maintain()
    async with rest(tmp_path, bus=bus) as restarted:
        async with asyncio.timeout(30):
            while (answer := (await restarted.ask("GET", TASK + task["task_id"]))[1]["data"])["state"] == "RUNNING":
                pass
        assert answer == {"task_id": task["task_id"], "state": "PENDING"}
    await bus.close()


async def test_a_record_that_could_not_be_applied_is_errored(tmp_path: Path) -> None:
    """A task whose record the signer could not read, or found lost, is ERRORED with that reason, although its paths are unknown."""
    async with bootstrapped(tmp_path) as server:
        positions = await server.bus.append([Message(topics.ARTIFACTS, "r", b'{"changes":7}', 1)])
        task = await server.task(cursor.encode(accept.make_cursor(Task.ADD, server.bus.log_id, positions)))
        assert (task["state"], task["result"]["details"]) == ("ERRORED", {})
        assert "is not valid in any schema version" in task["result"]["error"]


@pytest.mark.parametrize("is_last_lost", [False, True])
async def test_a_bulk_task_whose_records_were_lost_is_errored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_last_lost: bool) -> None:
    """Records of a bulk task that were lost before they were applied are refused changes: the task is not reported as done."""
    monkeypatch.setattr("tufline_ingest.rest.bulk.BATCH_LINES", 20)
    async with bootstrapped(tmp_path):
        pass
    async with rest(tmp_path) as server:  # no signer runs
        _, answer = await server.ask("POST", BULK, lines([artifact(f"p/{number}") for number in range(100)]))
        task_id = answer["data"]["task_id"]
        first, last = cursor.decode(task_id, server.bus.log_id).positions[1]
    below = last + 1 if is_last_lost else first + 1
    await lose(tmp_path, 1, below)
    async with rest(tmp_path, whole=True) as server:
        task = await server.task(task_id)
        assert (task["state"], task["result"]["status"]) == ("ERRORED", False)
        found = [one for page in await pages(server, task_id) for one in page["refused_artifacts"]]
        assert [one["path"] for one in found] == [""] * (below - first)
        assert all("was lost from the log" in one["reason"] for one in found)


async def test_an_id_of_records_that_are_gone_looks_for_one_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id of thousands of records, the first of which is gone or belongs to another request, does not cause a lookup for each."""
    looks = Counter[int]()
    read_receipts = TaskReceipts.of

    async def counted(self: TaskReceipts, partition: int, offsets: Sequence[int], index: ReceiptIndex, request: str = "") -> FoundReceipts:
        looks[partition] += len(offsets)
        return await read_receipts(self, partition, offsets, index, request)

    monkeypatch.setattr(TaskReceipts, "of", counted)
    async with bootstrapped(tmp_path) as server:
        for number in range(3):
            await done(server, ARTIFACTS, {"artifacts": [artifact(f"{number}/{one}") for one in range(20)]})
        log = server.bus.log_id
        looks.clear()
        for offsets in ([0, 1, 2], [1, 2]):
            task_id = cursor.encode(Cursor(1, Task.ADD, log, 0, {1: offsets}))
            assert (await server.ask("GET", TASK + task_id))[1]["data"]["state"] == "PENDING"
        assert looks.total() == 0
        await server.bus.trim(topics.ARTIFACTS, 1, 2)
    async with rest(tmp_path) as restarted:
        await restarted.bus.maintain()  # type: ignore[attr-defined]
    async with rest(tmp_path) as restarted:
        task_id = cursor.encode(Cursor(1, Task.ADD, log, 0, {1: [0, 1, 2]}))
        async with asyncio.timeout(30):
            while (await restarted.ask("GET", TASK + task_id))[1]["data"]["state"] == "RUNNING":
                pass
        assert looks.total() == 1


async def test_results_are_those_of_rstuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ended without success is ERRORED; nulls are left out; a path that is named twice is reported once."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", len(BIG["k"]))
    async with bootstrapped(tmp_path) as server:
        await done(server, ARTIFACTS, {"artifacts": [artifact("a"), artifact("b")]})
        removed = await done(server, DELETE, {"artifacts": ["a", "never", "a", "never"]})
        assert removed["state"] == "SUCCESS"
        assert removed["result"]["details"] == {"deleted_artifacts": ["a"], "not_found_artifacts": ["never"]}
        assert "error" not in removed["result"]
        twice = await done(server, ARTIFACTS, {"artifacts": [artifact("c", 1), artifact("c", 2)]})
        assert twice["result"]["details"]["added_artifacts"] == ["c"]
        some = await done(server, ARTIFACTS, {"artifacts": [artifact("d"), artifact("big", custom=BIG)]})
        assert (some["state"], some["result"]["status"]) == ("SUCCESS", True)
        assert (some["result"]["details"]["added_artifacts"], some["result"]["details"]["invalid_paths"]) == (["d"], ["big"])
        assert [(one["path"], "needs more bins" in one["reason"]) for one in some["result"]["details"]["refused_artifacts"]] == [
            ("big", True)
        ]
        none = await done(server, ARTIFACTS, {"artifacts": [artifact("big", custom=BIG)]})
        assert (none["state"], none["result"]["status"]) == ("ERRORED", False)
        assert "needs more bins" in none["result"]["error"]


async def test_an_unreadable_record_of_others_stops_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts that no version can read are skipped, even among those of a task."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", 0)
    async with bootstrapped(tmp_path) as server:
        for partition in range(PARTITIONS):
            await server.bus.append([Message(topics.RECEIPTS, "x", b"\xff no receipt", partition)])
        task = await done(server, DELETE, {"artifacts": ["never"]})
        assert task["result"]["details"]["not_found_artifacts"] == ["never"]


async def test_a_timeout_of_null_is_accepted(tmp_path: Path) -> None:
    """RSTUF's clients may send a bootstrap without a timeout as null."""
    payload = make_bootstrap(tmp_path / "keys").payload | {"timeout": None}
    async with rest(tmp_path) as server:
        assert (await server.ask("POST", "/api/v1/bootstrap/", payload))[0] == 202
