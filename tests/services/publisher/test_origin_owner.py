"""Whose origin it is: an origin belongs to one log, and neither another log nor an older copy or a fork of its own changes it."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tufline.clock import utc_now
from tufline.errors import ForeignOriginError
from tufline.origin.directory import LocalStore
from tufline.origin.owner import claim, read_owner
from tufline.origin.store import OWNER, TIMESTAMP
from tufline.records import topics
from tufline.records.metadata import VERSION_HEADER
from tufline_cli import main
from tufline_testing.log import (
    eventually,
    read_all,
)
from tufline_testing.origin import Reader
from tufline_testing.publishing import SignedRepository, in_a_signed_repository


class ClaimedByAnother(LocalStore):
    """A store that another log claims just before its publisher replaces the timestamp."""

    is_armed = False

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        if self.is_armed and name == TIMESTAMP:
            self.is_armed = False
            await claim(self, "another", utc_now(), expected=await self.get(OWNER))
        await super().replace(name, content, expected=expected, owner=owner)


def test_origin_that_is_claimed_at_the_last_moment(tmp_path: Path) -> None:
    """A publisher replaces nothing at an origin that another log has claimed since the last check, and health names that log."""

    async def story(repository: SignedRepository) -> None:
        store = ClaimedByAnother(repository.directory)
        async with repository.publisher(store):
            await repository.announce("a")
            await repository.published()
            shown = repository.version
            store.is_armed = True
            await repository.announce("b")
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem), seconds=120)
            assert repository.version == shown

    in_a_signed_repository(tmp_path, story)


class ClaimedAtFirstSight(LocalStore):
    """A new origin that another log claims while a publisher examines it."""

    async def names(self) -> set[str]:
        if await self.get(OWNER) is None:
            await claim(self, "another", utc_now(), expected=None)
        return await super().names()


def test_origin_that_two_logs_find_unclaimed(tmp_path: Path) -> None:
    """If two logs find an origin unclaimed, one gets it: the other one changes nothing there, and its health names the owner."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher(ClaimedAtFirstSight(repository.directory)):
            await repository.announce("a")
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem), seconds=120)
            assert set(repository.names()) == set()

    in_a_signed_repository(tmp_path, story)


def test_origin_of_another_repository_with_a_lower_version(tmp_path: Path) -> None:
    """Another repository's origin is never overwritten, even if its timestamp is older, or no root shows whose it is."""

    async def theirs(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("theirs")
            await repository.published()

    in_a_signed_repository(tmp_path / "their", theirs)

    async def ours(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(5):
                await repository.announce(f"x{number}")
                await repository.published()
        for gone in ((), (OWNER,), (OWNER, "1.root.json")):
            shutil.rmtree(repository.directory)
            shutil.copytree(tmp_path / "their" / "origin", repository.directory)
            for name in gone:
                (repository.directory / name).unlink()
            before = {path.name: path.read_bytes() for path in repository.directory.iterdir()}
            async with repository.publisher():
                await asyncio.sleep(600)
                assert ("not belong to this log" if gone else "belongs to the log") in repository.problem
            assert {path.name: path.read_bytes() for path in repository.directory.iterdir()} == before

    in_a_signed_repository(tmp_path, ours)


def test_origin_of_an_earlier_version_is_claimed(tmp_path: Path) -> None:
    """An origin that names no log, as earlier versions left it, is claimed by the log that it verifies under."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        store = LocalStore(repository.directory)
        owner = await read_owner(store)
        assert owner is not None
        assert owner.log == repository.bus.log_id
        (repository.directory / OWNER).unlink()
        async with repository.publisher():
            await repository.announce("b")
            await repository.published()
        claimed = await read_owner(store)
        assert claimed is not None
        assert claimed.log == repository.bus.log_id

    in_a_signed_repository(tmp_path, story)


def test_origin_that_was_given_to_another_log(tmp_path: Path) -> None:
    """A publisher stops immediately when another log adopts its origin, and names it; when the log gets it again, it continues."""

    async def story(repository: SignedRepository) -> None:
        store = LocalStore(repository.directory)
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            await claim(store, "another", repository.clock(), expected=await store.get(OWNER))
            shown = (repository.directory / TIMESTAMP).read_bytes()
            await repository.announce("b")
            await repository.signed()
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem))
            assert (repository.directory / TIMESTAMP).read_bytes() == shown
            await claim(store, repository.bus.log_id, repository.clock(), expected=await store.get(OWNER))
            assert "b" in await repository.published()
        (repository.directory / OWNER).write_bytes(b"\xff")
        with pytest.raises(ForeignOriginError, match=r"damaged.*tufline origin adopt"):
            await read_owner(store)

    in_a_signed_repository(tmp_path, story)


def copy_log(tmp_path: Path) -> None:
    """Keep a copy of a log that is not open."""
    for path in tmp_path.glob("log.db*"):
        shutil.copy(path, tmp_path / path.name.replace("log.db", "old.db"))


def test_older_copy_of_the_log_rolls_no_client_back(tmp_path: Path) -> None:
    """A log restored from an older copy does not touch the origin, reports why, and continues only once it has passed what is published."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def lost(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(3):
                await repository.announce(f"lost{number}")
                await repository.published()

    async def restored(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        reader.refresh()
        before = {name: (repository.directory / name).read_bytes() for name in repository.names()}
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, "the log is an older copy" in repository.problem))
            assert "bring the right log back" not in repository.problem
            assert {name: (repository.directory / name).read_bytes() for name in repository.names()} == before
            for number in range(12):
                await repository.announce(*(f"new{number}/{other}" for other in range(16)))  # in every bin
                await repository.signed()
                await asyncio.sleep(20)
                reader.refresh()
            assert "new11/3" in await repository.published()
            reader.refresh()
            assert repository.problem == ""
        for name, content in before.items():
            assert name == TIMESTAMP or (repository.directory / name).read_bytes() == content, f"{name} has two contents"

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, lost, is_new=False)
    in_a_signed_repository(tmp_path, restored, name="old", is_new=False)


