"""The client of the inbox: published events become live, and failures are reported."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tufline.bus import Bus, Reader
from tufline.bus.embedded.bus import open_embedded
from tufline.client.events import Client, Event, add, remove
from tufline.config.settings import Config
from tufline.errors import BusError, ConfigError, EventRejectedError, InvalidEventError, NotLiveYetError
from tufline.records import topics
from tufline_testing.inbox import DIGEST, event_receipts, is_moved
from tufline_testing.rest import PARTITIONS, bootstrapped

HASHES = {"sha256": DIGEST}


@dataclass
class CountingBus:
    """A bus that counts its readers by topic."""

    bus: Bus
    readers: Counter[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        self.readers[topic] += 1
        return self.bus.reader(topic, partition, offset)


async def test_published_is_live(tmp_path: Path) -> None:
    """When publish returns, the origin shows all of the event; changes that had no effect or were rejected are reported by path."""
    async with bootstrapped(tmp_path) as server, Client(server.bus) as client:
        outcome = await client.publish(Event("repo", [add("a", 1, HASHES, {"k": "v"}), add("b", 2, HASHES)]))
        assert (outcome.is_duplicate, outcome.receipts) == (False, [])
        assert (await server.ask("GET", "/api/v1/artifacts/a"))[1]["custom"] == {"k": "v"}
        assert (await server.task(outcome.task))["state"] == "SUCCESS"
        again = await client.publish(Event("repo", [add("a", 1, HASHES, {"k": "v"}), remove("b"), remove("never"), add("c", 3, HASHES)]))
        assert {receipt.path: receipt.outcome for receipt in again.receipts} == {"a": "unchanged", "never": "not_found"}
        assert (await server.ask("GET", "/api/v1/artifacts/b"))[0] == 404
        assert (await server.ask("GET", "/api/v1/artifacts/c"))[1]["length"] == 3


async def test_many_at_once_share_their_readers(tmp_path: Path) -> None:
    """However many events are in progress, each gets its own result, and each partition of receipts is read once."""
    async with bootstrapped(tmp_path) as server:
        bus = CountingBus(server.bus, Counter())
        async with Client(bus) as client:
            sent = [Event(f"repo {number % 7}", [add(f"p/{number}", number, HASHES), remove(f"never/{number}")]) for number in range(300)]
            outcomes = await asyncio.gather(*(client.publish(event) for event in sent))
        assert [[receipt.path for receipt in outcome.receipts] for outcome in outcomes] == [[f"never/{number}"] for number in range(300)]
        assert len({outcome.task for outcome in outcomes}) == 300
        assert bus.readers[topics.RECEIPTS] == PARTITIONS
        assert bus.readers[topics.PUBLISHED] <= 3
        for number in (0, 150, 299):
            assert (await server.ask("GET", f"/api/v1/artifacts/p/{number}"))[1]["length"] == number


async def test_events_of_a_source_keep_their_order(tmp_path: Path) -> None:
    """The last of many events that one source sends is the one that stays."""
    async with bootstrapped(tmp_path) as server, Client(server.bus) as client:
        sending = []
        for number in range(100):
            sending.append(asyncio.create_task(client.publish(Event("repo", [add("a", number, HASHES)]))))
            await asyncio.sleep(0)
        await asyncio.gather(*sending)
        assert (await server.ask("GET", "/api/v1/artifacts/a"))[1]["length"] == 99


async def test_rejected_is_an_error(tmp_path: Path) -> None:
    """An event that ingest rejects raises an error with the reason, which is not retriable; a fixed one is accepted under the same id."""
    async with bootstrapped(tmp_path) as server, Client(server.bus) as client:
        with pytest.raises(EventRejectedError, match=r"changes\[1\] \('/b'\) can't be accepted") as raised:
            await client.publish(Event("repo", [add("a", 1, HASHES), add("/b", 2, HASHES)], id="1"))
        assert not raised.value.retriable
        assert not (await client.publish(Event("repo", [add("b", 2, HASHES)], id="1"))).is_duplicate


async def test_an_invalid_event_is_not_sent(tmp_path: Path) -> None:
    """An invalid event is its caller's error, and nothing is sent."""
    async with bootstrapped(tmp_path) as server, Client(server.bus) as client:
        for bad in (Event("", [remove("a")]), Event("repo", []), Event("s" * 2000, [remove("a")]), Event("repo", [remove("x" * 2**21)])):
            with pytest.raises(InvalidEventError):
                await client.publish(bad)
        assert [await server.bus.end(topics.INBOX, partition) for partition in range(PARTITIONS)] == [0] * PARTITIONS


