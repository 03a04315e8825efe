"""Records of metadata that a publisher must not publish: older, unsigned or incomplete ones, and snapshots that go back."""

import asyncio
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Root

from tufline import records
from tufline.bus import Message
from tufline.keys.file import open_file_key
from tufline.metadata import canonical
from tufline.metadata.envelope import assemble
from tufline.origin import provenance
from tufline.origin.directory import LocalStore
from tufline.origin.store import TIMESTAMP
from tufline.records import Head, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.trust import roles
from tufline_testing.log import (
    eventually,
    read_all,
)
from tufline_testing.origin import Reader, checked_store
from tufline_testing.publishing import SignedRepository, in_a_signed_repository


def test_timestamp_record_without_a_version_is_passed_over(tmp_path: Path) -> None:
    """A record that somebody wrote as a timestamp, without a version, does not keep a publisher from its origin."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        for headers in ({}, {VERSION_HEADER: "nonsense"}):
            await repository.bus.append([Message(topics.METADATA, "timestamp", b"nonsense", headers=headers)])
        assert (await provenance.examine(repository.bus, LocalStore(repository.directory))).version == repository.version

    in_a_signed_repository(tmp_path, story)


def test_an_earlier_timestamp_is_not_published_again(tmp_path: Path) -> None:
    """A repeated or late timestamp never replaces a newer one, even if it is valid, and is not reported as a problem."""

    async def story(repository: SignedRepository) -> None:
        store = checked_store(repository.directory, repository.clock)  # one client for both publishers
        async with repository.publisher(store):
            await repository.announce("a")
            await repository.published()
            (old,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
            await repository.announce("b")
            await repository.published()
            shown = repository.version
            await repository.bus.append([Message(topics.METADATA, old.key, old.value, headers=dict(old.headers))])
            await asyncio.sleep(300)
            assert (repository.version, repository.problem) == (shown, "")
        async with repository.publisher(store):
            await asyncio.sleep(300)
            assert (repository.version, repository.problem) == (shown, "")
            await repository.announce("c")
            assert set(await repository.published()) == {"a", "b", "c"}

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("role", ["bins-0", "nobody"])
def test_file_that_no_head_names_holds_up_nothing(tmp_path: Path, role: str) -> None:
    """A file that is not signed, and that no head names, is reported, and a restarted publisher does not read it again."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            (bin_file,) = [one for one in await read_all(repository.bus, topics.METADATA) if one.key == "bins-0"][-1:]
            content = json.loads(bin_file.value)
            content["signed"]["version"] = 900
            forged = Message(topics.METADATA, role, json.dumps(content).encode(), headers={VERSION_HEADER: "900"})
            (position,) = await repository.bus.append([forged])
            place = f"offset {position.offset} of metadata/0"
            await eventually(lambda: asyncio.sleep(0, place in repository.health.warnings.get("publisher.origin.records", "")), seconds=120)
            await repository.announce("b")
            await repository.published()
            newest = records.decode(records.published_decoder, (await read_all(repository.bus, topics.PUBLISHED))[-1].value)
            assert newest.next_offset > position.offset
            assert "publisher.origin.refused" not in repository.health.warnings
            assert repository.health.ready

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("heads", ["late", "junk"])
def test_file_that_a_head_may_name_is_kept(tmp_path: Path, heads: str) -> None:
    """A refused file whose head appears a moment later, or is unreadable, may be named by a commit: a restarted publisher reads it."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            (newest,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
            waiting = json.loads(newest.value)
            waiting["signed"]["version"] = 900
            (bin_file,) = [one for one in await read_all(repository.bus, topics.METADATA) if one.key == "bins-0"][-1:]
            content = json.loads(bin_file.value)
            version = content["signed"]["version"] = content["signed"]["version"] + 1
            refused = json.dumps(content).encode()
            if heads != "late":
                await repository.bus.append([Message(topics.HEADS, "bins-0", b"{")])
            # While a commit waits, the publisher looks at the heads as soon as it has read everything.
            _, position = await repository.bus.append(
                [
                    Message(topics.METADATA, "timestamp", json.dumps(waiting).encode(), headers={**newest.headers, VERSION_HEADER: "900"}),
                    Message(topics.METADATA, "bins-0", refused, headers={VERSION_HEADER: str(version)}),
                ]
            )
            await eventually(lambda: asyncio.sleep(0, "publisher.origin.refused" in repository.health.warnings))
            await asyncio.sleep(2)
            if heads == "late":
                await repository.bus.append([Message(topics.HEADS, "bins-0", records.encode(head_of(refused, version, position.offset)))])
            await asyncio.sleep(120)
            assert f"offset {position.offset} " in repository.health.warnings["publisher.origin.refused"]
            layout = repository.bootstrap.settings.layout
            path = next(path for path in map(str, itertools.count()) if layout.index_of(path) != 0)
            await repository.announce(path)
            await eventually(lambda: is_shown(repository, path), seconds=120)
            last = await repository.last_published()
            assert last is not None
            assert last.next_offset <= position.offset

    async def is_shown(repository: SignedRepository, path: str) -> bool:
        return path in Reader(repository.directory, repository.clock).refresh()

    def head_of(content: bytes, version: int, offset: int) -> Head:
        sha256 = hashlib.sha256(content).hexdigest()
        return Head(version=version, sha256=sha256, length=len(content), expires="2040-01-01T00:00:00Z", offset=offset, keyids=["later"])

    in_a_signed_repository(tmp_path, story)


BACKWARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a bin goes back": (lambda meta: meta["bins-0.json"].update(version=meta["bins-0.json"]["version"] - 1), "names bins-0 version"),
    "targets goes back": (
        lambda meta: meta["targets.json"].update(version=0),
        "names targets version 0, lower than the published version 1",
    ),
    "a bin is lost": (lambda meta: meta.pop("bins-0.json"), "names bins-0 version none, lower than"),
}


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("name", BACKWARDS)
def test_snapshot_that_goes_back_is_not_shown(tmp_path: Path, name: str, is_restarted: bool) -> None:
    """A commit whose snapshot goes back, or lost a role, is not published, although all its signatures are right."""
    spoil, said = BACKWARDS[name]

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        async with repository.publisher():
            for number in range(2):
                await repository.announce(*(f"{number}/{other}" for other in range(16)))  # in every bin
                await repository.published()
            shown = repository.version
            if not is_restarted:
                await append_commit(repository, spoil)
                await eventually(lambda: asyncio.sleep(0, said in repository.problem), seconds=300)
        if is_restarted:
            await append_commit(repository, spoil)
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, said in repository.problem), seconds=300)
            assert repository.version == shown
            reader.refresh()

    in_a_signed_repository(tmp_path, story)


async def append_commit(repository: SignedRepository, change: Callable[[dict[str, Any]], object]) -> None:
    """Append the commit after the published one to the log, signed as the signer does, with a modified snapshot."""
    root = roles.parse(Root, repository.bootstrap.root).signed

    def signed(role: str, content: dict[str, Any]) -> bytes:
        ((keyid, uri),) = roles.root_keys(root, role).online.items()
        key = open_file_key(uri, root.keys[keyid], repository.path / "keys")
        body = canonical.encode(content)
        return assemble(body, [key.sign(body)])

    timestamp = json.loads((repository.directory / TIMESTAMP).read_bytes())["signed"]
    version = timestamp["meta"]["snapshot.json"]["version"]
    snapshot = json.loads((repository.directory / f"{version}.snapshot.json").read_bytes())["signed"]
    change(snapshot["meta"])
    snapshot["version"] += 1
    timestamp["version"] += 1
    of_snapshot = signed("snapshot", snapshot)
    timestamp["meta"]["snapshot.json"] = {
        "version": version + 1,
        "length": len(of_snapshot),
        "hashes": {"sha256": hashlib.sha256(of_snapshot).hexdigest()},
    }
    (newest,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
    files = {"snapshot": (version + 1, of_snapshot), "timestamp": (timestamp["version"], signed("timestamp", timestamp))}
    await repository.bus.append(
        [
            Message(topics.METADATA, role, content, headers={**newest.headers, VERSION_HEADER: str(number)})
            for role, (number, content) in files.items()
        ]
    )
