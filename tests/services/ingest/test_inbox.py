"""The inbox: events that repositories write are applied once, or rejected with a reason, and nothing stops it."""

import asyncio
import os
import random
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tufline.bus import Bus, Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.bus.headers import ESCAPE, Headers, pairs_of
from tufline.errors import FencedError, InvalidInputError
from tufline.records import Add, Remove, cursor, events, rejected, topics
from tufline.records.cursor import Task
from tufline.records.events import MAX_EVENT_BYTES
from tufline_ingest.inbox import dedupe, inbox_worker
from tufline_ingest.inbox.reject import KEPT_BYTES
from tufline_testing.checkout import ROOT
from tufline_testing.inbox import (
    DIGEST,
    all_moved,
    change,
    changes_on_log,
    event,
    event_receipts,
    every,
    is_moved,
    moving,
    numbers,
    service,
    structured,
)
from tufline_testing.log import announce_bootstrap, bootstrap_record, read_all
from tufline_testing.paused import StubbornBus
from tufline_testing.rest import PARTITIONS as REST_PARTITIONS
from tufline_testing.rest import bootstrapped
from tufline_testing.simulation.schedule import Crash, MortalLoop
from tufline_testing.simulation.virtual_time import run_virtual

PARTITIONS = 2


async def begin(path: Path, **more: Any) -> EmbeddedBus:
    """Open a log with a bootstrap."""
    bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS), **more)
    if await bus.end(topics.ADMIN, 0) == 0:
        await announce_bootstrap(bus, bootstrap_record(path / "keys", PARTITIONS))
    return bus


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    """Provide a log with a bootstrap."""
    opened = await begin(tmp_path)
    yield opened
    await opened.close()


def from_sdk(mode: Callable[..., Any], **attributes: Any) -> Message:
    """Make a record with the official SDK of CloudEvents."""
    data = {"changes": [change("a", 7, custom={"k": "ä"}), change("b", 8), change("a", op="remove")]}
    named = {"type": "tufline.artifacts.v1", "source": "urn:repo:ä", "id": "e1", "datacontenttype": "application/json", **attributes}
    made = mode(CloudEvent(attributes=named, data=data), JSONFormat(), lambda one: one.get_source())
    return Message(topics.INBOX, made.key, made.value, 1, {name: value.decode() for name, value in made.headers.items()})


@pytest.mark.parametrize("mode", [to_structured, to_binary])
async def test_both_modes_of_cloudevents(bus: EmbeddedBus, mode: Callable[..., Any]) -> None:
    """An event of the official SDK, in either mode and with an extension, is on the log in its order, and its receipt names its task."""
    async with moving(bus):
        await bus.append([from_sdk(mode, myextension="x", partitionkey="y")])
        await all_moved(bus)
    assert {path: [one for one in await changes_on_log(bus) if one.path == path] for path in "ab"} == {
        "a": [Add("a", 7, {"sha256": DIGEST}, {"k": "ä"}), Remove("a")],
        "b": [Add("b", 8, {"sha256": DIGEST})],
    }
    (receipt,) = await event_receipts(bus)
    assert (receipt.partition, receipt.source, receipt.id, receipt.outcome) == (1, "urn:repo:ä", "e1", "accepted")
    task = cursor.decode(receipt.task, bus.log_id)
    on_log = {record.partition: record.offset for record in await every(bus, topics.ARTIFACTS)}
    assert (task.task, task.positions) == (Task.BULK, {partition: [offset] for partition, offset in on_log.items()})
    (record,) = await read_all(bus, topics.RECEIPTS, 1)
    assert record.key == "urn:repo:ä"
    assert await every(bus, topics.REJECTED) == []


BARE = event(change("a", 5))

