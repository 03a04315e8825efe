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
from tufline_testing.publishing import SignedRepository, in_a_signed_repository


def test_origin_shows_what_the_log_has(tmp_path: Path) -> None:
    """After any history a client finds the last announced state at the origin, and ``published`` records the origin's progress."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(1, 12):
                await repository.announce(*(f"p/{other}" for other in range(number)), length=number)
                if number % 3 == 0:
                    await repository.published()
            await announce(repository.bus, repository.bootstrap.settings, [Remove("p/3")])
            assert await repository.published() == {f"p/{number}": 11 for number in range(11) if number != 3}
            assert repository.problem == ""
        last = await repository.last_published()
        assert last is not None
        assert last.origin == "origin"

    in_a_signed_repository(tmp_path, story)


def test_at_every_moment_a_client_succeeds(tmp_path: Path) -> None:
    """Before and after every single operation on the origin a client can refresh and read everything, and nothing goes back."""
    operations: list[str] = []

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)

        def look(operation: str) -> None:
            reader.refresh()
            operations.append(operation)

        store = WatchedStore(LocalStore(repository.directory), look, look)
        async with repository.publisher(store, superseded_retention=5.0):
            for number in range(1, 15):
                await repository.announce(f"p/{number}", "p/always", length=number)
                await asyncio.sleep(number % 4)
            await repository.published()
            await asyncio.sleep(100)

    in_a_signed_repository(tmp_path, story)
    names = [operation.split()[0] for operation in operations]
    assert names.count("timestamp") > 10
    assert names.count("delete") > 10


def test_crash_at_any_operation(tmp_path: Path) -> None:
    """Whenever a publisher stops, a client still succeeds, and the next publisher completes the work."""

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        number = 0
        crashed = True
        while crashed:
            failing = FailingAt(number)
            store = WatchedStore(LocalStore(repository.directory), failing)
            await repository.announce(f"p/{number}", f"p/{number % 7}", length=number + 1)
            async with repository.publisher(store):
                await repository.signed()
                await asyncio.sleep(0.05)
            crashed = failing.failed
            reader.refresh()
            async with repository.publisher():
                found = await repository.published()
            assert found[f"p/{number}"] == number + 1
            reader.refresh()
            number += 1
        assert number > 8

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_unsynced_files_are_put_again(tmp_path: Path, seed: int) -> None:
    """Files uploaded after the last flush may be lost or truncated by a power loss: they are uploaded again before they are named."""
    chance = random.Random(seed)

    async def story(repository: SignedRepository) -> None:
        unsynced: set[str] = set()

        def after(operation: str) -> None:
            if operation.startswith("put "):
                unsynced.add(operation.removeprefix("put "))
            elif operation == "flush":
                unsynced.clear()

        for number in range(1, 12):
            store = WatchedStore(LocalStore(repository.directory), FailingAt(chance.randrange(30)), after)
            async with repository.publisher(store):
                await repository.announce(f"p/{number}", f"p/{number % 5}", length=number)
                await repository.signed()
                await asyncio.sleep(chance.choice([0, 0.001, 0.05, 1]))
            for name in unsynced:
                path = repository.directory / name
                match chance.randrange(3):
                    case 0:
                        path.unlink(missing_ok=True)
                    case 1:
                        path.write_bytes(b"")
            unsynced.clear()
            Reader(repository.directory, repository.clock).refresh()
        async with repository.publisher():
            assert (await repository.published())["p/11"] == 11, f"seed {seed}"

    in_a_signed_repository(tmp_path, story)


def test_lost_files_are_put_back(tmp_path: Path) -> None:
    """Files that are missing at the origin are restored at the next start, and a new mirror gets everything."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a", "b", "c")
            expected = await repository.published()
        for pattern in ("*.bins-*.json", "*.snapshot.json", "timestamp.json", "*"):
            lost = {path.name for path in repository.directory.glob(pattern) if path.name[0] != "."}
            for name in lost:
                (repository.directory / name).unlink()
            async with repository.publisher():
                await eventually(partial(repository.has, lost))
                assert await repository.published() == expected

    in_a_signed_repository(tmp_path, story)


