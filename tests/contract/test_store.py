"""The contract of the store, which every origin must keep."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tufline.errors import StoreBusyError, StoreChangedError, StoreError
from tufline.origin import directory as local
from tufline.origin import directory_lock
from tufline.origin.directory import LocalStore
from tufline.origin.directory_lock import TEMPORARY_PREFIX, TemporaryFiles
from tufline.origin.file_systems import network_type
from tufline.origin.store import OWNER, TIMESTAMP, Store, content_headers


def listing(directory: Path) -> set[str]:
    """Name all files of a directory, also those that the store does not list."""
    return {path.name for path in directory.iterdir()}


def changed(directory: Path) -> int:
    """Return when a file in a directory was last created, renamed or deleted, in nanoseconds."""
    return directory.stat().st_mtime_ns


@pytest_asyncio.fixture(params=["local"])
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Provide each implementation in turn, empty."""
    yield LocalStore(tmp_path / "origin")


async def test_empty_has_nothing(store: Store) -> None:
    """A new origin reports that it has no files."""
    assert await store.names() == set()
    assert await store.get("timestamp.json") is None


async def test_a_written_file_can_be_read(store: Store) -> None:
    """Uploaded files are there, whole; uploading the same content again changes nothing."""
    files = [("1.root.json", b"root"), ("2.bins-0.json", b"x" * 3_000_000)]
    for _ in range(2):
        await store.put_many(files)
        await store.flush()
    assert await store.names() == {"1.root.json", "2.bins-0.json"}
    assert await store.get("2.bins-0.json") == b"x" * 3_000_000


async def test_same_content_is_not_written_again(tmp_path: Path) -> None:
    """An existing file with the same content is not rewritten, because it may already be durable and served."""
    store = LocalStore(tmp_path)
    assert await store.put_many([("1.a.json", b"same")]) == []
    before = (tmp_path / "1.a.json").stat().st_ino
    assert await store.put_many([("1.a.json", b"same"), ("1.b.json", b"new")]) == []
    assert (tmp_path / "1.a.json").stat().st_ino == before
    assert await store.get("1.b.json") == b"new"


async def test_other_content_stays_and_is_named(store: Store) -> None:
    """An existing versioned file with other content is kept, and its name returned; a damaged file is replaced explicitly."""
    await store.put_many([("3.bins-0.json", b"cut")])
    assert await store.put_many([("3.bins-0.json", b"whole"), ("4.bins-0.json", b"next")]) == ["3.bins-0.json"]
    assert await store.get("3.bins-0.json") == b"cut"
    assert await store.get("4.bins-0.json") == b"next"
    await store.replace("3.bins-0.json", b"whole", expected=b"cut")
    assert await store.get("3.bins-0.json") == b"whole"


@pytest.mark.parametrize("name", [TIMESTAMP, "2.root.json", OWNER])
async def test_replace_changes_only_what_is_expected(store: Store, name: str) -> None:
    """A file is replaced only if it still is as expected: not with other content, nor if it is missing or unexpectedly exists."""
    with pytest.raises(StoreChangedError, match="deleted"):
        await store.replace(name, b"2", expected=b"1")
    assert await store.get(name) is None
    await store.replace(name, b"1", expected=None)
    with pytest.raises(StoreChangedError, match="replaced"):
        await store.replace(name, b"2", expected=None)
    with pytest.raises(StoreChangedError):
        await store.replace(name, b"2", expected=b"0")
    assert await store.get(name) == b"1"
    await store.replace(name, b"1", expected=b"0")  # already done, perhaps by an attempt that could not report it
    await store.replace(name, b"2", expected=b"1")
    assert await store.get(name) == b"2"


async def test_only_one_of_several_replacements_succeeds(store: Store) -> None:
    """If several replace the same expected content at once, exactly one succeeds; the others get an error."""
    await store.replace(TIMESTAMP, b"0", expected=None)
    done = await asyncio.gather(*(store.replace(TIMESTAMP, b"%d" % n, expected=b"0") for n in range(1, 20)), return_exceptions=True)
    winners = [number for number, result in enumerate(done, 1) if result is None]
    assert len(winners) == 1
    assert all(isinstance(result, StoreChangedError) for result in done if result is not None)
    assert await store.get(TIMESTAMP) == b"%d" % winners[0]


async def test_replace_changes_nothing_for_another_owner(store: Store) -> None:
    """A file is replaced for an owner only while the origin belongs to that owner, even if the file itself is as expected."""
    await store.replace(TIMESTAMP, b"1", expected=None)
    with pytest.raises(StoreChangedError, match=OWNER):
        await store.replace(TIMESTAMP, b"2", expected=b"1", owner=b"mine")
    await store.replace(OWNER, b"mine", expected=None)
    await store.replace(TIMESTAMP, b"2", expected=b"1", owner=b"mine")
    await store.replace(OWNER, b"others", expected=b"mine")
    with pytest.raises(StoreChangedError, match=OWNER):
        await store.replace(TIMESTAMP, b"3", expected=b"2", owner=b"mine")
    assert await store.get(TIMESTAMP) == b"2"