GOOD: dict[str, Message] = {
    "no content type": Message(topics.INBOX, "", structured(BARE).value),
    "content type of JSON, and structured all the same": Message(
        topics.INBOX, "k", structured(BARE).value, 0, {"content-type": "application/json"}
    ),
    "content type with a charset": Message(
        topics.INBOX, "k", structured(BARE).value, 0, {"content-type": "Application/CloudEvents+JSON; charset=utf-8"}
    ),
    "data of a JSON of its own": structured(event(change("a", 5), datacontenttype="application/vnd.x+json")),
    "extensions and optional attributes": structured(event(change("a", 5), subject="s", time="2030-01-01T00:00:00Z", ext=7)),
    "headers that mean nothing": Message(
        topics.INBOX, "k", structured(BARE).value, 0, Headers([("x", b"\xff".decode(errors=ESCAPE)), ("x", ""), ("traceparent", "00")])
    ),
    "a line without op is an addition": structured(event({"path": "a", "info": {"length": "5", "hashes": {"sha256": DIGEST}}})),
}


@pytest.mark.parametrize("message", GOOD.values(), ids=GOOD)
async def test_good_events(bus: EmbeddedBus, message: Message) -> None:
    """Everything that the CloudEvents specification leaves optional is accepted."""
    async with moving(bus):
        await bus.append([message])
        await all_moved(bus)
    assert await changes_on_log(bus) == [Add("a", 5, {"sha256": DIGEST})]
    assert [receipt.outcome for receipt in await event_receipts(bus)] == ["accepted"]


def raw(value: bytes, *headers: tuple[str, str], key: str = "k") -> Message:
    return Message(topics.INBOX, key, value, 0, Headers(headers))


def binary(value: bytes, *more: tuple[str, str], **attributes: str) -> Message:
    named = {"specversion": "1.0", "id": "1", "source": "repo", "type": "tufline.artifacts.v1", **attributes}
    return raw(value, *((f"ce_{name}", text) for name, text in named.items() if text), *more)


NOT_TEXT = b"\xff".decode(errors=ESCAPE)
DATA = b'{"changes":[{"op":"remove","path":"a"}]}'

