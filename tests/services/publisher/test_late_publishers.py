"""Publishers that were paused, stopped or locked out: none reverts the origin, and its successor continues."""

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import tufline_publisher.service
import tufline_signer.service
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.errors import BusError
from tufline.origin.directory import LOCK_PATIENCE_SECONDS, LocalStore
from tufline.origin.directory_lock import locked
from tufline.origin.store import TIMESTAMP
from tufline.records import Add, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_publisher.resume import find_origin
from tufline_testing.log import (
    announce,
    announce_bootstrap,
    bootstrap_record,
    eventually,
    read_all,
    settled,
)
from tufline_testing.origin import Reader
from tufline_testing.paused import StoppedBus
from tufline_testing.publishing import PARTITIONS, SignedRepository, in_a_signed_repository


class StopsBefore(LocalStore):
    """A store whose process is stopped for a minute just before it replaces the timestamp."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.is_armed = False
        self.woke_up = asyncio.Event()

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        is_late = self.is_armed and name == TIMESTAMP
        if is_late:
            self.is_armed = False
            await asyncio.sleep(60)
        try:
            await super().replace(name, content, expected=expected, owner=owner)
        finally:
            if is_late:
                self.woke_up.set()


def test_publisher_that_wakes_up_late_changes_nothing(tmp_path: Path) -> None:
    """A publisher that was paused before it replaced the timestamp, while another took over, never reverts the origin."""

    async def story(repository: SignedRepository) -> None:
        store = StopsBefore(repository.directory)
        config = PublisherConfig(directory=repository.directory)
        bus = StoppedBus(repository.bus)
        old = asyncio.create_task(tufline_publisher.service.run(bus, config, store, clock=repository.clock, health=Health()))
        await repository.announce("a")
        await repository.published()
        store.is_armed = True
        await repository.announce("b")
        await eventually(lambda: asyncio.sleep(0, not store.is_armed))
        reader = Reader(repository.directory, repository.clock)
        async with repository.publisher():
            for number in range(3):
                await repository.announce(f"c{number}")
                await repository.published()
            reader.refresh()
            shown = repository.version
            await store.woke_up.wait()
            assert repository.version == shown
            reader.refresh()
            await repository.announce("d")
            assert "d" in await repository.published()
            reader.refresh()
        old.cancel()
        await asyncio.gather(old, return_exceptions=True)

    in_a_signed_repository(tmp_path, story)


def test_lock_of_a_stopped_process_is_reported_until_it_is_free(tmp_path: Path) -> None:
    """While another process locks the origin nothing is published, health names it constantly, and publishing resumes afterwards."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            shown = repository.version
            with locked(repository.directory):
                await repository.announce("b")
                await repository.signed()
                await asyncio.sleep(2 * LOCK_PATIENCE_SECONDS)
                for _ in range(600):
                    assert f"by process {os.getpid()} on {socket.gethostname()}" in repository.problem
                    await asyncio.sleep(1)
                assert repository.version == shown
            assert set(await repository.published()) == {"a", "b"}
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)


async def test_released_only_when_its_threads_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is cancelled while a thread replaces the timestamp returns when that has ended: no successor is overwritten."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4)
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    await announce_bootstrap(bus, bootstrap)
    health, directory = Health(), tmp_path / "origin"
    signer = asyncio.create_task(tufline_signer.service.run(bus, SignerConfig(key_dir=tmp_path / "keys"), health=health))

    def publisher() -> asyncio.Task[None]:
        config = PublisherConfig(directory=directory)
        return asyncio.create_task(tufline_publisher.service.run(bus, config, LocalStore(directory), health=Health()))

    entered, may_go, rename = threading.Event(), threading.Event(), os.rename

    def slow_rename(source: str, target: str | Path) -> None:
        if Path(target).name == TIMESTAMP and not entered.is_set():
            entered.set()
            assert may_go.wait(60)
        rename(source, target)

    first = publisher()
    monkeypatch.setattr(os, "rename", slow_rename)
    await announce(bus, bootstrap.settings, [Add("a", 1, {"sha256": "0" * 64})])
    assert await asyncio.to_thread(entered.wait, 60)
    first.cancel()
    done, _ = await asyncio.wait({first}, timeout=0.1)
    may_go.set()
    assert not done, "the partition was released while a thread still writes"
    await asyncio.wait({first})
    second = publisher()
    await settled(bus)
    reader = Reader(directory, utc_now)

    async def is_shown() -> bool:
        return "a" in reader.refresh()

    await eventually(is_shown)
    for task in (second, signer):
        task.cancel()
    await asyncio.gather(second, signer, return_exceptions=True)
    await bus.close()


def test_own_timestamp_that_the_log_has_forgotten(tmp_path: Path) -> None:
    """A publisher that died between the timestamp and its record continues, even after compaction deleted that timestamp from the log."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        append = repository.bus.append

        async def failing(messages: Any) -> Any:
            if any(message.topic == topics.PUBLISHED for message in messages):
                raise BusError("the process dies here")
            return await append(messages)

        repository.bus.append = failing  # type: ignore[method-assign]
        async with repository.publisher():
            await repository.announce("b")
            signed = await repository.signed()
            await eventually(lambda: asyncio.sleep(0, (repository.directory / TIMESTAMP).read_bytes() == signed.timestamp))
        repository.bus.append = append  # type: ignore[method-assign]
        for number in range(3):
            await repository.announce(f"c{number}")
            await repository.signed()
            await asyncio.sleep(3700)
        await repository.bus.maintain()

    async def later(repository: SignedRepository) -> None:
        shown = (repository.directory / TIMESTAMP).read_bytes()
        assert shown not in {record.value for record in await read_all(repository.bus, topics.METADATA)}
        async with repository.publisher():
            assert set(await repository.published()) == {"a", "b", "c0", "c1", "c2"}
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)
    in_a_signed_repository(tmp_path, later, is_new=False)


def test_a_starting_publisher_publishes_no_older_timestamp(tmp_path: Path) -> None:
    """A publisher that starts at an origin without the published snapshot uploads everything again, but publishes no older timestamp."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            for path in "ab":
                await repository.announce(path)
                await repository.published()
        last = await repository.last_published()
        assert last is not None
        (repository.directory / f"{last.snapshot.version}.snapshot.json").unlink()
        passed = PassedOver(Health(), "publisher")
        found = await find_origin(repository.bus, LocalStore(repository.directory), "origin", repository.clock(), passed)
        assert (found.offset, found.origin.least) == (0, repository.version)

    in_a_signed_repository(tmp_path, story)