def test_files_are_durable_before_anything_says_so(tmp_path: Path) -> None:
    """Files that are uploaded again are durable before ``published`` records the progress, even without a new timestamp."""
    operations: list[str] = []

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a", "b", "c")
            await repository.published()
        for path in repository.directory.glob("*.bins-*.json"):
            path.unlink()
        before = len(await read_all(repository.bus, topics.PUBLISHED))
        async with repository.publisher(WatchedStore(LocalStore(repository.directory), lambda _: None, operations.append)):

            async def said() -> bool:
                return len(await read_all(repository.bus, topics.PUBLISHED)) > before

            await eventually(said)
            puts = [number for number, operation in enumerate(operations) if operation.startswith("put ")]
            assert "flush" in operations[puts[-1] :]
            assert "timestamp" not in operations

    in_a_signed_repository(tmp_path, story)


def test_new_mirror_after_compaction(tmp_path: Path) -> None:
    """Weeks later, when most of the log's old versions are gone, an empty directory becomes a whole origin."""

    async def story(repository: SignedRepository) -> None:
        for number in range(1, 20):
            await repository.announce(f"p/{number}")
            await repository.signed()
            await asyncio.sleep(3600)
        await asyncio.sleep(86_400 * 20)
        async with repository.publisher():
            assert len(await repository.published()) == 19
        assert (repository.directory / "1.root.json").exists()

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize(("is_claimed", "said"), [(True, "belongs to the log"), (False, "not belong to this log")])
def test_foreign_origin_is_left_alone(tmp_path: Path, is_claimed: bool, said: str) -> None:
    """A directory with another repository is not touched, and the publisher reports why until the directory is the right one."""
    (tmp_path / "other").mkdir()

    async def other(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(5):
                await repository.announce(f"x/{number}")
                await repository.published()

    in_a_signed_repository(tmp_path / "other", other)
    if not is_claimed:
        (tmp_path / "other" / "origin" / OWNER).unlink()  # as an earlier version left it
    before = {path.name: path.read_bytes() for path in (tmp_path / "other" / "origin").iterdir()}
    shutil.copytree(tmp_path / "other" / "origin", tmp_path / "origin")

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(20):
                await repository.announce(f"y/{number}")
                await repository.signed()
                await asyncio.sleep(1)
            assert said in repository.problem
            assert {path.name: path.read_bytes() for path in repository.directory.iterdir()} == before
            shutil.rmtree(repository.directory)
            repository.directory.mkdir()
            assert len(await repository.published()) == 20
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)


