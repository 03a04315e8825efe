"""For tests of one service: writes to a log as ingest does, and reads back the results."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.bus.scan import scan
from tufline.clock import Clock
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import (
    CURRENT_RULES,
    DELEGATIONS_KEY,
    DELEGATIONS_SCHEMA,
    FREEZE_KEY,
    HOLD_SCHEMA,
    OFFLINE_ROLES_SCHEMA,
    PUBLISH_KEY,
    SCHEMA_VERSION,
    Add,
    Bootstrap,
    ChangedDelegations,
    Changes,
    Freeze,
    Head,
    Publish,
    Remove,
    Settings,
    topics,
)
from tufline.records.metadata import VECTOR_HEADER, VERSION_HEADER
from tufline.records.partitioning import partition_bits
from tufline.records.routing import Routing
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState
from tufline_testing.client_view import find_targets
from tufline_testing.payloads import make_bootstrap
from tufline_testing.simulation.virtual_time import run_virtual

DEFAULT_DAYS = {"root": 3650, "targets": 3650, "snapshot": 7, "timestamp": 1, "bins": 7}

Change = Add | Remove


def settings_of(bins: int, partitions: int, days: dict[str, int], *, by_hash: bool = True) -> Settings:
    """Make the settings of a new repository, or of one that spreads its bins by the first rule."""
    return Settings(bins, "bins", partitions, days, partition_bits=partition_bits(partitions, bins) if by_hash else None)


def bootstrap_record(
    key_dir: Path,
    partitions: int,
    *,
    bins: int = 16,
    mode: str = "pep458",
    days: dict[str, int] | None = None,
    online: Mapping[str, Key] | None = None,
    by_hash: bool = True,
) -> Bootstrap:
    """Make keys, and the record that ingest would append for their bootstrap payload."""
    expirations = DEFAULT_DAYS | (days or {})
    metadata: dict[str, Any] = make_bootstrap(key_dir, bins=bins, mode=mode, days=expirations, online=online).payload["metadata"]
    settings = settings_of(bins, partitions, expirations, by_hash=by_hash)
    return Bootstrap(v=settings.schema, settings=settings, root=metadata["root"], targets=metadata.get("targets"))


async def announce_bootstrap(bus: Bus, bootstrap: Bootstrap) -> None:
    """Append a bootstrap to ``admin``."""
    await bus.append([Message(topics.ADMIN, "bootstrap", records.encode(bootstrap))])


def on_a_log(path: Path, bootstrap: Bootstrap, story: Callable[[EmbeddedBus, Clock], Awaitable[None]], *, is_new: bool = True) -> None:
    """Run a test's story in virtual time, on a new log with a bootstrap, or on an existing one."""

    async def main(clock: Clock) -> None:
        bus = await open_embedded(path, topics.topics(bootstrap.settings.partitions), clock=clock, threads=False)
        try:
            if is_new:
                await announce_bootstrap(bus, bootstrap)
            await story(bus, clock)
        finally:
            await bus.close()

    run_virtual(main)


@asynccontextmanager
async def running(*services: Awaitable[None]) -> AsyncIterator[None]:
    """Run services; leaving the block stops them at any point of their work."""
    tasks = [asyncio.ensure_future(service) for service in services]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def announce(
    bus: Bus,
    settings: Settings,
    changes: Sequence[Change],
    request: str = "r",
    *,
    hold: bool = False,
    routing: Routing | None = None,
    admin: int = 1,
) -> list[tuple[int, int]]:
    """Append changes to ``artifacts`` as ingest does, perhaps to be held, and return their partitions and offsets."""
    version = HOLD_SCHEMA if hold else SCHEMA_VERSION
    routing = routing or Routing(settings.partitioning)
    by_partition: dict[int, list[Change]] = {}
    for change in changes:
        for partition in routing.partitions_of(change):
            by_partition.setdefault(partition, []).append(change)
    record = Changes(v=version, request=request, admin=admin, changes=[], hold=hold)
    messages = [
        Message(topics.ARTIFACTS, request, records.encode(msgspec.structs.replace(record, changes=some)), partition)
        for partition, some in sorted(by_partition.items())
    ]
    return [(position.partition, position.offset) for position in await bus.append(messages)]


async def admin_state(bus: Bus, known: AdminState | None = None) -> AdminState:
    """Return the state of ``admin``, from a state that was read before, if one is passed."""
    state = known or AdminState()
    for record in await read_all(bus, topics.ADMIN):
        if record.offset >= state.next_offset:
            state = fold(state, record)
    return state


