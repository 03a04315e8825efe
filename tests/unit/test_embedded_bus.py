"""What the embedded bus promises beside the contract: one process, one file, a disk that may be full."""

import asyncio
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tufline import topics
from tufline.bus import Message, Record
from tufline.bus.embedded import EmbeddedBus, open_embedded
from tufline.errors import BusBusyError, ConfigError, PushbackError

TOPICS = topics.topics(2)


async def read(bus: EmbeddedBus, topic: str, partition: int) -> list[Record]:
    reader = bus.reader(topic, partition, 0)
    found: list[Record] = []
    while batch := await reader.fetch(max_wait=0):
        found += batch
    return found


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A log that is open can't be opened again, and can once it is closed."""
    bus = await open_embedded(tmp_path / "log.db", TOPICS)
    with pytest.raises(BusBusyError, match="open in another process"):
        await open_embedded(tmp_path / "log.db", TOPICS)
    await bus.close()
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()


async def test_partitions_are_fixed(tmp_path: Path) -> None:
    """A log made with other partitions is refused with both numbers, and left as it is."""
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()
    with pytest.raises(ConfigError, match=r"has 2 partitions of artifacts, and bus\.partitions asks for 3"):
        await open_embedded(tmp_path / "log.db", topics.topics(3))
    await (await open_embedded(tmp_path / "log.db", TOPICS)).close()


@pytest.mark.parametrize(
    "content", [b"this is no database, but it is long enough to be looked at " * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_file_that_is_no_log(tmp_path: Path, content: bytes) -> None:
    """A file that is no log is refused, and left as it is."""
    (tmp_path / "log.db").write_bytes(content)
    with pytest.raises(ConfigError, match="can't be opened as a log"):
        await open_embedded(tmp_path / "log.db", TOPICS)
    assert (tmp_path / "log.db").read_bytes() == content


async def test_clock_that_goes_back(tmp_path: Path) -> None:
    """Times of a partition's records never go back, though the clock does, and though the log was reopened in between."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    for hours in (0, -5, 1, -9):
        bus = await open_embedded(tmp_path / "log.db", TOPICS, clock=lambda at=now + timedelta(hours=hours): at)  # type: ignore[misc]
        await bus.append([Message(topics.ARTIFACTS, "k", b"v")])
        times = [record.time for record in await read(bus, topics.ARTIFACTS, 0)]
        assert times == sorted(times)
        await bus.close()


@pytest.mark.parametrize("threads", [True, False])
async def test_full_disk_loses_nothing(tmp_path: Path, threads: bool) -> None:
    """On a full disk appending is refused, by a sentence that says so; what was acknowledged stays, and it goes on when there is room."""
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
    assert "is full: make room" in full
    with pytest.raises(PushbackError):
        await writer.commit([Message(topics.ARTIFACTS, "k", b"y" * 50_000)])
    assert len(await read(bus, topics.ARTIFACTS, 0)) == accepted > 5
    bus._log._db.execute("PRAGMA max_page_count = 1000000")
    (position,) = await writer.commit([Message(topics.ARTIFACTS, "k", b"z")])
    found = await read(bus, topics.ARTIFACTS, 0)
    assert len(found) == accepted + 1
    assert found[-1].offset == position.offset
    await bus.close()


async def test_group_commit(tmp_path: Path) -> None:
    """Many who append at once share commits: there are far fewer commits than appends."""
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


CHILD = """
import asyncio, sys
from pathlib import Path
from tufline import topics
from tufline.bus import Message
from tufline.bus.embedded import open_embedded

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
    """Kill an appending process after some lines of its output, and give all of it."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        return acknowledged + child.stdout.readlines()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_acknowledged_survives_sigkill(tmp_path: Path, seed: int) -> None:
    """After SIGKILL at a random moment every acknowledged record is there once, at its offset, and every transaction is whole."""
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