def test_timestamp_never_goes_back(tmp_path: Path) -> None:
    """An origin restored from an older state advances again; a log restored from an older state must not revert the origin."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        shutil.copytree(repository.directory, tmp_path / "backup")
        async with repository.publisher():
            await repository.announce("b")
            await repository.published()
        shutil.rmtree(repository.directory)
        shutil.copytree(tmp_path / "backup", repository.directory)
        async with repository.publisher():
            assert set(await repository.published()) == {"a", "b"}

    in_a_signed_repository(tmp_path, story)


def test_vector_alone_needs_no_new_timestamp(tmp_path: Path) -> None:
    """A commit that only moves the vector is published without touching the origin."""
    operations: list[str] = []

    async def story(repository: SignedRepository) -> None:
        store = WatchedStore(LocalStore(repository.directory), operations.append)
        async with repository.publisher(store):
            await repository.announce("a")
            await repository.published()
            before = await repository.last_published()
            operations.clear()
            await repository.announce("a")
            await repository.published()
            after = await repository.last_published()
            assert before is not None
            assert after is not None
            assert after.timestamp.version == before.timestamp.version
            assert after.vector.artifacts != before.vector.artifacts
            assert operations == []

    in_a_signed_repository(tmp_path, story)


UNSIGNED = b'{"signatures":[],"signed":{"_type":"targets","expires":"2040-01-01T00:00:00Z","targets":{},"version":7}}'

FORGERIES = {
    "garbage": ("bins-0", b"garbage", "7"),
    "not signed": (
        "bins-0",
        b'{"signatures":[],"signed":{"_type":"targets","expires":"2040-01-01T00:00:00Z","targets":{},"version":7}}',
        "7",
    ),
    "no version": ("bins-0", b"{}", None),
    "a root that is not metadata": ("2.root", b"{}", "2"),
    "targets that are not metadata": ("targets", b"{}", "2"),
    "a snapshot that is not metadata": ("snapshot", b"{}", "900"),
    "a timestamp that is not metadata": ("timestamp", b"{}", "900"),
    "role that could leave the directory": ("../bins-0", b"{}", "1"),
}


@pytest.mark.parametrize(("key", "content", "version"), FORGERIES.values(), ids=FORGERIES)
def test_forged_records_are_not_published(tmp_path: Path, key: str, content: bytes, version: str | None) -> None:
    """A file that clients would refuse is never published; the files after it are, and a client always succeeds."""

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)

        def look(_: str) -> None:
            reader.refresh()

        async with repository.publisher(WatchedStore(LocalStore(repository.directory), look, look)):
            await repository.announce("a")
            await repository.published()
            headers = {} if version is None else {VERSION_HEADER: version}
            await repository.bus.append([Message(topics.METADATA, key, content, headers=headers)])
            await eventually(lambda: asyncio.sleep(0, any("of metadata/0" in text for text in repository.health.warnings.values())))
            await announce(repository.bus, repository.bootstrap.settings, [Add("b", 1, {"sha256": "0" * 64})])
            await eventually(lambda: asyncio.sleep(0, "b" in reader.refresh()))
        assert not any(content == path.read_bytes() for path in repository.directory.iterdir())

    in_a_signed_repository(tmp_path, story)


def test_superseded_files_are_deleted_in_time(tmp_path: Path) -> None:
    """A file that no published file names is deleted after its retention, even across restarts; named files and all roots stay."""

    async def story(repository: SignedRepository) -> None:
        for number in range(1, 10):
            async with repository.publisher(superseded_retention=1000.0):
                await repository.announce("a", length=number)
                await repository.published()
        before = repository.names()
        async with repository.publisher(superseded_retention=1000.0):
            await asyncio.sleep(900)
            assert repository.names() >= before
            await asyncio.sleep(300)
        left = repository.names()
        assert left == {"timestamp.json", "1.root.json", "1.targets.json", *(name for name in left if "bins" in name or "snapshot" in name)}
        assert len(left) == 4 + 4
        assert Reader(repository.directory, repository.clock).refresh() == {"a": 9}

    in_a_signed_repository(tmp_path, story)


def test_a_failing_store_is_reported_and_retried(tmp_path: Path) -> None:
    """While the origin fails the publisher reports why, and it continues once the origin works again."""
    broken = True

    def before(operation: str) -> None:
        if broken:
            raise OSError(28, "No space left on device")

    async def story(repository: SignedRepository) -> None:
        nonlocal broken
        async with repository.publisher(WatchedStore(LocalStore(repository.directory), before)):
            await repository.announce("a")
            await repository.signed()
            await asyncio.sleep(60)
            assert "No space left" in repository.problem
            broken = False
            assert await repository.published() == {"a": 1}
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)


def test_two_publishers_of_one_origin(tmp_path: Path) -> None:
    """Two publishers of one origin take turns: one works, the other continues when it leaves, and a client always succeeds."""

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        for number in range(1, 8):
            async with repository.publisher(), repository.publisher():
                await repository.announce(f"p/{number}", length=number)
                await repository.published()
            async with repository.publisher():
                await repository.announce(f"q/{number}", length=number)
                await repository.published()
            reader.refresh()

    in_a_signed_repository(tmp_path, story)