async def test_owner_is_not_listed(store: Store) -> None:
    """The file with the origin's owner is not metadata: it can be read and replaced, but is not listed."""
    await store.replace(OWNER, b"{}", expected=None)
    assert await store.names() == set()
    assert await store.get(OWNER) == b"{}"


async def test_timestamp_is_replaced(store: Store) -> None:
    """The timestamp is always the one that was put last."""
    for content in (b"1", b"22", b"3"):
        await store.replace(TIMESTAMP, content, expected=await store.get(TIMESTAMP))
        assert await store.get("timestamp.json") == content
    assert await store.names() == {"timestamp.json"}


async def test_deleted_is_gone(store: Store) -> None:
    """Deleted files are gone, others stay, and deleting a missing file is not an error."""
    await store.put_many([("1.a.json", b"a"), ("2.a.json", b"a")])
    await store.delete_many(["1.a.json", "7.a.json"])
    assert await store.names() == {"2.a.json"}


@pytest.mark.parametrize("name", ["", "../up.json", "a/b.json", ".hidden", "/etc/passwd"])
async def test_unsafe_names_are_refused(store: Store, name: str) -> None:
    """A name that could lead elsewhere is refused in every operation."""
    for operation in (store.put_many([(name, b"x")]), store.get(name), store.delete_many([name])):
        with pytest.raises(StoreError):
            await operation
    assert await store.names() == set()


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    """A file half-written by a dead process is never listed, and the next writer removes it; another live writer's file stays."""
    leftover = tmp_path / f"{TEMPORARY_PREFIX}1.bins-0.json"
    leftover.write_bytes(b"half")
    store = LocalStore(tmp_path)
    assert await store.names() == set()
    assert await store.get("1.bins-0.json") is None
    with TemporaryFiles(tmp_path).file() as (_, being_written):
        await store.put_many([("1.a.json", b"a")])
        assert not leftover.exists()
        assert being_written.rpartition("/")[2] in listing(tmp_path)


async def test_reading_changes_nothing(tmp_path: Path) -> None:
    """A process that only reads an origin (fsck) does not change any file."""
    (tmp_path / f"{TEMPORARY_PREFIX}1").write_bytes(b"half")
    store = LocalStore(tmp_path)
    await store.get(TIMESTAMP)
    await store.names()
    assert listing(tmp_path) == {f"{TEMPORARY_PREFIX}1"}


async def test_writers_share_no_temporary_name(tmp_path: Path) -> None:
    """If two writers upload the same new file at once, both succeed, and the file is whole."""
    stores = [LocalStore(tmp_path) for _ in range(8)]
    for number in range(20):
        content = b"x" * 100_000 + b"%d" % number
        assert await asyncio.gather(*(store.put_many([(f"{number}.a.json", content)]) for store in stores)) == [[]] * len(stores)
        assert await stores[0].get(f"{number}.a.json") == content
    assert listing(tmp_path) == {f"{number}.a.json" for number in range(20)}


HOLDING = """
import os, sys
from pathlib import Path
from tufline.origin.directory_lock import locked

with locked(Path(sys.argv[1])):
    os.write(1, b"locked\\n")
    sys.stdin.read()
"""