async def delegate(
    bus: Bus,
    settings: Settings,
    action: Any,
    *named: Delegation,
    deleted: Sequence[str] = (),
    keys: Mapping[str, Any] | None = None,
    ends: list[int] | None = None,
) -> int:
    """Change the custom delegations as ingest does, perhaps with marks that are there already, and return the offset in ``admin``."""
    ends = ends or await append_marks(bus, settings)
    of_people = bool(Delegations({**(keys or {})}, named).offline)
    changed = ChangedDelegations(
        v=OFFLINE_ROLES_SCHEMA if of_people else DELEGATIONS_SCHEMA,
        action=action,
        roles=[*named],
        deleted=[*deleted],
        keys={**(keys or {})},
        ends=ends,
        rules=CURRENT_RULES,
    )
    return (await bus.append([Message(topics.ADMIN, DELEGATIONS_KEY, records.encode(changed))]))[0].offset


async def append_marks(bus: Bus, settings: Settings) -> list[int]:
    """Append the marks of a publish to ``artifacts`` as ingest does, and return its ends."""
    mark = records.encode(Changes(request="mark", admin=1, changes=[]))
    positions = await bus.append([Message(topics.ARTIFACTS, "mark", mark, partition) for partition in range(settings.partitions)])
    return [position.offset + 1 for position in positions]


async def append_publish(bus: Bus, ends: Sequence[int]) -> int:
    """Append a publish to ``admin``, and return its offset."""
    return (await bus.append([Message(topics.ADMIN, PUBLISH_KEY, records.encode(Publish(ends=list(ends))))]))[0].offset


async def publish(bus: Bus, settings: Settings) -> int:
    """Publish what is held, as ingest does for a request, and return the offset in ``admin``."""
    return await append_publish(bus, await append_marks(bus, settings))


async def freeze(bus: Bus, *, frozen: bool = True) -> None:
    """Let changes wait on the log, or apply them again."""
    await bus.append([Message(topics.ADMIN, FREEZE_KEY, records.encode(Freeze(frozen=frozen)))])


async def read_all(bus: Bus, topic: str, partition: int = 0) -> list[Record]:
    """Read all records that a partition has now."""
    return [record async for batch in scan(bus, topic, partition) for record in batch]


async def newest_heads(bus: Bus) -> dict[str, Head]:
    """Return the newest head of each role on the log."""
    heads: dict[str, Head] = {}
    for partition in range(bus.partitions(topics.HEADS)):
        for record in await read_all(bus, topics.HEADS, partition):
            content = records.decode(records.heads_decoder, record.value)
            if isinstance(content, Head):
                heads[record.key] = content
    return heads


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0, step: float = 0.05) -> None:
    """Wait until a condition holds, with a deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(step)


@dataclass
class Published:
    """All metadata on the log, as the files of an origin at its newest timestamp."""

    files: dict[str, bytes] = field(default_factory=dict)
    timestamp: bytes = b""
    vector: records.Vector | None = None

    @classmethod
    async def read(cls, bus: Bus) -> "Published":
        """Read the newest state; a version with two contents is an error."""
        self = cls()
        for record in await read_all(bus, topics.METADATA):
            version = int(record.headers[VERSION_HEADER])
            if record.key == Timestamp.type:
                self.timestamp = record.value
                self.vector = records.decode(records.vector_decoder, record.headers[VECTOR_HEADER].encode())
            name = f"{record.key}.json" if record.key.endswith(".root") else f"{version}.{record.key}.json"
            assert self.files.setdefault(name, record.value) == record.value, f"{name} has two contents"
        return self

    def verify(self, now: datetime) -> dict[str, dict[str, Any]]:
        """Verify everything as python-tuf's client would at a given time, and return the targets: path to its metadata."""
        root = Metadata[Root].from_bytes(self.files["1.root.json"])
        trusted = TrustedMetadataSet(self.files["1.root.json"], EnvelopeType.METADATA)
        trusted.reference_time = now
        assert root.signed.version == 1
        timestamp: Timestamp = trusted.update_timestamp(self.timestamp)
        snapshot: Snapshot = trusted.update_snapshot(self.files[f"{timestamp.snapshot_meta.version}.snapshot.json"])
        targets: Targets = trusted.update_targets(self.files[f"{snapshot.meta['targets.json'].version}.targets.json"])

        def load(role: str, parent: str) -> Targets:
            version = snapshot.meta[f"{role}.json"].version
            loaded: Targets = trusted.update_delegated_targets(self.files[f"{version}.{role}.json"], role, parent)
            of_parent = trusted[parent]
            assert isinstance(of_parent, Targets)
            assert of_parent.delegations is not None
            if (bins := of_parent.delegations.succinct_roles) is not None:
                assert {bins.get_role_for_target(path) for path in loaded.targets} <= {role}
            return loaded

        return {path: target.to_dict() for path, target in find_targets(targets, load).items()}


async def settled(bus: Bus, seconds: float = 600.0) -> Published:
    """Wait until a commit covers everything announced, and return the metadata that the log has then."""
    found = Published()

    async def covered() -> bool:
        nonlocal found
        found = await Published.read(bus)
        ends = [await bus.end(topics.ARTIFACTS, partition) for partition in range(bus.partitions(topics.ARTIFACTS))]
        return found.vector is not None and all(mine >= end for mine, end in zip(found.vector.artifacts, ends, strict=True))

    await eventually(covered, seconds)
    return found