BAD: dict[str, tuple[Message, str]] = {
    "no value": (raw(b""), "the record has no value"),
    "no JSON": (raw(b"{"), "the value is not JSON"),
    "not UTF-8": (raw(b'{"id":"\xff"}'), "the value is not JSON"),
    "too deep": (raw(b"[" * 100_000), "not a JSON object"),
    "half a surrogate pair": (raw(b'{"id":"\\ud800"}'), "the value is not JSON"),
    "no object": (structured([1]), "not a JSON object"),
    "an empty object": (structured({}), "the attribute specversion is missing"),
    "no id": (structured(event(change("a"), id=None)), "the attribute id is missing"),  # type: ignore[arg-type]
    "an empty id": (structured(event(change("a"), id="")), "id must be a string of 1 to 1024"),
    "an id that is a number": (structured(event(change("a"), id=7)), "id must be a string"),  # type: ignore[arg-type]
    "a long source": (structured(event(change("a"), source="s" * 1025)), "source must be a string of 1 to 1024"),
    "another version": (structured(event(change("a"), specversion="0.3")), "specversion is '0.3', but only '1.0' is supported"),
    "another type": (structured(event(change("a"), type="x.y")), "type is 'x.y', but only 'tufline.artifacts.v1' is supported"),
    "data_base64": (structured(event(data=None, data_base64="e30=")), "data_base64 is not supported"),
    "data_base64 beside data": (structured(event(change("a"), data_base64="e30=")), "data_base64 is not supported"),
    "no data": (structured(event(data=None)), "missing required field `data`"),
    "data of another form": (structured(event(data=[1])), "has another form"),
    "data of text": (structured(event(change("a"), datacontenttype="text/plain")), "datacontenttype is 'text/plain'"),
    "no changes": (structured(event()), "length >= 1"),
    "unknown field in data": (structured(event(data={"changes": [change("a")], "x": 1})), "unknown field `x`"),
    "unknown field of a change": (structured(event({**change("a"), "x": 1})), "unknown field `x`"),
    "unknown op": (structured(event(change("a", op="publish"))), "Invalid enum value 'publish' - at `$.data.changes[0].op`"),
    "an addition of nothing": (structured(event({"op": "add", "path": "a"})), "changes[0] ('a') can't be accepted: info is missing"),
    "one bad path among good ones": (
        structured(event(change("a"), change("/b"))),
        "changes[1] ('/b') can't be accepted: the path is absolute",
    ),
    "an unknown hash": (structured(event(change("a", hashes={"md5": "00"}))), "the hash algorithm 'md5'"),
    "a path with a parent": (structured(event({"op": "remove", "path": "a/../b"})), "'..' segment"),
    "a batch": (raw(b"[]", ("content-type", "application/cloudevents-batch+json")), "send one event per record"),
    "another format": (raw(b"x", ("content-type", "application/cloudevents+avro")), "send one event per record"),
    "too large": (raw(b" " * (MAX_EVENT_BYTES + 1)), "at most 1048576 are allowed"),
    "binary without id": (binary(DATA, id=""), "the attribute id is missing"),
    "binary with an id twice": (binary(DATA, ("ce_id", "2")), "a ce_ header occurs more than once"),
    "binary with a source that is not UTF-8": (binary(DATA, source=NOT_TEXT), "the attribute source is not UTF-8"),
    "binary of text": (binary(DATA, ("content-type", "text/plain")), "datacontenttype is 'text/plain'"),
    "binary without JSON": (binary(b"x"), "the value is not JSON"),
    "binary of nothing": (binary(b""), "the record has no value"),
    "binary of another form": (binary(b"[]"), "has another form"),
    "a key and headers of any bytes": (
        raw(b"\xff", (NOT_TEXT.encode(errors="backslashreplace").decode(), NOT_TEXT), key=NOT_TEXT),
        "not JSON",
    ),
    "headers like ours": (
        raw(b"x", (rejected.REASON_HEADER, "mine"), (rejected.CUT_HEADER, "9"), (rejected.OFFSET_HEADER, "z")),
        "not JSON",
    ),
}


@pytest.mark.parametrize(("message", "reason"), BAD.values(), ids=BAD)
async def test_bad_events(bus: EmbeddedBus, message: Message, reason: str) -> None:
    """A bad record is rejected whole with a reason, byte for byte and with its place; its neighbours are accepted."""
    before, after = structured(event(change("x", 1), id="before")), structured(event(change("y", 2), id="after"))
    async with moving(bus):
        await bus.append([before, message, after])
        await all_moved(bus)
    assert numbers(await changes_on_log(bus)) == [1, 2]
    receipts = await event_receipts(bus)
    assert [receipt.outcome for receipt in receipts] == ["accepted", "rejected", "accepted"]
    assert reason in receipts[1].reason
    assert (receipts[1].offset, receipts[1].task) == (1, "")
    (record,) = await read_all(bus, topics.REJECTED)
    assert (record.key, record.value) == (message.key, message.value)
    said = rejected.understand(record)
    assert (said.reason, said.partition, said.offset, said.is_cut) == (receipts[1].reason, 0, 1, False)
    assert tuple(said.own_headers) == pairs_of(message.headers)
    assert record.headers[rejected.TOPIC_HEADER] == topics.INBOX


async def test_source_and_id_of_what_is_rejected(bus: EmbeddedBus) -> None:
    """The receipt of a rejected event names its source and id as far as they can be read, so that its producer finds it."""
    async with moving(bus):
        await bus.append([structured(event(change("/"), id="7")), binary(b"x", id="8"), structured(event(change("a"), id="9", type="x"))])
        await all_moved(bus)
    assert [(receipt.source, receipt.id) for receipt in await event_receipts(bus)] == [("repo", "7"), ("repo", "8"), ("repo", "9")]


