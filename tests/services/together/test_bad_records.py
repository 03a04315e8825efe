"""An unreadable record stops nobody: every reader of its topic skips it, and health names it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock, utc_now
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.records import Add, Bootstrap, Head, Progress, Settings, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.admin import AdminFollower
from tufline_ingest.retention import INBOX_KEPT, trim_once
from tufline_ingest.views.published import PublishedView
from tufline_publisher.resume import find_origin
from tufline_signer.errors import DamagedHeadsError
from tufline_signer.heads import take_over
from tufline_testing.inbox import change, event, event_receipts, moved_to, moving, service, structured
from tufline_testing.log import announce, announce_bootstrap, bootstrap_record, eventually, on_a_log, read_all
from tufline_testing.origin import Reader

PARTITIONS = 2
JUNK = b'{"kind":"\xff'

PLACES = {
    "heads of a bin": (topics.HEADS, 0, "bins-0"),
    "heads of the snapshot": (topics.HEADS, PARTITIONS, "snapshot"),
    "a head of an unknown role": (topics.HEADS, PARTITIONS, "x"),
    "published": (topics.PUBLISHED, 0, "origin"),
    "admin": (topics.ADMIN, 0, "targets"),
    "metadata of a bin": (topics.METADATA, 0, "bins-0"),
    "metadata of a timestamp": (topics.METADATA, 0, "timestamp"),
}


@asynccontextmanager
async def running(*services: Awaitable[None]) -> AsyncIterator[None]:
    """Run services, none of which may end on its own; leaving the block stops them at any point of their work."""
    tasks = [asyncio.ensure_future(service) for service in services]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("topic", "partition", "key"), PLACES.values(), ids=PLACES)
def test_one_bad_record_stops_nobody(tmp_path: Path, topic: str, partition: int, key: str) -> None:
    """With junk on a topic, running and starting services continue to sign and publish; they stay ready, and health names the record."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4)
    junk = Message(topic, key, JUNK, partition, {VERSION_HEADER: "900"})

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        health = Health()
        directory = tmp_path / "origin"

        def services() -> list[Awaitable[None]]:
            live, admin = PublishedView(bus, "origin", PassedOver(health, "live")), AdminFollower(bus, PassedOver(health, "admin"))
            return [
                tufline_signer.service.run(bus, SignerConfig(key_dir=tmp_path / "keys"), clock=clock, health=health),
                tufline_publisher.service.run(bus, PublisherConfig(directory=directory), LocalStore(directory), clock=clock, health=health),
                live.run(),
                admin.run(),
            ]

        async def becomes_live(path: str) -> None:
            await announce(bus, bootstrap.settings, [Add(path, 1, {"sha256": "0" * 64})])
            await eventually(lambda: asyncio.sleep(0, path in Reader(directory, clock).refresh()), seconds=120)

        async with running(*services()):
            await becomes_live("before")
            (position,) = await bus.append([junk])
            place = f"offset {position.offset} of {topic}/{partition}"
            await eventually(lambda: asyncio.sleep(0, any(place in text for text in health.warnings.values())))
            assert health.ready, health.problems
            await becomes_live("after")
        await bus.append([junk])  # as the newest record of its key, it is the first that a start finds
        async with running(*services()):
            await becomes_live("again")
            await eventually(lambda: asyncio.sleep(0, health.ready))

    on_a_log(tmp_path / "log.db", bootstrap, story)


