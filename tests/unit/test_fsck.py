"""fsck finds any tampering with a log or an origin, and nothing in intact ones."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks import fsck
from tufline.metadata import envelope
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.records.metadata import VERSION_HEADER
from tufline_testing.log import newest_heads, read_all, settings_of
from tufline_testing.rest import PARTITIONS, artifact, bootstrapped


@asynccontextmanager
async def quiet_log(path: Path) -> AsyncIterator[EmbeddedBus]:
    """Provide the log of a repository with a history and stopped services."""
    async with bootstrapped(path) as server:
        for number in (1, 2):
            _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a", number), artifact("b", number)]})
            await server.task(answer["data"]["task_id"])
    bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS))
    try:
        yield bus
    finally:
        await bus.close()


def newest(origin: Path, role: str) -> Path:
    """Find a role's newest file."""
    return max(origin.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))


def changed(origin: Path) -> Path:
    """Find the newest file of a bin that has changed."""
    return max(origin.glob("*.bins-*.json"), key=lambda path: int(path.name.partition(".")[0]))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _renumber(origin: Path, up: int) -> None:
    path = origin / "timestamp.json"
    file = envelope.disassemble(path.read_bytes())
    version = envelope.read_common(file.signed).version
    path.write_bytes(path.read_bytes().replace(b'"version":%d}}' % version, b'"version":%d}}' % (version + up)))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bin is missing": (lambda origin: changed(origin).unlink(), "is missing"),
    "a bin is damaged": (lambda origin: _flip(changed(origin)), "differs from the log"),
    "a bin is cut off": (lambda origin: changed(origin).write_bytes(b""), "differs from the log (0 bytes"),
    "root is missing": (lambda origin: (origin / "1.root.json").unlink(), "1.root.json is missing"),
    "targets is damaged": (lambda origin: _flip(newest(origin, "targets")), "targets.json differs from the log"),
    "the snapshot is missing": (lambda origin: newest(origin, "snapshot").unlink(), "snapshot.json is missing"),
    "the snapshot is damaged": (lambda origin: _flip(newest(origin, "snapshot")), "is not the snapshot that timestamp.json names"),
    "a superseded file is damaged": (lambda origin: _flip(origin / "1.snapshot.json"), "1.snapshot.json differs from the log"),
    "the timestamp is missing": (lambda origin: (origin / "timestamp.json").unlink(), "timestamp.json is missing, but version"),
    "the timestamp is none": (lambda origin: (origin / "timestamp.json").write_text("{}"), "timestamp.json is not a timestamp"),
    "the timestamp went back": (lambda origin: _renumber(origin, -1), "timestamp.json has gone back to version"),
    "the timestamp is ahead": (lambda origin: _renumber(origin, 5), "which the log does not have"),
    "an unknown version": (lambda origin: (origin / "99.snapshot.json").write_text("{}"), "99.snapshot.json is not on the log"),
    "an unknown role": (lambda origin: (origin / "1.evil.json").write_text("{}"), "1.evil.json is not a file of this repository"),
    "an unknown file": (lambda origin: (origin / "index.html").write_text(""), "index.html is not a file of this repository"),
}


async def test_every_damage_of_an_origin_is_found(tmp_path: Path) -> None:
    """A repository with a history has no finding; each damage to its origin has a finding that names it, until it is repaired."""
    origin = tmp_path / "origin"
    async with quiet_log(tmp_path) as bus:
        store = LocalStore(origin)
        clean = await fsck.compare(bus, store, "origin")
        assert clean.findings == []
        assert clean.timestamp_version > 1
        assert clean.files == len(await store.names()) > 10
        assert any("superseded" in note for note in clean.notes)
        kept = {path.name: path.read_bytes() for path in origin.iterdir()}
        for name, (damage, expected) in DAMAGES.items():
            damage(origin)
            found = await fsck.compare(bus, store, "origin")
            assert any(expected in finding for finding in found.findings), f"{name}: {found.findings}"
            for path in origin.iterdir():
                path.unlink()
            for file, content in kept.items():
                (origin / file).write_bytes(content)
        assert (await fsck.compare(bus, store, "origin")).findings == []


async def test_an_origin_that_is_behind_is_not_a_fault(tmp_path: Path) -> None:
    """Files that the publisher has not uploaded yet are a note: the origin is behind, or empty."""
    async with quiet_log(tmp_path) as bus:
        empty = await fsck.compare(bus, LocalStore(tmp_path / "empty"), "another")
        assert (empty.findings, empty.notes) == ([], ["nothing is published yet"])
        (record,) = [record for record in await read_all(bus, topics.METADATA) if record.key == "timestamp"][-1:]
        version = int(record.headers[VERSION_HEADER])
        later = record.value.replace(b'"version":%d}}' % version, b'"version":%d}}' % (version + 1))
        (position,) = await bus.append(
            [Message(topics.METADATA, "timestamp", later, headers={**record.headers, "version": f"{version + 1}"})]
        )
        head = (await newest_heads(bus))["timestamp"]
        moved = msgspec.structs.replace(head, version=version + 1, offset=position.offset, sha256=envelope.sha256(later), length=len(later))
        await bus.append([Message(topics.HEADS, "timestamp", records.encode(moved), PARTITIONS)])
        behind = await fsck.compare(bus, LocalStore(tmp_path / "origin"), "origin")
        assert behind.findings == []
        assert any(f"and the log {version + 1}" in note for note in behind.notes)