async def test_a_record_too_large_to_keep(bus: EmbeddedBus) -> None:
    """Of a record too large to append again only the start is kept and marked as truncated; it can't be replayed."""
    large = Message(topics.INBOX, "k", b"v" * (KEPT_BYTES + 1), 0, {"h": "1"})
    wide = Message(topics.INBOX, "k" * 5000, b"v", 0, {"h": "x" * KEPT_BYTES})
    async with moving(bus):
        await bus.append([large, wide, structured(event(change("a", 5)))])
        await all_moved(bus)
    assert numbers(await changes_on_log(bus)) == [5]
    first, second = [one async for one in rejected.each(bus, 0)]
    assert (first.is_cut, first.own_headers) == (True, [("h", "1")])
    assert len(first.record.value) < KEPT_BYTES
    assert first.record.headers[rejected.CUT_HEADER] == str(KEPT_BYTES + 4)
    assert (second.is_cut, second.own_headers, len(second.record.key)) == (True, [], 1000)
    with pytest.raises(InvalidInputError, match="only the start of the record"):
        await rejected.replay(bus, 0, first.record.offset)
    assert await rejected.replay_all(bus) == (0, 2)
    assert await places(bus) == [(0, first.record.offset), (0, second.record.offset)]


async def test_anything_at_all(bus: EmbeddedBus) -> None:
    """Whatever is in the inbox, each record has one receipt, and good events among them are accepted."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    chance = random.Random(seed)
    template = structured(
        event(change("a", custom={"k": [1, None, "ä"]}), change("b", op="remove"), id="t", datacontenttype="application/json")
    )

    def mangled() -> Message:
        value = bytearray(template.value if chance.random() < 0.8 else DATA)
        for _ in range(chance.randrange(4)):
            start = chance.randrange(len(value))
            value[start : start + chance.randrange(6)] = chance.choice(
                [b"", b"\x00", b"\xff", b'"', b"{}", b"null", b"1e999", b"\\ud800", b"[["]
            )
        names = ["content-type", "ce_id", "ce_source", "ce_specversion", "ce_type", "ce_", "x", ""]
        texts = ["1.0", "tufline.artifacts.v1", "application/cloudevents+json", "application/json;", ";", "", NOT_TEXT, "\x00"]
        headers = Headers((chance.choice(names), chance.choice(texts)) for _ in range(chance.randrange(6)))
        return Message(topics.INBOX, chance.choice(["", "k", NOT_TEXT]), bytes(value), chance.randrange(PARTITIONS), headers)

    async with moving(bus):
        for number in range(40):
            await bus.append([*(mangled() for _ in range(10)), structured(event(change("x", 1000 + number), id=f"good {number}"))])
        await all_moved(bus)
    there = [(record.partition, record.offset) for record in await every(bus, topics.INBOX)]
    receipts = await event_receipts(bus)
    assert [(receipt.partition, receipt.offset) for receipt in receipts] == sorted(there)
    assert set(range(1000, 1040)) <= set(numbers(await changes_on_log(bus)))
    rejections = sum(receipt.outcome == "rejected" for receipt in receipts)
    assert len(await every(bus, topics.REJECTED)) == rejections > 100


async def test_an_event_sent_again(bus: EmbeddedBus) -> None:
    """The same source and id is the same event: accepted once, also within one batch; and each repetition names the first one's task."""
    first = structured(event(change("a", 1), id="1"))
    async with moving(bus):
        await bus.append(
            [first, first, structured(event(change("a", 2), id="2")), structured(event(change("a", 3), id="1", source="other"))]
        )
        await all_moved(bus)
        await bus.append([first])
        await all_moved(bus)
    receipts = await event_receipts(bus)
    assert [receipt.outcome for receipt in receipts] == ["accepted", "duplicate", "accepted", "accepted", "duplicate"]
    assert receipts[0].task == receipts[1].task == receipts[4].task != receipts[2].task
    assert numbers(await changes_on_log(bus)) == [1, 2, 3]


