"""Damaged progress of the inbox, on both buses: no event is moved twice, and none is lost."""

from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest
import pytest_asyncio

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.scan import scan
from tufline.records import InboxProgress, topics
from tufline.records.receipts import EventReceipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_ingest.inbox import inbox_worker
from tufline_testing.buses import BusSetup, EmbeddedSetup, KafkaSetup
from tufline_testing.inbox import change, changes_on_log, event, every, moving, numbers, structured
from tufline_testing.log import announce_bootstrap, bootstrap_record, eventually

JUNK = b'{"kind":"\xff'
TOPICS = topics.topics(1)


@pytest_asyncio.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.slow)])
async def setup(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BusSetup]:
    """Provide each bus in turn, with a bootstrap."""
    made: BusSetup
    if request.param == "kafka":
        cluster = request.getfixturevalue("kafka")
        made = KafkaSetup(cluster.bootstrap, TOPICS, data=cluster.brokers[0].directory / "data")
        made.topics = TOPICS
        await made.create()
    else:
        made = EmbeddedSetup(tmp_path, TOPICS, threads=True)
        made.topics = TOPICS
    await begin(await made.open(), tmp_path)
    yield made
    await made.end()


@pytest_asyncio.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedSetup]:
    """Provide the embedded bus, with a clock that the test controls, and a bootstrap."""
    made = EmbeddedSetup(tmp_path, TOPICS, threads=True)
    made.topics = TOPICS
    await begin(await made.open(), tmp_path)
    yield made
    await made.end()


async def begin(bus: Bus, path: Path) -> None:
    await announce_bootstrap(bus, bootstrap_record(path / "keys", 1))


def version(number: int) -> Message:
    """Make the event that announces a version of the one artifact; its length tells the versions apart."""
    return structured(event(change("a", number), id=str(number)))


async def move(bus: Bus, *events: Message) -> None:
    """Move events, each in a separate transaction, by a worker that is stopped afterwards."""
    async with moving(bus):
        for one in events:
            await bus.append([one])
            await all_are_moved(bus)


async def readable(bus: Bus, topic: str) -> list[Record]:
    """Read all records that can be read."""
    batches = [batch async for batch in scan(bus, topic, 0, passed=PassedOver(Health(), "test"))]
    return [record for batch in batches for record in batch if record.value != JUNK]


async def progress(bus: Bus) -> list[tuple[Record, InboxProgress]]:
    """Read all progress that can be read."""
    found = [(one, records.decode(records.inbox_decoder, one.value)) for one in await readable(bus, topics.INBOX_PROGRESS)]
    return [(record, content) for record, content in found if isinstance(content, InboxProgress)]


async def receipts(bus: Bus) -> list[EventReceipt]:
    """Read the results of events, by their offset in the inbox."""
    found = [records.decode(receipt_decoder, record.value) for record in await readable(bus, topics.RECEIPTS)]
    return sorted((one for one in found if isinstance(one, EventReceipt) and one.offset >= 0), key=lambda one: one.offset)


async def outcomes(bus: Bus) -> list[str]:
    """Return the result of each event of the inbox, in order."""
    return [receipt.outcome for receipt in await receipts(bus)]


async def have_receipts(bus: Bus, least: int) -> bool:
    """Return whether this many events have a receipt."""
    return len(await receipts(bus)) >= least


async def all_are_moved(bus: Bus) -> None:
    """Wait until each record of the inbox is below the progress."""
    last = (await readable(bus, topics.INBOX))[-1].offset

    async def is_done() -> bool:
        return any(content.offset > last for _, content in await progress(bus))

    await eventually(is_done)


@pytest.mark.parametrize("which", [-1, -2], ids=["newest", "one before"])
async def test_an_event_of_a_damaged_progress_is_not_moved_again(setup: BusSetup, which: int) -> None:
    """The content of a damaged progress record is recovered: how far it went, and which events were accepted, now and later."""
    await move(setup.bus, *map(version, (1, 2, 3)))
    bus = await setup.spoil((await progress(setup.bus))[which][0])
    await move(bus, version(4))
    for _ in range(2):
        await move(bus, version(2), version(3))
    assert numbers(await changes_on_log(bus)) == [1, 2, 3, 4]
    assert await outcomes(bus) == ["accepted"] * 4 + ["duplicate"] * 4
    tasks = {receipt.id: receipt.task for receipt in await receipts(bus) if receipt.outcome == "accepted"}
    assert all(receipt.task == tasks[receipt.id] for receipt in await receipts(bus) if receipt.outcome == "duplicate")


