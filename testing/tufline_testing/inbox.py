"""For tests of the inbox: repositories that send events, and ingest without its REST API."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.bus.headers import ESCAPE, Headers
from tufline.clock import utc_now
from tufline.config.settings import IngestConfig
from tufline.records import Add, InboxProgress, Remove, topics
from tufline.records.receipts import EventReceipt, receipt_decoder
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.runtime.partitions import own_partitions
from tufline.runtime.task_groups import all_of
from tufline.views.admin import AdminFollower
from tufline_ingest.inbox import inbox_worker
from tufline_testing.log import announce_bootstrap, bootstrap_record, eventually, read_all, running

PARTITIONS = 2

DIGEST = "ab" * 32

NOT_TEXT = b"\xff".decode(errors=ESCAPE)
"""A key or header that is not UTF-8."""


def change(path: str, length: int = 1, op: str = "add", **info: Any) -> dict[str, Any]:
    """Make a change of an event."""
    return (
        {"op": op, "path": path, "info": {"length": length, "hashes": {"sha256": DIGEST}, **info}}
        if op == "add"
        else {"op": op, "path": path}
    )


def event(*changes: Mapping[str, Any], id: str = "1", source: str = "repo", **more: Any) -> dict[str, Any]:  # noqa: A002 (CloudEvents' name)
    """Make an event; ``None`` removes an attribute."""
    made = {"specversion": "1.0", "id": id, "source": source, "type": "tufline.artifacts.v1", "data": {"changes": list(changes)}, **more}
    return {name: value for name, value in made.items() if value is not None}


def structured(content: Any, partition: int = 0, key: str = "repo") -> Message:
    """Make a record of an event in structured mode."""
    return Message(topics.INBOX, key, json.dumps(content).encode(), partition, {"content-type": "application/cloudevents+json"})


def raw(value: bytes, *headers: tuple[str, str], key: str = "k") -> Message:
    """Make a record of any bytes."""
    return Message(topics.INBOX, key, value, 0, Headers(headers))


def binary(value: bytes, *more: tuple[str, str], **attributes: str) -> Message:
    """Make a record of an event in binary mode; an empty attribute is left out."""
    named = {"specversion": "1.0", "id": "1", "source": "repo", "type": "tufline.artifacts.v1", **attributes}
    return raw(value, *((f"ce_{name}", text) for name, text in named.items() if text), *more)


async def service(bus: Bus, health: Health | None = None, clock: ReferenceClock | None = None, **settings: Any) -> None:
    """Run ingest without its REST API, until cancelled."""
    admin = AdminFollower(bus)
    context = inbox_worker.InboxContext(bus, IngestConfig(**settings), health or Health(), admin, clock or ReferenceClock(utc_now))
    owning = own_partitions(bus, inbox_worker.GROUP, topics.INBOX, inbox_worker.part, partial(inbox_worker.work, context), context.health)
    await all_of(admin.run(), owning)


async def open_inbox(path: Path) -> EmbeddedBus:
    """Open a log with a bootstrap."""
    bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS))
    if await bus.end(topics.ADMIN, 0) == 0:
        await announce_bootstrap(bus, bootstrap_record(path / "keys", PARTITIONS))
    return bus


@asynccontextmanager
async def moving(bus: Bus, **settings: Any) -> AsyncIterator[None]:
    """Run ingest without its REST API; leaving the block stops it at any point of its work."""
    async with running(service(bus, **settings)):
        yield


async def moved_to(bus: Bus, partition: int) -> int:
    """Return up to which offset a partition of the inbox is moved."""
    found = [records.decode(records.inbox_decoder, record.value) for record in await read_all(bus, topics.INBOX_PROGRESS, partition)]
    return max((one.offset for one in found if isinstance(one, InboxProgress)), default=0)


async def is_moved(bus: Bus) -> bool:
    """Return whether the whole inbox is moved."""
    for partition in range(bus.partitions(topics.INBOX)):
        there = await read_all(bus, topics.INBOX, partition)
        if there and await moved_to(bus, partition) <= there[-1].offset:
            return False
    return True


async def all_moved(bus: Bus) -> None:
    """Wait until the whole inbox is moved."""
    await eventually(partial(is_moved, bus))


async def every(bus: Bus, topic: str) -> list[Record]:
    """Read all partitions of a topic."""
    return [record for partition in range(bus.partitions(topic)) for record in await read_all(bus, topic, partition)]


async def event_receipts(bus: Bus) -> list[EventReceipt]:
    """Read the receipts of events, by partition and offset of the inbox."""
    found = [records.decode(receipt_decoder, record.value) for record in await every(bus, topics.RECEIPTS)]
    return sorted((one for one in found if isinstance(one, EventReceipt)), key=lambda one: (one.partition, one.offset))


async def changes_on_log(bus: Bus) -> list[Add | Remove]:
    """Read all changes that are on the log."""
    return [one for record in await every(bus, topics.ARTIFACTS) for one in records.decode(records.changes_decoder, record.value).changes]


def numbers(changes: Sequence[Add | Remove]) -> list[int]:
    """Return the lengths of additions, which identify them in tests."""
    return sorted(one.length for one in changes if isinstance(one, Add))
