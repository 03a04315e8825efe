"""Events of the inbox: what is accepted, and what is rejected with a reason, whatever bytes a record has."""

import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.bus.headers import ESCAPE, Headers, pairs_of
from tufline.records import Add, Remove, cursor, events, rejected, topics
from tufline.records.cursor import Task
from tufline.records.events import MAX_EVENT_BYTES
from tufline_testing import rest
from tufline_testing.checkout import ROOT
from tufline_testing.inbox import (
    DIGEST,
    NOT_TEXT,
    PARTITIONS,
    all_moved,
    binary,
    change,
    changes_on_log,
    event,
    event_receipts,
    every,
    moving,
    numbers,
    raw,
    structured,
)
from tufline_testing.log import read_all
from tufline_testing.rest import bootstrapped


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
    "structured mode with the content type of JSON": Message(
        topics.INBOX, "k", structured(BARE).value, 0, {"content-type": "application/json"}
    ),
    "content type with a charset": Message(
        topics.INBOX, "k", structured(BARE).value, 0, {"content-type": "Application/CloudEvents+JSON; charset=utf-8"}
    ),
    "a special content type of JSON for the data": structured(event(change("a", 5), datacontenttype="application/vnd.x+json")),
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
    "an addition without info": (structured(event({"op": "add", "path": "a"})), "changes[0] ('a') can't be accepted: info is missing"),
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
    "binary mode without a value": (binary(b""), "the record has no value"),
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
    said = rejected.parse(record)
    assert (said.reason, said.partition, said.offset, said.is_cut) == (receipts[1].reason, 0, 1, False)
    assert tuple(said.own_headers) == pairs_of(message.headers)
    assert record.headers[rejected.TOPIC_HEADER] == topics.INBOX


async def test_source_and_id_of_what_is_rejected(bus: EmbeddedBus) -> None:
    """The receipt of a rejected event names its source and id as far as they can be read, so that its producer finds it."""
    async with moving(bus):
        await bus.append([structured(event(change("/"), id="7")), binary(b"x", id="8"), structured(event(change("a"), id="9", type="x"))])
        await all_moved(bus)
    assert [(receipt.source, receipt.id) for receipt in await event_receipts(bus)] == [("repo", "7"), ("repo", "8"), ("repo", "9")]


async def test_each_record_has_one_receipt_whatever_it_contains(bus: EmbeddedBus) -> None:
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
        assert {f"ingest.inbox.{number}" for number in range(rest.PARTITIONS)} <= (await server.ask("GET", "/readyz"))[1]["parts"].keys()


def test_events_of_the_guide() -> None:
    """The events in docs/how-to/inbox.md are valid events."""
    guide = (ROOT / "docs" / "how-to" / "inbox.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    (sent,) = re.findall(r"echo '(.*?)\|(.*?)'", guide)
    assert [len(events.read(text.encode(), {}).data.changes) for text in (shown, sent[1])] == [2, 1]
    assert sent[0] == events.read(sent[1].encode(), {}).source
