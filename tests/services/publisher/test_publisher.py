"""The publisher: whatever happens, the origin's repository is complete, and never goes back."""

import asyncio
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from tufline.bus import Message
from tufline.origin.directory import LocalStore
from tufline.origin.store import OWNER
from tufline.records import Add, Remove, topics
from tufline.records.metadata import VERSION_HEADER
from tufline_testing.log import announce, eventually, read_all
from tufline_testing.origin import FailingAt, Reader, WatchedStore
from tufline_testing.publishing import World, in_world


def test_origin_shows_what_the_log_has(tmp_path: Path) -> None:
    """After any history a client finds what was announced last at the origin, and published records the origin's progress."""

    async def story(world: World) -> None:
        async with world.publisher():
            for number in range(1, 12):
                await world.announce(*(f"p/{other}" for other in range(number)), length=number)
                if number % 3 == 0:
                    await world.published()
            await announce(world.bus, world.bootstrap.settings, [Remove("p/3")])
            assert await world.published() == {f"p/{number}": 11 for number in range(11) if number != 3}
            assert world.problem == ""
        last = await world.last_published()
        assert last is not None
        assert last.origin == "origin"

    in_world(tmp_path, story)


def test_at_every_moment_a_client_succeeds(tmp_path: Path) -> None:
    """Before and after every single operation on the origin a client can refresh and read everything, and nothing goes back."""
    operations: list[str] = []

    async def story(world: World) -> None:
        reader = Reader(world.directory, world.clock)

        def look(operation: str) -> None:
            reader.refresh()
            operations.append(operation)

        store = WatchedStore(LocalStore(world.directory), look, look)
        async with world.publisher(store, superseded_retention=5.0):
            for number in range(1, 15):
                await world.announce(f"p/{number}", "p/always", length=number)
                await asyncio.sleep(number % 4)
            await world.published()
            await asyncio.sleep(100)

    in_world(tmp_path, story)
    names = [operation.split()[0] for operation in operations]
    assert names.count("timestamp") > 10
    assert names.count("delete") > 10