def hold_lock(directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that holds the lock of an origin."""
    return subprocess.Popen([sys.executable, "-c", HOLDING, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_stopped_holder_of_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a paused process holds the lock nothing is written, and the error names its pid; writing continues once it has ended."""
    monkeypatch.setattr(local, "LOCK_PATIENCE_SECONDS", 0.1)
    store = LocalStore(tmp_path)
    await store.replace(TIMESTAMP, b"1", expected=None)
    with hold_lock(tmp_path) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"locked\n"
        holder.send_signal(signal.SIGSTOP)
        try:
            before = changed(tmp_path)
            with pytest.raises(StoreBusyError, match=rf"by process {holder.pid} on .*kill -CONT"):
                await store.replace(TIMESTAMP, b"2", expected=b"1")
            assert await store.get(TIMESTAMP) == b"1"
            assert changed(tmp_path) == before, "a file was made there for each try"
            await store.put_many([("1.a.json", b"versioned files need no lock")])
        finally:
            holder.send_signal(signal.SIGKILL)
    await store.replace(TIMESTAMP, b"2", expected=b"1")
    assert await store.get(TIMESTAMP) == b"2"


async def test_lock_that_is_taken_while_the_new_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that finds the lock taken after writing its file replaces nothing, leaves no file, and continues once the lock is free."""
    monkeypatch.setattr(local, "LOCK_PATIENCE_SECONDS", 0.1)
    store = LocalStore(tmp_path)
    await store.replace(TIMESTAMP, b"1", expected=None)
    fsync = os.fsync
    with contextlib.ExitStack() as taken:

        def fsync_then_lock(descriptor: int) -> None:
            fsync(descriptor)
            taken.enter_context(directory_lock.locked(tmp_path))

        monkeypatch.setattr(os, "fsync", fsync_then_lock)
        with pytest.raises(StoreBusyError, match=f"by process {os.getpid()}"):
            await store.replace(TIMESTAMP, b"2", expected=b"1")
        assert await store.get(TIMESTAMP) == b"1"
        assert listing(tmp_path) == {directory_lock.LOCK_NAME, TIMESTAMP}
    monkeypatch.undo()
    await store.replace(TIMESTAMP, b"2", expected=b"1")
    assert await store.get(TIMESTAMP) == b"2"


async def test_waiting_for_the_lock_can_be_cancelled(tmp_path: Path) -> None:
    """Waiting for a lock can be cancelled immediately, blocks nothing meanwhile, and leaves nothing behind."""
    store = LocalStore(tmp_path)
    with directory_lock.locked(tmp_path):
        waiting = asyncio.create_task(store.replace(TIMESTAMP, b"1", expected=None))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert listing(tmp_path) == {directory_lock.LOCK_NAME}


async def test_cancelled_operation_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a cancelled operation returns, none of its threads is still working: it can't overwrite later changes."""
    store, entered, may_go = LocalStore(tmp_path), threading.Event(), threading.Event()
    await store.replace(TIMESTAMP, b"1", expected=None)
    rename = os.rename

    def slow_rename(source: str, target: Path) -> None:
        entered.set()
        assert may_go.wait(60)
        rename(source, target)

    monkeypatch.setattr(os, "rename", slow_rename)
    replacing = asyncio.create_task(store.replace(TIMESTAMP, b"2", expected=b"1"))
    await asyncio.to_thread(entered.wait, 60)
    try:
        for _ in range(3):
            replacing.cancel()
            await asyncio.sleep(0)
            assert not replacing.done()
    finally:
        may_go.set()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    assert await store.get(TIMESTAMP) == b"2"


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:50 / /srv/shared\\040files rw,relatime shared:1 - nfs4 server:/export rw
31 30 8:2 / /srv/shared\\040files/local rw - xfs /dev/sdb1 rw
32 22 0:51 / /mnt/bucket rw - fuse.s3fs s3fs rw
33 22 0:52 / /mnt/box rw - fuse.fuse-overlayfs overlay rw
34 22 0:53 / /mnt/over rw - cifs //server/x rw
35 22 8:3 / /mnt/over rw - ext4 /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/srv/www", ""),
        ("/srv/shared files/metadata", "nfs4"),
        ("/srv/shared files/local/metadata", ""),
        ("/srv/shared filesystem", ""),
        ("/mnt/bucket", "fuse.s3fs"),
        ("/mnt/box/metadata", ""),
        ("/mnt/over/metadata", ""),
    ],
)
def test_network_file_systems_are_known(tmp_path: Path, directory: str, expected: str) -> None:
    """A directory belongs to the file system that was mounted last at the longest path above it; network file systems are named."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_type(Path(directory), tmp_path / "mountinfo") == expected


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An origin in a network file system is refused at the start, with advice on what to use instead."""
    (tmp_path / "mountinfo").write_text(f"22 1 0:9 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(local, "network_type", lambda directory: network_type(directory, tmp_path / "mountinfo"))
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*set publisher.directory to a directory on a local disk"):
        LocalStore(tmp_path / "origin")


async def test_an_unusable_directory_is_reported(tmp_path: Path) -> None:
    """An origin that can't be used is an error with a reason, at the start and later."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"can't create the directory in .*; choose another one in publisher\.directory, or fix this one$"):
        LocalStore(tmp_path / "file" / "origin")
    store = LocalStore(tmp_path / "origin")
    (tmp_path / "origin").rmdir()
    with pytest.raises(StoreError, match="continues by itself"):
        await store.put_many([("1.a.json", b"x")])


def test_headers_follow_from_the_name() -> None:
    """Versioned files may be cached indefinitely; the timestamp, and the absence of a file, only briefly."""
    assert "immutable" in content_headers("3.snapshot.json")["Cache-Control"]
    assert "immutable" in content_headers("12.bins-0af.json")["Cache-Control"]
    for name in ("timestamp.json", "snapshot.json", "", "0.root.json"):
        assert content_headers(name)["Cache-Control"] == "public, max-age=5"