async def test_what_was_rejected_may_be_sent_again(bus: EmbeddedBus) -> None:
    """A rejected event is not remembered: the fixed one is accepted under the same id."""
    async with moving(bus):
        await bus.append([structured(event(change("/a"), id="1")), structured(event(change("a", 5), id="1"))])
        await all_moved(bus)
    assert [receipt.outcome for receipt in await event_receipts(bus)] == ["rejected", "accepted"]


@pytest.mark.parametrize("together", [1, 50])
async def test_duplicates_are_known_after_a_takeover(bus: EmbeddedBus, together: int) -> None:
    """The next worker knows the configured number of accepted events, however many were in one transaction, but no older ones."""
    sent = [structured(event(change("a", number), id=str(number))) for number in range(300)]
    with patch.object(inbox_worker, "BATCH_EVENTS", together), patch.object(dedupe, "FIRST_STEP", 2):
        async with moving(bus, inbox_dedup_events=200):
            await bus.append(sent)
            await all_moved(bus)
        for _ in range(3):
            async with moving(bus, inbox_dedup_events=200):
                await bus.append([sent[250]])
                await all_moved(bus)
        await bus.maintain()
        async with moving(bus, inbox_dedup_events=200):
            await bus.append([sent[299], sent[103], sent[99]])
            await all_moved(bus)
    receipts = await event_receipts(bus)
    assert [receipt.outcome for receipt in receipts[300:]] == ["duplicate"] * 5 + ["accepted"]
    assert [receipt.task for receipt in receipts[300:305]] == [receipts[number].task for number in (250, 250, 250, 299, 103)]


def template(path: Path) -> None:
    """Make a log whose inbox has good events, bad ones and repetitions, in both partitions."""

    async def fill() -> None:
        bus = await begin(path)
        for number in range(8):
            good = structured(event(change(f"p/{number}", 100 + number), change("all", 200 + number), id=str(number)), number % 2)
            await bus.append([good, raw(b"bad"), good])
        await bus.close()

    asyncio.run(fill())


async def check_moved_once(bus: EmbeddedBus) -> None:
    """Make sure that of a template each event is on the log once, in its order, and has its receipt."""
    found = await changes_on_log(bus)
    assert numbers(found) == [*range(100, 108), *range(200, 208)]
    for source in range(2):
        of_all = [one.length for one in found if isinstance(one, Add) and one.path == "all" and one.length % 2 == source]
        assert of_all == sorted(of_all), "an older event is put over a newer one"
    receipts = await event_receipts(bus)
    assert len(receipts) == len({(receipt.partition, receipt.offset) for receipt in receipts}) == 24
    assert len(await every(bus, topics.REJECTED)) == 8


def test_moved_once_wherever_the_process_dies(tmp_path: Path) -> None:
    """Whenever the process dies, even repeatedly, each event is moved once, together with everything that belongs to it."""
    (tmp_path / "template").mkdir()
    template(tmp_path / "template")
    deaths = 0
    turns, died = 0, True
    while died:
        turns += 1
        path = tmp_path / str(turns)
        path.mkdir()
        shutil.copy(tmp_path / "template" / "log.db", path / "log.db")
        with patch.object(inbox_worker, "BATCH_EVENTS", 3):
            died = live(path, turns)
            deaths += died
            live(path, turns + 7)
            live(path, float("inf"))
        shutil.rmtree(path)
    assert deaths > 30


def live(path: Path, turns: float) -> bool:
    """Live until all is moved, then check it; or die after some turns."""
    loop = MortalLoop(turns, 0.0)
    opened: list[EmbeddedBus] = []

    async def life() -> None:
        bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS), threads=False)
        opened.append(bus)
        async with moving(bus):
            while not await is_moved(bus):
                await asyncio.sleep(0)
        await check_moved_once(bus)

    task = loop.create_task(life())
    GRAVE.append((loop, task))
    asyncio.set_event_loop(loop)
    try:
        with suppress(Crash):
            loop.run_until_complete(task)
            return False
        return True
    finally:
        for bus in opened:
            bus._log.close()
        asyncio.set_event_loop(None)


