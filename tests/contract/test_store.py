"""The contract of the store: what every origin must keep."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tufline.errors import StoreError
from tufline.store import TIMESTAMP, Store, content_headers
from tufline.store.local import LocalStore


@pytest_asyncio.fixture(params=["local"])
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Give each implementation in turn, empty."""
    yield LocalStore(tmp_path / "origin")


async def test_empty_has_nothing(store: Store) -> None:
    """A new origin has no files, and says so."""
    assert await store.names() == set()
    assert await store.get("timestamp.json") is None


async def test_what_is_put_is_there(store: Store) -> None:
    """Files are there, whole, after they were put; putting the same again changes nothing."""
    files = [("1.root.json", b"root"), ("2.bins-0.json", b"x" * 3_000_000)]
    for _ in range(2):
        await store.put_many(files)
        await store.flush()
    assert await store.names() == {"1.root.json", "2.bins-0.json"}
    assert await store.get("2.bins-0.json") == b"x" * 3_000_000


async def test_same_content_is_not_written_anew(tmp_path: Path) -> None:
    """A file that is there with the same content is left as it is: it may be durable and served."""
    store = LocalStore(tmp_path)
    await store.put_many([("1.a.json", b"same")])
    before = (tmp_path / "1.a.json").stat().st_ino
    await store.put_many([("1.a.json", b"same")])
    assert (tmp_path / "1.a.json").stat().st_ino == before
    await store.put_many([("1.a.json", b"diff")])
    assert (tmp_path / "1.a.json").stat().st_ino != before


async def test_what_a_crash_left_is_mended(store: Store) -> None:
    """A file that is there with other content, as a crash may leave it, is put anew."""
    await store.put_many([("3.bins-0.json", b"")])
    await store.put_many([("3.bins-0.json", b"whole")])
    assert await store.get("3.bins-0.json") == b"whole"


async def test_timestamp_is_replaced(store: Store) -> None:
    """The timestamp is always the one that was put last."""
    for content in (b"1", b"22", b"3"):
        await store.replace(TIMESTAMP, content)
        assert await store.get("timestamp.json") == content
    assert await store.names() == {"timestamp.json"}


async def test_deleted_is_gone(store: Store) -> None:
    """Deleted files are gone, others stay, and deleting what is not there is no error."""
    await store.put_many([("1.a.json", b"a"), ("2.a.json", b"a")])
    await store.delete_many(["1.a.json", "7.a.json"])
    assert await store.names() == {"2.a.json"}


@pytest.mark.parametrize("name", ["", "../up.json", "a/b.json", ".hidden", "/etc/passwd"])
async def test_names_that_are_none(store: Store, name: str) -> None:
    """A name that could lead elsewhere is refused in every operation."""
    for operation in (store.put_many([(name, b"x")]), store.get(name), store.delete_many([name])):
        with pytest.raises(StoreError):
            await operation
    assert await store.names() == set()


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    """What was being written when the process died is never listed, and removed at the next start."""
    leftover = tmp_path / ".tmp-1.bins-0.json"
    leftover.write_bytes(b"half")
    store = LocalStore(tmp_path)
    assert await store.names() == set()
    assert await LocalStore(tmp_path).get("1.bins-0.json") is None
    assert not leftover.exists()


async def test_directory_that_can_not_be_one(tmp_path: Path) -> None:
    """An origin that can't be used is an error with a reason, at the start and later."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"can't make the directory in .*; choose another one in publisher\.directory, or mend this one$"):
        LocalStore(tmp_path / "file" / "origin")
    store = LocalStore(tmp_path / "origin")
    (tmp_path / "origin").rmdir()
    with pytest.raises(StoreError, match="goes on by itself"):
        await store.put_many([("1.a.json", b"x")])


def test_headers_follow_from_the_name() -> None:
    """Versioned files may be kept for ever; the timestamp, and what is not there, only briefly."""
    assert "immutable" in content_headers("3.snapshot.json")["Cache-Control"]
    assert "immutable" in content_headers("12.bins-0af.json")["Cache-Control"]
    for name in ("timestamp.json", "snapshot.json", "", "0.root.json"):
        assert content_headers(name)["Cache-Control"] == "public, max-age=5"