def test_fork_of_the_log_is_not_published(tmp_path: Path) -> None:
    """If the origin's timestamp differs from the log's timestamp of the same version, nothing is changed, and health reports it."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def forked(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("theirs")
            await repository.published()

    async def ours(repository: SignedRepository) -> None:
        await repository.announce("ours")
        await repository.signed()
        shown = contents(repository)
        assert version_on_log(await read_all(repository.bus, topics.METADATA)) == repository.version
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, "differs from this log's" in repository.problem), seconds=300)
            await asyncio.sleep(600)
            assert {name: contents(repository).get(name) for name in shown} == shown
            assert "differs from this log's" in repository.problem

    def contents(repository: SignedRepository) -> dict[str, bytes]:
        return {name: (repository.directory / name).read_bytes() for name in repository.names()}

    def version_on_log(found: Any) -> int:
        return max(int(record.headers[VERSION_HEADER]) for record in found if record.key == "timestamp")

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, forked, is_new=False)
    in_a_signed_repository(tmp_path, ours, name="old", is_new=False)


def test_adopting_an_origin(tmp_path: Path) -> None:
    """Only a command changes the log of an origin, and never to a log that would roll clients back or is another repository's."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def more(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("b")
            await repository.published()

    def run(*arguments: str, log: str) -> Result:
        env = {
            "TUFLINE_BUS__URL": f"embedded:{log}",
            "TUFLINE_PUBLISHER__DIRECTORY": str(tmp_path / "origin"),
            "TUFLINE_BUS__PARTITIONS": "2",
        }
        return CliRunner().invoke(main, ["origin", *arguments], env=env)

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, more, is_new=False)
    (tmp_path / "other").mkdir()
    in_a_signed_repository(tmp_path / "other", before)
    owner = (tmp_path / "origin" / OWNER).read_bytes()

    shown = run("show", log="none.db")
    assert shown.exit_code == 0
    assert f"log {json.loads(owner)['log']} since" in shown.output
    for log, said in ((tmp_path / "old.db", "the log is an older copy"), (tmp_path / "other" / "log.db", "not belong to this log")):
        refused = run("adopt", log=str(log))
        assert refused.exit_code == 1
        assert said in refused.output
        assert "nothing was changed" in refused.output
        assert (tmp_path / "origin" / OWNER).read_bytes() == owner
    (tmp_path / "origin" / OWNER).write_text('{"log":"another","claimed":"2030-01-01T00:00:00Z"}')
    adopted = run("adopt", log=str(tmp_path / "log.db"))
    assert adopted.exit_code == 0, adopted.output
    assert "instead of the log another" in adopted.output
    assert json.loads((tmp_path / "origin" / OWNER).read_bytes())["log"] == json.loads(owner)["log"]
    (tmp_path / "origin" / OWNER).unlink()
    assert "no log has claimed this origin" in run("show", log="none.db").output
    assert json.loads(run("show", "--json", log="none.db").output) is None