def damage(path: Path, key: str) -> None:
    """Damage the only record of a key in the file of a closed bus."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("UPDATE records SET value = 7, headers = '{' WHERE key = ?", (key,)).rowcount == 1


@pytest.mark.parametrize("damaged", [False, True], ids=["junk", "damaged"])
async def test_bad_progress_does_not_stop_the_inbox(tmp_path: Path, damaged: bool) -> None:
    """Worker and retention of an inbox continue from the newest readable progress, and health names the unreadable record."""
    path = tmp_path / "log.db"
    bus = await open_embedded(path, topics.topics(PARTITIONS))
    await announce_bootstrap(bus, bootstrap_record(tmp_path / "keys", PARTITIONS))
    async with moving(bus):
        await bus.append([structured(event(change("a"), id="1"))])
        await eventually(lambda: are_accepted(bus, 1))
    end = await moved_to(bus, 0)
    (position,) = await bus.append([Message(topics.INBOX_PROGRESS, "bad", JUNK)])
    if damaged:
        await bus.close()
        damage(path, "bad")
        bus = await open_embedded(path, topics.topics(PARTITIONS))
    health = Health()
    async with running(service(bus, health)):
        await bus.append([structured(event(change("b"), id="2"))])
        await eventually(lambda: are_accepted(bus, 2))
        assert f"offset {position.offset}" in health.warnings["ingest.inbox.0.records"]
        assert health.ready, health.problems
    assert "ingest.inbox.0.records" not in health.warnings
    passed = PassedOver(health, "retention")
    await bus.append([Message(topics.INBOX_PROGRESS, "bad", JUNK)])
    await trim_once(bus, PublishedView(bus, "origin"), lambda: utc_now() + 2 * INBOX_KEPT, passed)
    await bus.maintain()
    assert await bus.start(topics.INBOX, 0) > end, "the inbox is kept indefinitely"
    assert topics.INBOX_PROGRESS in health.warnings["retention.records"]
    await bus.close()


async def are_accepted(bus: EmbeddedBus, number: int) -> bool:
    """Return whether this many events were accepted, each once."""
    found = [receipt for receipt in await event_receipts(bus) if receipt.outcome == "accepted"]
    assert len(found) <= number
    return len(found) == number


def test_takeover_makes_an_unreadable_head_again(tmp_path: Path) -> None:
    """If the newest head of a role is unreadable, its writer and all followers use the version of its file in metadata."""
    bootstrap = Bootstrap(settings=Settings(2, "bins", PARTITIONS, {}), root={})
    file = (
        b'{"signatures":[{"keyid":"k","sig":"00"}],"signed":{"_type":"targets","expires":"2040-01-01T00:00:00Z","targets":{},"version":7}}'
    )

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        del clock
        await announce_bootstrap(bus, bootstrap)
        (position,) = await bus.append([Message(topics.METADATA, "bins-0", file, headers={VERSION_HEADER: "7"})])
        await bus.append([Message(topics.HEADS, records.PROGRESS_KEY, records.encode(Progress(offset=3)))])
        await bus.append([Message(topics.HEADS, key, JUNK) for key in ("bins-0", "junk")])
        health = Health()
        async with take_over(bus, "signer.bins.0", 0, PassedOver(health, "p")) as owned:
            head = owned.heads["bins-0"]
            assert (head.version, head.offset, head.keyids, owned.progress) == (7, position.offset, ["k"], Progress(offset=3))
            assert set(owned.heads) == {"bins-0"}
            assert "junk" in health.warnings["p.records"]
        newest = [record for record in await read_all(bus, topics.HEADS) if record.key == "bins-0"][-1]
        assert records.decode(records.heads_decoder, newest.value) == head
        assert isinstance(head, Head)
        assert not health.warnings

    on_a_log(tmp_path / "log.db", bootstrap, story)


@pytest.mark.parametrize("topic", [topics.HEADS, topics.METADATA])
async def test_a_damaged_head_stops_a_takeover_and_says_how_to_go_on(tmp_path: Path, topic: str) -> None:
    """No version is guessed if the record that names it is damaged; the error advises to restore it and not to delete it."""
    path = tmp_path / "log.db"
    bus = await open_embedded(path, topics.topics(PARTITIONS))
    await bus.append([Message(topics.HEADS, "bins-0", JUNK)])
    (position,) = await bus.append([Message(topic, "bad", JUNK)])
    await bus.close()
    damage(path, "bad")
    bus = await open_embedded(path, topics.topics(PARTITIONS))
    with pytest.raises(DamagedHeadsError) as caught:
        async with take_over(bus, "signer.bins.0", 0, PassedOver(Health(), "p")):
            pass
    said = str(caught.value)
    assert f"{topic}/0 offset {position.offset} can't be decoded" in said
    assert "restore it from a replica or a backup; do not delete it" in said
    assert "docs/how-to/lost-input.md, damaged heads" in said
    assert "go on without" not in said
    await bus.close()


async def test_a_damaged_record_does_not_keep_a_publisher_from_an_origin(tmp_path: Path) -> None:
    """A publisher that claims an origin reads all roots of its log, past a damaged record, which health names."""
    path = tmp_path / "log.db"
    bus = await open_embedded(path, topics.topics(PARTITIONS))
    await announce_bootstrap(bus, bootstrap_record(tmp_path / "keys", PARTITIONS))
    await bus.append([Message(topics.ADMIN, "bad", JUNK)])
    await bus.close()
    damage(path, "bad")
    bus = await open_embedded(path, topics.topics(PARTITIONS))
    health = Health()
    found = await find_origin(bus, LocalStore(tmp_path / "origin"), "origin", utc_now(), PassedOver(health, "publisher"))
    assert found.offset == 0
    assert "admin/0 offset 1 can't be decoded" in health.warnings["publisher.records"]
    await bus.close()