def test_crash_at_any_operation(tmp_path: Path) -> None:
    """Whenever a publisher stops, a client still succeeds, and the next publisher completes the work."""

    async def story(world: World) -> None:
        reader = Reader(world.directory, world.clock)
        number = 0
        crashed = True
        while crashed:
            failing = FailingAt(number)
            store = WatchedStore(LocalStore(world.directory), failing)
            await world.announce(f"p/{number}", f"p/{number % 7}", length=number + 1)
            async with world.publisher(store):
                await world.signed()
                await asyncio.sleep(0.05)
            crashed = failing.failed
            reader.refresh()
            async with world.publisher():
                found = await world.published()
            assert found[f"p/{number}"] == number + 1
            reader.refresh()
            number += 1
        assert number > 8

    in_world(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_unsynced_files_are_put_again(tmp_path: Path, seed: int) -> None:
    """Files uploaded after the last flush may be lost or truncated by a power loss: they are uploaded again before they are named."""
    chance = random.Random(seed)

    async def story(world: World) -> None:
        unsynced: set[str] = set()

        def after(operation: str) -> None:
            if operation.startswith("put "):
                unsynced.add(operation.removeprefix("put "))
            elif operation == "flush":
                unsynced.clear()

        for number in range(1, 12):
            store = WatchedStore(LocalStore(world.directory), FailingAt(chance.randrange(30)), after)
            async with world.publisher(store):
                await world.announce(f"p/{number}", f"p/{number % 5}", length=number)
                await world.signed()
                await asyncio.sleep(chance.choice([0, 0.001, 0.05, 1]))
            for name in unsynced:
                path = world.directory / name
                match chance.randrange(3):
                    case 0:
                        path.unlink(missing_ok=True)
                    case 1:
                        path.write_bytes(b"")
            unsynced.clear()
            Reader(world.directory, world.clock).refresh()
        async with world.publisher():
            assert (await world.published())["p/11"] == 11, f"seed {seed}"

    in_world(tmp_path, story)


def test_lost_files_are_put_back(tmp_path: Path) -> None:
    """Files that are missing at the origin are brought back at the next start, and a new mirror is brought everything."""

    async def story(world: World) -> None:
        async with world.publisher():
            await world.announce("a", "b", "c")
            expected = await world.published()
        for pattern in ("*.bins-*.json", "*.snapshot.json", "timestamp.json", "*"):
            lost = {path.name for path in world.directory.glob(pattern) if path.name[0] != "."}
            for name in lost:
                (world.directory / name).unlink()
            async with world.publisher():
                await eventually(partial(world.has, lost))
                assert await world.published() == expected

    in_world(tmp_path, story)


def test_files_are_durable_before_anything_says_so(tmp_path: Path) -> None:
    """Files that are uploaded again are durable before ``published`` records the progress, even without a new timestamp."""
    operations: list[str] = []

    async def story(world: World) -> None:
        async with world.publisher():
            await world.announce("a", "b", "c")
            await world.published()
        for path in world.directory.glob("*.bins-*.json"):
            path.unlink()
        before = len(await read_all(world.bus, topics.PUBLISHED))
        async with world.publisher(WatchedStore(LocalStore(world.directory), lambda _: None, operations.append)):

            async def said() -> bool:
                return len(await read_all(world.bus, topics.PUBLISHED)) > before

            await eventually(said)
            puts = [number for number, operation in enumerate(operations) if operation.startswith("put ")]
            assert "flush" in operations[puts[-1] :]
            assert "timestamp" not in operations

    in_world(tmp_path, story)


def test_new_mirror_after_compaction(tmp_path: Path) -> None:
    """Weeks later, when most of the log's old versions are gone, an empty directory becomes a whole origin."""

    async def story(world: World) -> None:
        for number in range(1, 20):
            await world.announce(f"p/{number}")
            await world.signed()
            await asyncio.sleep(3600)
        await asyncio.sleep(86_400 * 20)
        async with world.publisher():
            assert len(await world.published()) == 19
        assert (world.directory / "1.root.json").exists()

    in_world(tmp_path, story)


@pytest.mark.parametrize(("is_claimed", "said"), [(True, "belongs to the log"), (False, "not belong to this log")])
def test_foreign_origin_is_left_alone(tmp_path: Path, is_claimed: bool, said: str) -> None:
    """A directory with another repository is not touched, and the publisher reports why until the directory is the right one."""
    (tmp_path / "other").mkdir()

    async def other(world: World) -> None:
        async with world.publisher():
            for number in range(5):
                await world.announce(f"x/{number}")
                await world.published()

    in_world(tmp_path / "other", other)
    if not is_claimed:
        (tmp_path / "other" / "origin" / OWNER).unlink()  # as an earlier version left it
    before = {path.name: path.read_bytes() for path in (tmp_path / "other" / "origin").iterdir()}
    shutil.copytree(tmp_path / "other" / "origin", tmp_path / "origin")

    async def story(world: World) -> None:
        async with world.publisher():
            for number in range(20):
                await world.announce(f"y/{number}")
                await world.signed()
                await asyncio.sleep(1)
            assert said in world.problem
            assert {path.name: path.read_bytes() for path in world.directory.iterdir()} == before
            shutil.rmtree(world.directory)
            world.directory.mkdir()
            assert len(await world.published()) == 20
            assert world.problem == ""

    in_world(tmp_path, story)


def test_timestamp_never_goes_back(tmp_path: Path) -> None:
    """An origin restored from an older state advances again; a log restored from an older state must not revert the origin."""

    async def story(world: World) -> None:
        async with world.publisher():
            await world.announce("a")
            await world.published()
        shutil.copytree(world.directory, tmp_path / "backup")
        async with world.publisher():
            await world.announce("b")
            await world.published()
        shutil.rmtree(world.directory)
        shutil.copytree(tmp_path / "backup", world.directory)
        async with world.publisher():
            assert set(await world.published()) == {"a", "b"}

    in_world(tmp_path, story)


def test_vector_alone_needs_no_new_timestamp(tmp_path: Path) -> None:
    """A commit that only moves the vector is published without touching the origin."""
    operations: list[str] = []

    async def story(world: World) -> None:
        store = WatchedStore(LocalStore(world.directory), operations.append)
        async with world.publisher(store):
            await world.announce("a")
            await world.published()
            before = await world.last_published()
            operations.clear()
            await world.announce("a")
            await world.published()
            after = await world.last_published()
            assert before is not None
            assert after is not None
            assert after.timestamp.version == before.timestamp.version
            assert after.vector.artifacts != before.vector.artifacts
            assert operations == []

    in_world(tmp_path, story)


UNSIGNED = b'{"signatures":[],"signed":{"_type":"targets","expires":"2040-01-01T00:00:00Z","targets":{},"version":7}}'

FORGERIES = {
    "garbage": ("bins-0", b"garbage", "7"),
    "not signed": (
        "bins-0",
        b'{"signatures":[],"signed":{"_type":"targets","expires":"2040-01-01T00:00:00Z","targets":{},"version":7}}',
        "7",
    ),
    "no version": ("bins-0", b"{}", None),
    "root of nonsense": ("2.root", b"{}", "2"),
    "targets of nonsense": ("targets", b"{}", "2"),
    "snapshot of nonsense": ("snapshot", b"{}", "900"),
    "timestamp of nonsense": ("timestamp", b"{}", "900"),
    "role that could leave the directory": ("../bins-0", b"{}", "1"),
}


@pytest.mark.parametrize(("key", "content", "version"), FORGERIES.values(), ids=FORGERIES)
def test_forged_records_are_not_published(tmp_path: Path, key: str, content: bytes, version: str | None) -> None:
    """A file that clients would refuse is never published; the files after it are, and a client always succeeds."""

    async def story(world: World) -> None:
        reader = Reader(world.directory, world.clock)

        def look(_: str) -> None:
            reader.refresh()

        async with world.publisher(WatchedStore(LocalStore(world.directory), look, look)):
            await world.announce("a")
            await world.published()
            headers = {} if version is None else {VERSION_HEADER: version}
            await world.bus.append([Message(topics.METADATA, key, content, headers=headers)])
            await eventually(lambda: asyncio.sleep(0, any("of metadata/0" in text for text in world.health.warnings.values())))
            await announce(world.bus, world.bootstrap.settings, [Add("b", 1, {"sha256": "0" * 64})])
            await eventually(lambda: asyncio.sleep(0, "b" in reader.refresh()))
        assert not any(content == path.read_bytes() for path in world.directory.iterdir())

    in_world(tmp_path, story)


def test_superseded_files_are_deleted_in_time(tmp_path: Path) -> None:
    """A file that nothing published names is deleted after its retention, also across restarts; named files and all roots stay."""

    async def story(world: World) -> None:
        for number in range(1, 10):
            async with world.publisher(superseded_retention=1000.0):
                await world.announce("a", length=number)
                await world.published()
        before = world.names()
        async with world.publisher(superseded_retention=1000.0):
            await asyncio.sleep(900)
            assert world.names() >= before
            await asyncio.sleep(300)
        left = world.names()
        assert left == {"timestamp.json", "1.root.json", "1.targets.json", *(name for name in left if "bins" in name or "snapshot" in name)}
        assert len(left) == 4 + 4
        assert Reader(world.directory, world.clock).refresh() == {"a": 9}

    in_world(tmp_path, story)


def test_failing_store_is_said_and_retried(tmp_path: Path) -> None:
    """While the origin fails the publisher reports why, and it continues once the origin works again."""
    broken = True

    def before(operation: str) -> None:
        if broken:
            raise OSError(28, "No space left on device")

    async def story(world: World) -> None:
        nonlocal broken
        async with world.publisher(WatchedStore(LocalStore(world.directory), before)):
            await world.announce("a")
            await world.signed()
            await asyncio.sleep(60)
            assert "No space left" in world.problem
            broken = False
            assert await world.published() == {"a": 1}
            assert world.problem == ""

    in_world(tmp_path, story)


def test_two_publishers_of_one_origin(tmp_path: Path) -> None:
    """Two publishers of one origin take turns: one works, the other continues when it leaves, and a client always succeeds."""

    async def story(world: World) -> None:
        reader = Reader(world.directory, world.clock)
        for number in range(1, 8):
            async with world.publisher(), world.publisher():
                await world.announce(f"p/{number}", length=number)
                await world.published()
            async with world.publisher():
                await world.announce(f"q/{number}", length=number)
                await world.published()
            reader.refresh()

    in_world(tmp_path, story)