GRAVE: list[Any] = []
"""Loops and tasks that died: nothing of them may run again."""


@pytest.mark.parametrize("seed", range(20))
def test_two_at_once(tmp_path: Path, seed: int) -> None:
    """If two processes both hold the partitions, and their transactions arrive late, each event is nevertheless moved once."""
    template(tmp_path)
    chance = random.Random(seed)

    async def story(clock: Any) -> None:
        bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), clock=clock, threads=False)
        with patch.object(inbox_worker, "BATCH_EVENTS", 2):
            tasks = []
            for _ in range(3):
                tasks.append(asyncio.create_task(service(StubbornBus(bus, chance))))
                await asyncio.sleep(chance.choice([0, 0.001, 0.1, 3.0]))
            async with asyncio.timeout(3600):
                while not await is_moved(bus):
                    await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await check_moved_once(bus)
        await bus.close()

    run_virtual(story)


async def test_nothing_is_taken_before_the_bootstrap(tmp_path: Path) -> None:
    """Events that arrive before the bootstrap wait for it, and are accepted then."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with moving(bus):
        await bus.append([structured(event(change("a", 5)))])
        async with asyncio.timeout(20):
            while not await read_all(bus, topics.INBOX_PROGRESS):
                await asyncio.sleep(0.01)
        assert await every(bus, topics.ARTIFACTS) == await every(bus, topics.REJECTED) == []
        await announce_bootstrap(bus, bootstrap_record(tmp_path / "keys", PARTITIONS))
        await all_moved(bus)
    assert numbers(await changes_on_log(bus)) == [5]
    await bus.close()


async def test_replay(bus: EmbeddedBus) -> None:
    """A replayed record arrives in the inbox unchanged, without ingest's headers; if it is valid by now, it is accepted."""
    sha512 = change("a", 5, hashes={"sha512": "ab" * 64})
    message = Message(
        topics.INBOX, NOT_TEXT, structured(event(sha512)).value, 1, Headers([("x", NOT_TEXT), ("x", "2"), (rejected.REASON_HEADER, "mine")])
    )
    async with moving(bus, hash_algorithms=("sha256",)):
        await bus.append([message])
        await all_moved(bus)
    (one,) = [one async for one in rejected.each(bus, 1)]
    async with moving(bus, hash_algorithms=("sha256", "sha512")):
        await rejected.replay(bus, 1, one.record.offset)
        await all_moved(bus)
    first, again = await read_all(bus, topics.INBOX, 1)
    assert (again.key, again.value, pairs_of(again.headers)) == (first.key, first.value, pairs_of(first.headers))
    assert numbers(await changes_on_log(bus)) == [5]


async def places(bus: Bus) -> list[tuple[int, int]]:
    """Return the places of the waiting rejected records."""
    every_partition = range(bus.partitions(topics.REJECTED))
    return [(one.record.partition, one.record.offset) for partition in every_partition async for one in rejected.waiting(bus, partition)]


async def test_replay_all_takes_each_original_once(bus: EmbeddedBus) -> None:
    """However often everything is replayed, each original waits once, with its latest rejection; or not at all once accepted."""
    sha512 = [structured(event(change("a", 5, hashes={"sha512": "ab" * 64}), id=str(number)), number % 2) for number in range(20)]
    bad = [raw(b"bad %d" % number) for number in range(20)]
    with patch.object(rejected, "BATCH_BYTES", 1500):
        await bus.append([one for pair in zip(sha512, bad, strict=True) for one in pair])
        for life in range(5):
            async with moving(bus, hash_algorithms=("sha256",)):
                await all_moved(bus)
            assert len(await places(bus)) == 40, life
            assert await rejected.replay_all(bus) == (40, 0)
            assert await places(bus) == []
        async with moving(bus, hash_algorithms=("sha256",)):
            await all_moved(bus)
        async with moving(bus, hash_algorithms=("sha256", "sha512")):
            for expected in (40, 20):
                assert await rejected.replay_all(bus) == (expected, 0)
                await all_moved(bus)
    waiting = [one async for one in rejected.waiting(bus, 0)]
    assert sorted(one.record.value for one in waiting) == sorted(one.value for one in bad)
    receipts = await event_receipts(bus)
    assert sum(receipt.outcome == "accepted" for receipt in receipts) == 20
    assert not any(receipt.outcome == "duplicate" for receipt in receipts)
    newest = {record.value: record.offset for record in await read_all(bus, topics.INBOX)}
    assert {one.record.value: one.offset for one in waiting} == {one.value: newest[one.value] for one in bad}