async def test_sent_again_is_the_same(tmp_path: Path) -> None:
    """An event that is sent again, immediately or later and by another client, is live under the first one's task, and reverts nothing."""
    async with bootstrapped(tmp_path) as server:
        old = Event("repo", [add("a", 1, HASHES), remove("never")])
        async with Client(server.bus) as client:
            outcomes = await asyncio.gather(*(client.publish(old) for _ in range(5)))
            assert sorted(outcome.is_duplicate for outcome in outcomes) == [False, True, True, True, True]
            await client.publish(Event("repo", [add("a", 2, HASHES)]))
        async with Client(server.bus) as later:
            again = await later.publish(old)
        assert again.is_duplicate
        assert {outcome.task for outcome in [*outcomes, again]} == {outcomes[0].task}
        assert [receipt.path for receipt in again.receipts] == ["never"]
        assert (await server.ask("GET", "/api/v1/artifacts/a"))[1]["length"] == 2


async def test_an_event_that_is_not_live_in_time_is_an_error(tmp_path: Path) -> None:
    """An event that is not live in time raises an error that states its progress, and that it is safe to send it again."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with Client(bus) as client:
        with pytest.raises(NotLiveYetError, match=r"ingest has not accepted it yet.*it is safe to send the same event again") as raised:
            await client.publish(Event("repo", [remove("a")]), seconds=1)
        assert raised.value.retriable
    await bus.close()


async def test_another_origin_does_not_make_it_live(tmp_path: Path) -> None:
    """An event counts as live when the configured origin, and no other one, shows it."""
    config = Config().model_copy(update={"ingest": Config().ingest.model_copy(update={"origin": "elsewhere"})})
    async with bootstrapped(tmp_path) as server, Client(server.bus, config) as client:
        with pytest.raises(NotLiveYetError, match="it was accepted, but is not live yet"):
            await client.publish(Event("repo", [remove("a")]), seconds=10)
        assert await is_moved(server.bus)
        (receipt,) = await event_receipts(server.bus)
        assert (await server.task(receipt.task))["state"] == "SUCCESS"


@pytest.mark.parametrize("after", [0.0, 0.5])
async def test_closing_ends_the_waiting(tmp_path: Path, after: float) -> None:
    """A caller that waits when the client is closed, or calls later, gets an error."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with Client(bus) as client:
        waiting = asyncio.create_task(client.publish(Event("repo", [remove("a")])))
        await asyncio.sleep(after)
    async with asyncio.timeout(10):
        with pytest.raises(BusError, match="the client is closed"):
            await waiting
        with pytest.raises(BusError, match="the client is closed"):
            await client.publish(Event("repo", [remove("a")]))
    await bus.close()


NOT_JSON: dict[str, Event] = {
    "half a character in the path": Event("repo", [add("\ud800", 1, {"sha256": "0" * 64})]),
    "half a character in the source": Event("\ud800", [remove("a")]),
    "an object of Python's": Event("repo", [add("a", 1, {}, {"x": object()})]),
}


@pytest.mark.parametrize("event", NOT_JSON.values(), ids=NOT_JSON)
async def test_an_event_without_a_json_form_is_an_error(tmp_path: Path, event: Event) -> None:
    """An event that can't be serialized is refused as invalid before anything is sent."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with Client(bus) as client:
        with pytest.raises(InvalidEventError, match=r"can't be written as JSON: .*; use only text") as raised:
            await client.publish(event)
    raised.value.source.encode()
    assert [await bus.end(topics.INBOX, partition) for partition in range(PARTITIONS)] == [0] * PARTITIONS
    await bus.close()


@pytest.mark.parametrize("url", ["postgres:x", "kafka:", "kafka:127.0.0.1:99999999"])
async def test_an_invalid_bus_url_is_reported(url: str) -> None:
    """A URL that is not a valid bus URL is reported as such."""
    with pytest.raises(ConfigError, match=r"is not a valid (bus|broker)"):
        async with Client(url):
            pass


def test_a_wrong_environment_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with an invalid value is one of Tufline's own errors, which names the variable."""
    monkeypatch.setenv("TUFLINE_KAFKA__PREFIX", "a b")
    with pytest.raises(ConfigError, match="TUFLINE_KAFKA__PREFIX"):
        Client("kafka:127.0.0.1:9092")