@dataclass
class Moving:
    """A log or an origin on which something new is accepted and published before each read."""

    real: Any
    step: Callable[[], Awaitable[None]]
    moved: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def reader(self, topic: str, partition: int, offset: int) -> Any:
        return Moving(self.real.reader(topic, partition, offset), self.step)

    async def fetch(self, *, max_wait: float, max_bytes: int) -> Any:
        found = await self.real.fetch(max_wait=max_wait, max_bytes=max_bytes)
        if not self.moved:
            self.moved = True
            await self.step()
        return found

    async def get(self, name: str) -> Any:
        if not name[0].isdigit():
            await self.step()
        found = await self.real.get(name)
        if name.endswith(".snapshot.json"):
            await self.step()
        return found

    async def names(self) -> Any:
        await self.step()
        return await self.real.names()


async def test_changes_during_the_comparison_are_not_findings(tmp_path: Path) -> None:
    """While services run, and publish between any two reads, there is no finding; damage is found nevertheless."""
    steps = 0
    async with bootstrapped(tmp_path) as server:

        async def step() -> None:
            nonlocal steps
            steps += 1
            # A removal of nothing appends the same timestamp again.
            call, body = ("/api/v1/artifacts/", [artifact(f"p/{steps}")]) if steps % 3 else ("/api/v1/artifacts/delete", ["nothing"])
            _, answer = await server.ask("POST", call, {"artifacts": body})
            await server.task(answer["data"]["task_id"])

        await step()
        bus, store = Moving(server.bus, step), Moving(LocalStore(tmp_path / "origin"), step)
        found = await fsck.compare(bus, store, "origin")
        assert found.findings == []
        assert steps > 6
        (tmp_path / "origin" / "1.bins-0.json").write_bytes(b"")
        found = await fsck.compare(bus, store, "origin")
        assert len(found.findings) == 1, found.findings
        assert "1.bins-0.json differs from the log (0 bytes" in found.findings[0]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda record: replace(record, value=record.value.replace(b'"spec_version":"1', b'"spec_version":"2')),
            "has two different contents",
        ),
        (lambda record: replace(record, headers={"version": "77"}), "has no versions between"),
        (lambda record: replace(record, headers={"version": "77"}), "version 77, but its file has"),
        (lambda record: replace(record, headers={}), "is not a metadata file"),
        (lambda record: replace(record, value=b"{}"), "is not a metadata file"),
        (lambda record: replace(record, key="bins-new"), "bins-new has no head"),
    ],
)
async def test_every_damage_of_metadata_is_found(tmp_path: Path, spoil: Callable[[object], object], expected: str) -> None:
    """A record that no signer would append is named with its offset."""
    async with quiet_log(tmp_path) as bus:
        record = [record for record in await read_all(bus, topics.METADATA) if record.key.startswith("bins-")][-1]
        bad = spoil(record)
        await bus.append([Message(topics.METADATA, bad.key, bad.value, headers=bad.headers)])  # type: ignore[attr-defined]
        found = await fsck.compare(bus, LocalStore(tmp_path / "origin"), "origin")
        assert any(expected in finding for finding in found.findings), found.findings


@pytest.mark.parametrize(
    ("changes", "partition", "expected"),
    [
        ({"version": 1000}, None, "names version 1000, which metadata does not have"),
        ({"sha256": "0" * 64}, None, "does not match the record of version"),
        ({"offset": 0}, None, "does not match the record of version"),
        ({"version": 1}, None, "names version 1, but metadata has"),
        ({}, PARTITIONS, "has a head in two partitions"),
    ],
)
async def test_every_damage_of_heads_is_found(tmp_path: Path, changes: dict[str, object], partition: int | None, expected: str) -> None:
    """A head that does not match metadata is reported with its role."""
    async with quiet_log(tmp_path) as bus:
        role, head = max(
            ((role, head) for role, head in (await newest_heads(bus)).items() if role.startswith("bins-")), key=lambda one: one[1].version
        )
        bins = settings_of(8, PARTITIONS, {}).partitioning
        home = bins.partition_of(int(role.partition("-")[2], 16)) if partition is None else partition
        await bus.append([Message(topics.HEADS, role, records.encode(msgspec.structs.replace(head, **changes)), home)])
        found = await fsck.compare(bus, LocalStore(tmp_path / "origin"), "origin")
        assert any(expected in finding for finding in found.findings), found.findings


@pytest.mark.parametrize(
    ("slot", "partition", "expected"),
    [
        (7, None, "held more than once, in heads/"),
        (7, 1, "held more than once, in heads/"),
        (0, None, "but its progress counts 1"),
    ],
)
async def test_every_damage_of_what_is_held_is_found(tmp_path: Path, slot: int, partition: int | None, expected: str) -> None:
    """Held changes are a note; a path that is held twice, or a slot that the progress does not count, is a finding."""
    async with bootstrapped(tmp_path) as server:
        body = {"artifacts": [artifact("a")], "publish_artifacts": False}
        _, answer = await server.ask("POST", "/api/v1/artifacts/", body)
        await server.task(answer["data"]["task_id"])
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    try:
        clean = await fsck.compare(bus, LocalStore(tmp_path / "origin"), "origin")
        assert clean.findings == []
        assert "1 changes are held until they are published (tufline publish)" in clean.notes
        own = settings_of(8, PARTITIONS, {}).partitioning.partition_of_path("a")
        other = own if partition is None else (own + partition) % PARTITIONS
        content = records.Held(path="a" if slot else "", entry='"a":{}', offset=1)
        await bus.append([Message(topics.HEADS, records.held_key(slot), records.encode(content), other)])
        found = await fsck.compare(bus, LocalStore(tmp_path / "origin"), "origin")
        assert any(expected in finding for finding in found.findings), found.findings
    finally:
        await bus.close()
