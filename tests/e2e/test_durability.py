"""Acknowledged records survive SIGKILL, and a loss of power on a disk that keeps only synced data."""

import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.origin.store import TIMESTAMP
from tufline.records import topics
from tufline_testing.log import read_all
from tufline_testing.power_loss import Call, Disk, record

pytestmark = pytest.mark.slow

PARTITIONS = 2
CRASHES = 150

APPENDING = """
import asyncio, itertools, os, sys
from pathlib import Path
from tufline.records import topics
from tufline.bus import Message
from tufline.bus.embedded import schema
from tufline.bus.embedded.bus import open_embedded

path, first, count, checkpoint, sync = Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5]
schema.CHECKPOINT_PAGES = checkpoint

async def main():
    bus = await open_embedded(path, topics.topics(2))
    bus._log._db.execute(f"PRAGMA synchronous = {sync}")
    async def transactions(name):
        writer = await bus.writer(name)
        for number in itertools.count(first) if count == 0 else range(first, first + count):
            key, value = f"{name}.{number}", f"{name}.{number}".encode() * (1 + 97 * number % 700)
            def then(positions):
                return [Message(topics.HEADS, key, value, number % 2), Message(topics.RECEIPTS, key, value, 1)]
            await writer.commit([Message(topics.METADATA, key, value)], then)
            os.write(1, f"ack {key}\\n".encode())
    await asyncio.gather(*(transactions(name) for name in ("a", "b", "c")))
    os._exit(0)

asyncio.run(main())
"""

PUBLISHING = """
import asyncio, hashlib, json, os, sys
from pathlib import Path
from tufline.origin.directory import LocalStore

class Forgetful(LocalStore):
    async def flush(self):
        pass

async def main():
    store = (Forgetful if sys.argv[2] == "OFF" else LocalStore)(Path(sys.argv[1]))
    for number in range(1, 13):
        files = {f"{number}.bins-{other}.json": f"{number}/{other}".encode() * 400 for other in range(6)}
        await store.put_many(files.items())
        await store.flush()
        named = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        content = json.dumps({"version": number, "named": named}).encode()
        await store.replace("timestamp.json", content, expected=await store.get("timestamp.json"))
        os.write(1, f"ack {number}\\n".encode())

asyncio.run(main())
"""


def acks(output: bytes) -> set[str]:
    """Read what was acknowledged; a truncated line does not count."""
    return {line.decode().removeprefix("ack ") for line in output.split(b"\n")[:-1]}


async def check_log(path: Path, acknowledged: set[str], context: str) -> int:
    """Check that a log has everything acknowledged and only whole transactions, and accepts more; count its transactions."""
    bus = await open_embedded(path, topics.topics(PARTITIONS), threads=False)
    try:
        metadata = await read_all(bus, topics.METADATA)
        heads = [record for partition in range(PARTITIONS + 1) for record in await read_all(bus, topics.HEADS, partition)]
        receipts = [record for partition in range(PARTITIONS) for record in await read_all(bus, topics.RECEIPTS, partition)]
        keys = [sorted(record.key for record in some) for some in (metadata, heads, receipts)]
        assert keys[0] == keys[1] == keys[2], f"half a transaction ({context})"
        assert len(set(keys[0])) == len(keys[0]), f"twice ({context})"
        assert acknowledged <= set(keys[0]), f"lost {sorted(acknowledged - set(keys[0]))} ({context})"
        assert all(record.value.startswith(record.key.encode()) for record in metadata), context
        assert [record.offset for record in metadata] == list(range(len(metadata))), context
        (position,) = await bus.append([Message(topics.METADATA, "next", b"next")])
        assert position.offset == len(metadata), context
    finally:
        await bus.close()
    return len(keys[0])


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_keeps_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """After being killed at any moment, repeatedly, the log has everything that it acknowledged, and only whole transactions."""
    chance = random.Random(seed)
    path, copy = tmp_path / "log.db", tmp_path / "copy"
    acknowledged: set[str] = set()
    for life in range(6):
        command = [sys.executable, "-c", APPENDING, str(path), str(life * 1_000_000), "0", str(chance.choice([4, 50, 4000])), "FULL"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"ack "), f"seed {seed}"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            acknowledged |= acks(process.stdout.read())
        copy.mkdir()
        for file in tmp_path.glob("log.db*"):
            shutil.copy(file, copy)
        asyncio.run(check_log(copy / "log.db", acknowledged, f"seed {seed}, life {life}"))
        shutil.rmtree(copy)
    assert acknowledged


