"""Guarantees of the embedded bus beyond the contract: one process, one file, and a disk that may be full."""

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tufline.bus import Message, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.bus.embedded.tails import Tails, cost
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusBusyError, BusError, ConfigError, PushbackError
from tufline.records import topics

TOPICS = topics.topics(2)


async def read(bus: EmbeddedBus, topic: str, partition: int) -> list[Record]:
    reader = bus.reader(topic, partition, 0)
    found: list[Record] = []
    while batch := await reader.fetch(max_wait=0):
        found += batch
    return found


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A log can't be opened while it is open, but can be once it is closed."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    with pytest.raises(BusBusyError, match="open in another process"):
        await open_embedded(tmp_path / "log.db", TOPICS)
    await bus.close()
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()


async def test_commits_are_synced(tmp_path: Path) -> None:
    """SQLite syncs every commit, on new and old logs; only a loss of power, not a killed process, would reveal a missing sync."""
    for _ in range(2):
        bus = await open_embedded(tmp_path / "log.db", TOPICS)
        modes = [bus._log._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert modes == ["wal", 2]
        await bus.close()


async def test_partitions_are_fixed(tmp_path: Path) -> None:
    """A log made with other partitions is refused with both numbers, and left as it is."""
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()
    with pytest.raises(ConfigError, match=r"has 2 partitions of artifacts, but bus\.partitions asks for 3"):
        await open_embedded(tmp_path / "log.db", topics.topics(3))
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()


@pytest.mark.parametrize(
    "content", [b"this is no database, but it is long enough to be looked at " * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_a_file_that_is_not_a_log_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is not a log is refused and left unchanged."""
    (tmp_path / "log.db").write_bytes(content)
    with pytest.raises(ConfigError, match="can't be opened as a log"):
        await open_embedded(tmp_path / "log.db", TOPICS)
    assert (tmp_path / "log.db").read_bytes() == content


async def test_clock_that_goes_back(tmp_path: Path) -> None:
    """Times of a partition's records never go back, even if the clock does and the log was reopened in between."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    for hours in (0, -5, 1, -9):
        bus = await open_embedded(tmp_path / "log.db", TOPICS, clock=lambda at=now + timedelta(hours=hours): at)  # type: ignore[misc]
        await bus.append([Message(topics.ARTIFACTS, "k", b"v")])
        times = [record.time for record in await read(bus, topics.ARTIFACTS, 0)]
        assert times == sorted(times)
        await bus.close()


@pytest.mark.parametrize("threads", [True, False])
async def test_full_disk_loses_nothing(tmp_path: Path, threads: bool) -> None:
    """On a full disk appends are refused with a clear message; acknowledged records stay, and appends work again once there is space."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS, threads=threads)
    writer = await bus.writer("w")
    pages = bus._log._db.execute("PRAGMA page_count").fetchone()[0]
    bus._log._db.execute(f"PRAGMA max_page_count = {pages + 200}")
    accepted = 0
    full = ""
    while not full:
        try:
            await bus.append([Message(topics.ARTIFACTS, "k", b"x" * 50_000)])
            accepted += 1
        except PushbackError as error:
            full = str(error)
    assert "is full: free some space" in full
    with pytest.raises(PushbackError):
        await writer.commit([Message(topics.ARTIFACTS, "k", b"y" * 50_000)])
    assert len(await read(bus, topics.ARTIFACTS, 0)) == accepted > 5
    bus._log._db.execute("PRAGMA max_page_count = 1000000")
    (position,) = await writer.commit([Message(topics.ARTIFACTS, "k", b"z")])
    found = await read(bus, topics.ARTIFACTS, 0)
    assert len(found) == accepted + 1
    assert found[-1].offset == position.offset
    await bus.close()


async def test_operations_that_arrive_during_a_commit_are_in_the_next_one(tmp_path: Path) -> None:
    """Records submitted while the disk is busy are committed right afterwards, even without further appends."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    busy, free = threading.Event(), threading.Event()

    def slow() -> int:
        busy.set()
        free.wait(20)
        return 0

    first = asyncio.create_task(bus._submit(slow, 0))
    assert await asyncio.to_thread(busy.wait, 20)
    second = asyncio.create_task(bus.append([Message(topics.ARTIFACTS, "k", b"v")]))
    await asyncio.sleep(0)
    free.set()
    async with asyncio.timeout(20):
        await asyncio.gather(first, second)
    await bus.close()


async def test_group_commit(tmp_path: Path) -> None:
    """Concurrent appends share commits: there are far fewer commits than appends."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    commits = 0
    execute = bus._log.execute

    def counting(operations):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        nonlocal commits
        commits += 1
        return execute(operations)

    bus._log.execute = counting  # type: ignore[method-assign]
    await asyncio.gather(*(bus.append([Message(topics.ARTIFACTS, "k", b"v")]) for _ in range(500)))
    assert commits < 20
    await bus.close()


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "100%25#1.db", "ä;x.db"])
async def test_any_file_name(tmp_path: Path, name: str) -> None:
    """A log can have any name, in a directory that is made for it."""
    path = tmp_path / "some" / "where" / name
    for number in range(2):
        bus = await open_embedded(path, TOPICS)
        assert len(await read(bus, topics.ARTIFACTS, 0)) == number
        await bus.append([Message(topics.ARTIFACTS, "k", b"v")])
        await bus.close()
    assert path.is_file()


async def test_a_place_that_can_not_hold_a_log_is_refused(tmp_path: Path) -> None:
    """If the file can't be created, the error names the setting to change."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"choose another path in bus\.url"):
        await open_embedded(tmp_path / "file" / "log.db", TOPICS)


@pytest.mark.parametrize("version", [0, 1, 77])
async def test_file_of_somebody_else(tmp_path: Path, version: int) -> None:
    """A SQLite file that is not a log, or has another form, is refused and gets no tables."""
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db:
        db.executescript(f"CREATE TABLE theirs (a); PRAGMA user_version = {version};")
    with pytest.raises(ConfigError, match="not a log that this version"):
        await open_embedded(tmp_path / "log.db", TOPICS)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_topics_come_and_go(tmp_path: Path) -> None:
    """A topic that is missing in the configuration keeps its records, and new topics do not get its place."""
    named = [{name: Topic(name, 3, Cleanup.KEEP)} for name in "abc"]
    for number, some in enumerate([named[0], named[1], named[2], named[0] | named[1] | named[2]]):
        bus = await open_embedded(tmp_path / "log.db", some)
        await bus.append([Message(name, "k", f"{name}{number}".encode(), 2) for name in some])
        found = {name: [record.value.decode() for record in await read(bus, name, 2)] for name in some}
        await bus.close()
    assert found == {"a": ["a0", "a3"], "b": ["b1", "b3"], "c": ["c2", "c3"]}


async def test_lag_counts_from_the_newer_record(tmp_path: Path) -> None:
    """An old version of a role stays for the lag after a newer one arrives, however old it is, because a snapshot may still name it."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    bus = await open_embedded(tmp_path / "log.db", TOPICS, clock=lambda: now, threads=False)
    for _ in range(2):
        await bus.append([Message(topics.METADATA, "bins-0", b"x")])
        now += timedelta(days=3)
    now += timedelta(seconds=topics.COMPACTION_LAG_SECONDS - 1) - timedelta(days=3)
    for left in (2, 1):
        await bus.maintain()
        assert bus._log._db.execute("SELECT count(*) FROM records").fetchone() == (left,)
        now += timedelta(seconds=2)
    await bus.close()


async def test_maintenance_goes_in_small_steps(tmp_path: Path) -> None:
    """No step of maintenance deletes so much that commits would wait long, with many records as well as with large ones."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    bus = await open_embedded(tmp_path / "log.db", TOPICS, clock=lambda: now, threads=False)
    await bus.append([Message(topics.METADATA, "k", bytes(1_000_000)) for _ in range(20)])
    await bus.append([Message(topics.RECEIPTS, "k", b"", number % 2) for number in range(1000)])
    now += timedelta(days=10)
    steps: list[int] = []
    while step := await bus._submit(bus._log.maintain, 0):
        steps.append(step)
    assert steps[:3] == [8, 8, 3]
    assert sum(steps[3:]) == 1000
    assert max(steps) <= 200
    await bus.close()


async def test_transaction_is_not_read_from_the_file_early(tmp_path: Path) -> None:
    """A reader that is behind and reads the file sees a transaction as readers from memory do: not at all, or whole."""
    first, second = Message(topics.ARTIFACTS, "k", b"v"), Message(topics.RECEIPTS, "k", b"v")
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    await bus.append([first, second])
    await bus.close()
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    writer = await bus.writer("w")
    held: list[Any] = []
    finish = bus._commits._finish
    bus._commits._finish = lambda *arguments: held.append(arguments)  # type: ignore[method-assign]
    writing = asyncio.create_task(writer.commit([first, second]))
    async with asyncio.timeout(20):
        while not held:
            await asyncio.sleep(0.001)
    counts = [len(await read(bus, topic, 0)) for topic in (topics.ARTIFACTS, topics.RECEIPTS)]
    assert counts == [1, 1]
    bus._commits._finish = finish  # type: ignore[method-assign]
    finish(*held[0])
    await writing
    counts = [len(await read(bus, topic, 0)) for topic in (topics.ARTIFACTS, topics.RECEIPTS)]
    assert counts == [2, 2]
    await bus.close()


@pytest.mark.parametrize("threads", [True, False])
async def test_failed_batch_leaves_nothing(tmp_path: Path, threads: bool) -> None:
    """If a batch fails unexpectedly, all its callers get an error and nothing of it stays; the next batch succeeds."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS, threads=threads)
    message = Message(topics.METADATA, "k", b"v")
    await bus.append([message])
    writer = await bus.writer("w")

    def fail() -> int:
        raise ZeroDivisionError

    batch = [bus.append([message]), writer.commit([message]), bus.writer("w"), bus._submit(fail, 0)]
    results = await asyncio.gather(*batch, return_exceptions=True)
    assert [type(result) for result in results] == [BusError] * 4
    (position,) = await writer.commit([message])
    assert [record.offset for record in await read(bus, topics.METADATA, 0)] == [0, 1] == [0, position.offset]
    assert bus._log._db.execute("SELECT id & 0xff FROM superseded").fetchall() == [(0,)]
    await bus.close()


@pytest.mark.parametrize("seed", range(5))
def test_memory_of_tails_is_bounded(seed: int) -> None:
    """Across all partitions only the newest records up to the limit stay in memory; they are returned without gaps."""
    chance = random.Random(seed)
    places = [("t", number) for number in range(5)]
    tails = Tails(dict.fromkeys(places, 0), 20_000)
    for _ in range(2000):
        place = chance.choice(places)
        tail = tails.append(Record(*place, tails[place].end, 0, "k", bytes(chance.randrange(4000)), {}))
        held = [record for other in places for record in tails[other].records]
        assert sum(map(cost, held)) <= 20_000
        assert tail.records[-1] in held
        offset = chance.randrange(tail.end)
        found = tail.since(offset, 5000)
        if found is None:
            assert offset < tail.records[0].offset
        else:
            assert [record.offset for record in found] == list(range(offset, offset + len(found)))
            assert len(found) == 1 or sum(len(record.value) for record in found) <= 5000


async def test_pushback_when_the_disk_is_slow(tmp_path: Path) -> None:
    """Appends beyond the queue's limit are refused immediately, but transactions are not; once the disk is done, appends work again."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS, max_pending_bytes=100_000)
    writer = await bus.writer("w")
    message = Message(topics.ARTIFACTS, "k", bytes(30_000))
    appends = [bus.append([message]) for _ in range(10)]
    _, *results = await asyncio.gather(writer.commit([message]), *appends, return_exceptions=True)
    assert [isinstance(result, PushbackError) for result in results] == [False] * 3 + [True] * 7
    await bus.append([Message(topics.ARTIFACTS, "k", bytes(200_000))])
    assert len(await read(bus, topics.ARTIFACTS, 0)) == 5
    await bus.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from tufline.records import topics
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded

async def main():
    bus = await open_embedded(Path(sys.argv[1]), topics.topics(2))
    writer = await bus.writer("w")

    async def work(task):
        number = 0
        while True:
            value = f"{task}/{number}".encode()
            if task % 2:
                (position,) = await bus.append([Message(topics.ARTIFACTS, "k", value, task % 2)])
            else:
                position, _ = await writer.commit([Message(topics.ARTIFACTS, "k", value), Message(topics.RECEIPTS, "k", value)])
            print(f"{task} {number} {position.offset}", flush=True)
            number += 1

    await asyncio.gather(work(0), work(1), work(3), work(5))

asyncio.run(main())
"""


def append_until_killed(path: Path, lines: int) -> list[str]:
    """Kill an appending process after some lines of its output, and return the output."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        return acknowledged + child.stdout.readlines()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_acknowledged_survives_sigkill(tmp_path: Path, seed: int) -> None:
    """After SIGKILL at a random moment every acknowledged record exists once, at its offset, and every transaction is whole."""
    lines = random.Random(seed).randrange(1, 600)
    acknowledged = append_until_killed(tmp_path / "log.db", lines)
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    found = {number: await read(bus, topics.ARTIFACTS, number) for number in range(2)}
    receipts = [record.value for record in await read(bus, topics.RECEIPTS, 0)]
    await bus.close()
    by_offset = {(number, record.offset): record.value.decode() for number, some in found.items() for record in some}
    for line in acknowledged:
        task, number, offset = (int(word) for word in line.split())
        assert by_offset[task % 2, offset] == f"{task}/{number}", f"seed {seed}"
    every = [record.value for some in found.values() for record in some]
    assert len(every) == len(set(every)), f"seed {seed}"
    assert receipts == [record.value for record in found[0]], f"seed {seed}"