async def test_events_of_a_progress_that_was_overwritten_are_not_moved_again(embedded: EmbeddedSetup) -> None:
    """Junk written under the key of the newest progress, which compaction then deletes, does not bring back any event."""
    await move(embedded.bus, *map(version, (1, 2)))
    newest, _ = (await progress(embedded.bus))[-1]
    await embedded.bus.append([Message(topics.INBOX_PROGRESS, newest.key, JUNK)])
    await embedded.later(1)
    await embedded.maintain()
    assert [content.number for _, content in await progress(embedded.bus)] == [1]
    await move(embedded.bus, version(3), version(2))
    assert numbers(await changes_on_log(embedded.bus)) == [1, 2, 3]
    assert await outcomes(embedded.bus) == ["accepted"] * 3 + ["duplicate"]


async def test_an_event_that_may_have_been_moved_is_rejected(embedded: EmbeddedSetup) -> None:
    """If progress is damaged and receipts are gone, events that may have been moved are rejected and named; new ones are accepted."""
    await move(embedded.bus, version(0))
    sent = [version(number) for number in range(1, 31)]
    async with moving(embedded.bus):
        await embedded.bus.append(sent)
        await all_are_moved(embedded.bus)
    for record, _ in (await progress(embedded.bus))[1:]:
        await embedded.spoil(record)
    await embedded.later(topics.RECEIPTS_SECONDS + 10)
    await embedded.maintain()
    assert await every(embedded.bus, topics.RECEIPTS) == []
    with patch.object(inbox_worker, "BATCH_EVENTS", 1):
        async with moving(embedded.bus):  # ends as soon as moving has started, at any point
            await eventually(lambda: have_receipts(embedded.bus, 1), step=0.001)
        await embedded.bus.append([version(100)])
        async with moving(embedded.bus):
            await all_are_moved(embedded.bus)
    assert numbers(await changes_on_log(embedded.bus)) == [*range(31), 100]
    assert await outcomes(embedded.bus) == ["rejected"] * 30 + ["accepted"]
    kept = await every(embedded.bus, topics.REJECTED)
    assert [one.value for one in kept] == [one.value for one in sent]
    assert all("may have been accepted before" in one.headers["tufline-reason"] for one in kept)


async def test_an_event_whose_receipt_is_damaged_too_is_rejected(embedded: EmbeddedSetup) -> None:
    """If both records of an event's result are damaged, it is rejected, and later events are accepted."""
    await move(embedded.bus, version(1), version(2))
    (newest, _), receipt = (await progress(embedded.bus))[-1], (await every(embedded.bus, topics.RECEIPTS))[-1]
    await embedded.spoil(newest)
    bus = await embedded.spoil(receipt)
    async with moving(bus):
        await eventually(lambda: have_receipts(bus, 2))
        await bus.append([version(3)])
        await all_are_moved(bus)
    assert numbers(await changes_on_log(bus)) == [1, 2, 3]
    found = [(one.offset, one.outcome) for one in await receipts(bus)]
    assert found == [(0, "accepted"), (1, "rejected"), (2, "accepted")]


async def test_a_backlog_older_than_the_receipts_is_moved(embedded: EmbeddedSetup) -> None:
    """Events that waited longer than receipts are kept are accepted if every receipt since the last progress would still exist."""
    await embedded.bus.append([version(1), version(2)])
    await embedded.later(topics.RECEIPTS_SECONDS + 10)
    first = InboxProgress(number=1, offset=1, accepted={})
    await embedded.bus.append([Message(topics.INBOX_PROGRESS, key, value) for key, value in (("@1", records.encode(first)), ("x", JUNK))])
    await move(embedded.bus, version(3))
    assert numbers(await changes_on_log(embedded.bus)) == [2, 3]
    assert await outcomes(embedded.bus) == ["accepted"] * 2
