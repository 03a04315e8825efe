"""Whatever input arrives, small or large, every other task gets a turn after at most 100 ms of work."""

import asyncio
import copy
import http.client
import io
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from tufline.bus import Message, Position, Reader, Record
from tufline.bus.embedded.bus import open_embedded
from tufline.metadata.target import DEFAULT_RULES
from tufline.records import Remove, Settings, cursor, events, topics
from tufline.records.cursor import Cursor, Task
from tufline.records.routing import Routing
from tufline.runtime.turns import ITEM_BYTES, TURN_BYTES
from tufline_ingest import accept
from tufline_ingest.rest import artifacts as artifact_calls
from tufline_ingest.rest import bulk
from tufline_ingest.rest.schemas.artifacts import AddEnvelope, RemoveRequest
from tufline_testing.loop_turns import turns_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import signature
from tufline_testing.rest import PARTITIONS, Rest, bootstrapped, rest

LIMIT_SECONDS: Final = 0.1
ADD, BULK, TASK, METADATA, BOOTSTRAP = (f"/api/v1/{call}" for call in ("artifacts/", "artifacts/bulk", "task/", "metadata/", "bootstrap/"))
HASHES = {"sha256": "ab" * 32}
GZIP = {"Content-Encoding": "gzip"}
MEGABYTE = 1024 * 1024


class Hostile(NamedTuple):
    """A request, and the correct status of its answer."""

    path: str
    body: Callable[[], bytes]
    status: int
    headers: dict[str, str] = {}  # noqa: RUF012 (never changed)