def crashes(calls: list[Call], directory: Path, seed: int) -> list[tuple[int, set[str], Path]]:
    """Lose the power at random moments: return each moment, what was acknowledged before it, and what is on the disk."""
    chance = random.Random(seed)
    moments = set(chance.sample(range(len(calls)), min(CRASHES, len(calls))))
    disk, acknowledged, found = Disk(directory), set[str](), []
    for number, call in enumerate(calls):
        if call.name == "write" and call.data.startswith(b"ack "):
            acknowledged.add(call.data.decode().split()[1])
        disk.play(call)
        if number in moments:
            target = directory.with_name(f"crash{number}")
            disk.lose_power(target, chance)
            found.append((number, set(acknowledged), target))
    return found


def lossy_log(tmp_path: Path, seed: int, sync: str) -> list[tuple[int, set[str], Path]]:
    """Let a process append to a log on a simulated disk, which then loses its power."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = [sys.executable, "-c", APPENDING, str(directory / "log.db"), "0", "12", "20", sync]
    calls = record(command, tmp_path / "trace")
    assert sum(call.name in {"fsync", "fdatasync"} for call in calls) > 3
    return crashes(calls, directory, seed)


def check_logs(lost: list[tuple[int, set[str], Path]], context: str) -> int:
    """Check the log after each crash, and return the largest number of transactions."""
    most = 0
    for number, acknowledged, left in lost:
        if not (left / "log.db").exists():
            assert not acknowledged, f"the file is lost ({context}, call {number})"
            continue
        most = max(most, asyncio.run(check_log(left / "log.db", acknowledged, f"{context}, call {number}")))
    return most


@pytest.mark.parametrize("seed", range(2))
def test_power_loss_keeps_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """On a disk that loses any part of unsynced data, the log recovers everything that it acknowledged, in whole transactions."""
    most = check_logs(lossy_log(tmp_path, seed, "FULL"), f"seed {seed}")
    assert most > 20, "the crashes came too early to say anything"


def test_power_loss_finds_a_log_that_does_not_sync(tmp_path: Path) -> None:
    """The same check fails for a log whose commits are not synced, so it would detect a loss."""
    with pytest.raises(Exception, match=r"lost|half|twice|malformed|log\.db"):
        check_logs(lossy_log(tmp_path, 0, "OFF"), "without syncs")


def check_origin(left: Path, acknowledged: set[str], context: str) -> None:
    """Check that a timestamp is whole, not older than the acknowledged one, and that all files it names are there."""
    last = max(map(int, acknowledged), default=0)
    timestamp = left / TIMESTAMP
    if not timestamp.exists():
        assert last == 0, f"the timestamp is lost ({context})"
        return
    said = json.loads(timestamp.read_bytes())
    assert said["version"] >= last, f"went back ({context})"
    for name, digest in said["named"].items():
        assert (left / name).exists(), f"{name} is lost ({context})"
        assert sha256((left / name).read_bytes()).hexdigest() == digest, f"{name} is damaged ({context})"


def check_origins(lost: list[tuple[int, set[str], Path]], context: str) -> None:
    """Check the origin after each crash."""
    for number, acknowledged, left in lost:
        check_origin(left, acknowledged, f"{context}, call {number}")


def lossy_origin(tmp_path: Path, seed: int, sync: str) -> list[tuple[int, set[str], Path]]:
    """Let a process publish to an origin on a simulated disk, which then loses its power."""
    directory = tmp_path / "disk"
    directory.mkdir()
    return crashes(record([sys.executable, "-c", PUBLISHING, str(directory), sync], tmp_path / "trace"), directory, seed)


@pytest.mark.parametrize("seed", range(2))
def test_power_loss_never_leaves_a_timestamp_without_its_files(tmp_path: Path, seed: int) -> None:
    """On a disk that loses unsynced data, an existing timestamp is whole, and so is every file that it names."""
    check_origins(lossy_origin(tmp_path, seed, "FULL"), f"seed {seed}")


def test_power_loss_finds_an_origin_that_does_not_sync(tmp_path: Path) -> None:
    """The same check fails for an origin that is not flushed before the timestamp, so it would detect a loss."""
    with pytest.raises(AssertionError, match=r"lost|damaged"):
        check_origins(lossy_origin(tmp_path, 0, "OFF"), "without syncs")