async def test_what_is_replayed_by_name_waits_no_more(bus: EmbeddedBus) -> None:
    """A single record can be replayed, even twice, and leaves the list; the records before and after it stay."""
    async with moving(bus):
        await bus.append([raw(b"%d" % number) for number in range(5)])
        await all_moved(bus)
    first = (await places(bus))[0][1]
    offsets = [record.offset for record in await read_all(bus, topics.REJECTED)]
    assert offsets[0] == first
    for number in (3, 1, 3):
        await rejected.replay(bus, 0, offsets[number])
    assert await places(bus) == [(0, offsets[number]) for number in (0, 2, 4)]
    assert [record.value for record in await read_all(bus, topics.INBOX)][5:] == [b"3", b"1", b"3"]
    for nowhere in ((0, 99), (PARTITIONS, 0)):
        with pytest.raises(InvalidInputError, match="there is no rejected record"):
            await rejected.replay(bus, *nowhere)


async def test_of_two_who_replay_the_first_is_stopped(bus: EmbeddedBus) -> None:
    """If another process starts a replay, the first can't replay a record a second time: it is fenced."""
    async with moving(bus):
        await bus.append([raw(b"%d" % number, ("x", "y" * 100)) for number in range(4)])
        await all_moved(bus)
    taking = rejected.waiting

    async def slowly(*where: Any) -> AsyncIterator[rejected.Rejected]:
        async for one in taking(*where):
            yield one
            await bus.writer(rejected.REPLAYER)

    with patch.object(rejected, "waiting", slowly), patch.object(rejected, "BATCH_BYTES", 1), pytest.raises(FencedError):
        await rejected.replay_all(bus)
    assert await rejected.replay_all(bus) == (4, 0)
    assert [record.value for record in await read_all(bus, topics.INBOX)][4:] == [b"0", b"1", b"2", b"3"]


async def test_a_task_of_an_event_is_a_task(tmp_path: Path) -> None:
    """The task id of an event's receipt is answered by the REST API like that of a request, with its details."""
    async with bootstrapped(tmp_path) as server:
        await server.bus.append([structured(event(change("a", 5), change("b", 6))), structured(event(change("no", op="remove"), id="2"))])
        await all_moved(server.bus)
        added, removed = await event_receipts(server.bus)
        result = (await server.task(added.task))["result"]
        assert (result["task"], sorted(result["details"]["added_artifacts"])) == ("add_artifacts", ["a", "b"])
        result = (await server.task(removed.task))["result"]
        assert (result["task"], result["details"]["not_found_artifacts"]) == ("remove_artifacts", ["no"])
        assert (await server.ask("GET", "/api/v1/artifacts/a"))[1]["length"] == 5
        assert {f"ingest.inbox.{number}" for number in range(REST_PARTITIONS)} <= (await server.ask("GET", "/readyz"))[1]["parts"].keys()


def test_events_of_the_guide() -> None:
    """The events in docs/how-to/inbox.md are events."""
    guide = (ROOT / "docs" / "how-to" / "inbox.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    (sent,) = re.findall(r"echo '(.*?)\|(.*?)'", guide)
    assert [len(events.read(text.encode(), {}).data.changes) for text in (shown, sent[1])] == [2, 1]
    assert sent[0] == events.read(sent[1].encode(), {}).source