def gzipped(piece: bytes, times: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()


def artifacts(count: int, last: str = "p/last") -> bytes:
    info = {"length": 1, "hashes": HASHES}
    return json.dumps({"artifacts": [{"path": path, "info": info} for path in (*(f"p/{n}" for n in range(count)), last)]}).encode()


def with_custom(custom: bytes) -> bytes:
    info = b'{"length":1,"hashes":{"sha256":"%s"},"custom":%s}' % (b"ab" * 32, custom)
    return b'{"artifacts":[{"path":"a","info":%s}]}' % info


def unsigned(role: str, junk: Any) -> bytes:
    signed = {"_type": role, "spec_version": "1.0.31", "version": 2, "expires": "2090-01-01T00:00:00Z", "x": junk}
    signed |= {"consistent_snapshot": True, "keys": {}, "roles": {}} if role == "root" else {"targets": {}}
    return json.dumps({"metadata": {role: {"signatures": [], "signed": signed}}}).encode()


LONG_KEY = b'{"%s":[%s]}' % (b"k" * 300_000, b",".join([b"1"] * 300_000))

HOSTILE: dict[str, Hostile] = {
    "root of 13 MB": Hostile(METADATA, lambda: unsigned("root", {f"k{n:06d}": [1, 2, 3] for n in range(600_000)}), 422),
    "root of many values": Hostile(METADATA, lambda: unsigned("root", [{} for _ in range(90_000)]), 422),
    "targets of many values": Hostile(METADATA, lambda: unsigned("targets", {f"{n}": "x" * 60 for n in range(90_000)}), 422),
    "a root with too many values": Hostile(METADATA, lambda: unsigned("root", [[] for _ in range(110_000)]), 422),
    "124,000 artifacts, the last is bad": Hostile(ADD, lambda: artifacts(124_000, "../x"), 422),
    "100,000 artifacts": Hostile(ADD, lambda: artifacts(100_000), 202),
    "gzip of newlines": Hostile(BULK, lambda: gzipped(b"\n" * MEGABYTE, 64), 422, GZIP),
    "gzip of one line": Hostile(BULK, lambda: gzipped(b"x" * MEGABYTE, 64), 422, GZIP),
    "gzip of blank lines": Hostile(BULK, lambda: gzipped(b" " * 60_000 + b"\n", 1000), 422, GZIP),
    "gzip of bad lines": Hostile(BULK, lambda: gzipped(b"{}\n" * 100_000, 10), 422, GZIP),
    "gzip of blanks": Hostile(ADD, lambda: gzipped(b" " * MEGABYTE, 64), 413, GZIP),
    "bulk of tiny bad lines": Hostile(BULK, lambda: b"1\n" * 4_000_000, 422),
    "bulk of good lines": Hostile(BULK, lambda: b'{"path":"a","op":"remove"}\n' * 30_000, 202),
    "bulk of lines with a bad custom": Hostile(
        BULK, lambda: (b'{"path":"a","info":{"length":1,"hashes":{},"custom":[%s1]}}\n' % (b"{}," * 3000)) * 1000, 202
    ),
    "custom with a long key": Hostile(ADD, lambda: with_custom(LONG_KEY), 422),
    "custom of 5 million objects": Hostile(ADD, lambda: with_custom(b"[%s{}]" % (b"{}," * 5_000_000)), 422),
    "5 million objects": Hostile(ADD, lambda: b'{"artifacts":[%s{}]}' % (b"{}," * 5_000_000), 422),
    "400,000 objects": Hostile(ADD, lambda: b'{"artifacts":[%s{}]}' % (b"{}," * 400_000), 422),
    "hashes of a million": Hostile(
        ADD, lambda: b'{"artifacts":[{"path":"a","info":{"length":1,"hashes":[%s1]}}]}' % (b"1," * 400_000), 422
    ),
    "path of 15 MB": Hostile(ADD, lambda: b'{"artifacts":[{"path":"%s","info":{"length":1,"hashes":{}}}]}' % (b"x" * 15_000_000), 422),
    "nested a million deep": Hostile(ADD, lambda: b"[" * 1_000_000, 422),
    "bootstrap again, of 12 MB": Hostile(BOOTSTRAP, lambda: b'{"settings":%s' % (b"[" * 12_000_000), 422),
}


def send(url: str, hostile: Hostile, body: bytes) -> tuple[int, bytes]:
    """Send a request from another thread, whose work does not count as the loop's."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    try:
        connection.request("POST", hostile.path, io.BytesIO(body), {**hostile.headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def measure(server: Rest, hostile: Hostile) -> str:
    """Send a request, and return what is wrong with the answer."""
    body = await asyncio.to_thread(hostile.body)

    async def ask() -> tuple[int, bytes]:
        try:
            return await asyncio.to_thread(send, server.url, hostile, body)
        except (BrokenPipeError, ConnectionResetError):
            return hostile.status, b""  # refused before it was sent whole

    (status, answer), longest = await turns_of(ask, LIMIT_SECONDS)
    wrong = [] if status == hostile.status else [f"{status} {answer[:200]!r}"]
    wrong += [f"{longest.seconds:.3f} s in {longest.what}"] if longest.seconds > LIMIT_SECONDS else []
    return ", ".join(wrong)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Rest]:
    """Run only ingest on a log with a repository: only its work is measured."""
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with bootstrapped(tmp_path, bus=log):
        pass
    async with rest(tmp_path, bus=log) as running:
        yield running
    await log.close()


@pytest.mark.slow
async def test_large_targets_signed_key_by_key_do_not_hold_the_loop(tmp_path: Path) -> None:
    """Targets of a megabyte are proposed, signed and accepted while the other tasks of the process wait for less than 100 ms at a time."""
    held = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458")
    targets = copy.deepcopy(held.payload["metadata"]["targets"])
    targets["signed"]["x"] = {f"{n}": ["x" * 30, n] for n in range(20_000)}
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with bootstrapped(tmp_path, bus=log, payload=held.payload):
        pass
    async with rest(tmp_path, bus=log) as server:

        def propose_and_sign() -> list[str]:  # in a thread: what the test does is not the loop's work
            wrong = []
            targets["signed"]["version"] += 1
            following = {**targets, "signatures": [signature(targets, held.targets[0].signer)]}
            second = {"role": "targets", "signature": signature(targets, held.targets[1].signer)}
            for path, request in ((METADATA, {"metadata": {"targets": following}}), (f"{METADATA}sign", second)):
                body = json.dumps(request).encode()
                status, answer = send(server.url, Hostile(path, bytes, 202), body)
                wrong += [] if status == HTTPStatus.ACCEPTED else [f"{path}: {status} {answer[:200]!r}"]
            return wrong

        wrong, longest = await turns_of(partial(asyncio.to_thread, propose_and_sign), LIMIT_SECONDS)
    await log.close()
    assert not wrong, "\n".join(wrong)
    assert longest.seconds <= LIMIT_SECONDS, f"{longest.seconds:.3f} s in {longest.what}"


@pytest.mark.slow
async def test_no_request_holds_the_loop(server: Rest) -> None:
    """A hostile or very large request is answered, and holds up the other tasks of the process for less than 100 ms at a time."""
    wrong = {name: await measure(server, hostile) for name, hostile in HOSTILE.items()}
    assert not {name: what for name, what in wrong.items() if what}


def event(changes: bytes) -> bytes:
    return b'{"specversion":"1.0","id":"i","source":"s","type":"%s","data":{"changes":[%s]}}' % (events.TYPE.encode(), changes)


EVENTS: dict[str, bytes] = {
    "many changes": event(b",".join([b'{"path":"a","op":"remove"}'] * 36_000)),
    "custom with a long key": event(
        b'{"path":"a","info":{"length":1,"hashes":{},"custom":{"%s":[%s1]}}}' % (b"k" * 300_000, b"1," * 300_000)
    ),
    "an invalid event with many objects": b'{"id":[%s{}]}' % (b"{}," * 340_000),
    "no event, nested": b"[" * 1_000_000,
}


async def move(server: Rest, message: Message, receipts: Reader) -> Sequence[Record]:
    """Send an event, and return its receipt."""
    await server.bus.append([message])
    async with asyncio.timeout(120):
        return await receipts.fetch(max_wait=120)


async def test_no_event_holds_the_loop(server: Rest) -> None:
    """A hostile or very large event of the inbox is moved, and holds up the other tasks for less than 100 ms at a time."""
    reader = server.bus.reader(topics.RECEIPTS, 0, 0)
    for name, value in EVENTS.items():
        message = Message(topics.INBOX, "key", value, 0, {"content-type": events.STRUCTURED_TYPE})
        moved, longest = await turns_of(partial(move, server, message, reader), LIMIT_SECONDS)
        assert moved
        assert longest.seconds < LIMIT_SECONDS, (name, longest)
    await reader.close()


async def test_no_task_id_holds_the_loop(server: Rest) -> None:
    """A made-up task id is answered without work, whatever its content."""
    for positions in ({0: [0] * 256}, {0: list(range(2000))}, {0: [2**63]}, {partition: [0] for partition in range(500)}):
        task_id = cursor.encode(Cursor(1, Task.ADD, server.bus.log_id, 1, positions))
        (status, _), longest = await turns_of(partial(server.ask, "GET", f"{TASK}?task_id={task_id}"), LIMIT_SECONDS)
        assert status < 500
        assert longest.seconds < LIMIT_SECONDS, longest


ITEMS: Final = 5000
PATHS: Final = [f"p/{number}" for number in range(ITEMS)]


async def take_refused_lines(most_bytes: int) -> None:
    """Read lines of which none reaches the log, so that only the reading of lines can let other tasks run."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}\n" * ITEMS

    async def append(_: object) -> Sequence[Position]:
        raise AssertionError("no line is a change")

    await bulk.take_lines(chunks(), most_bytes, DEFAULT_RULES, append, bulk.BulkOutcome())


LONG_WORK: dict[str, Callable[[], Awaitable[object]]] = {
    "artifacts of a request": lambda: artifact_calls.make_adds(msgspec.json.decode(artifacts(ITEMS), type=AddEnvelope), DEFAULT_RULES),
    "paths of a request": lambda: artifact_calls.make_removes(RemoveRequest(PATHS)),
    "records of changes": lambda: accept.make_messages(map(Remove, PATHS), Routing(Settings(4, "bins", 2, {}).partitioning), 0),
    "lines of a bulk request": lambda: take_refused_lines(MEGABYTE),
    "lines that are too long": lambda: take_refused_lines(1),
}


@pytest.mark.parametrize("work", LONG_WORK.values(), ids=LONG_WORK)
async def test_long_work_gives_other_tasks_their_turn(work: Callable[[], Awaitable[object]]) -> None:
    """While many items are processed, other tasks run each time that one turn's share of bytes is done, however fast the machine is."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    try:
        await work()
    finally:
        task.cancel()
    assert turns >= ITEMS * ITEM_BYTES // TURN_BYTES - 1
