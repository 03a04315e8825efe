"""Custom delegations for tests of ingest alone: changes on the log as ingest appends them, and what signer and publisher would answer."""

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.bus.embedded.bus import open_embedded
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import DELEGATIONS_KEY, ChangedDelegations, FileRef, Progress, Published, Vector, topics
from tufline.records.heads import PROGRESS_KEY
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import AcceptedDelegations, Routing
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.published import last_published
from tufline_testing.log import append_marks, read_all
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, Rest, bootstrapped, rest


async def delegate(bus: Bus, *added: Delegation, deleted: Sequence[str] = (), action: Any = "add") -> int:
    """Append a change of the delegations as ingest does, and return its offset in ``admin``."""
    marks = await append_marks(bus, bootstrap_settings(bus))
    record = ChangedDelegations(action=action, roles=[*added], deleted=[*deleted], ends=marks, rules=records.CURRENT_RULES)
    return (await bus.append([Message(topics.ADMIN, DELEGATIONS_KEY, records.encode(record))]))[0].offset


def bootstrap_settings(bus: Bus) -> Any:
    """Return as much of the settings as a mark needs."""
    return records.Settings(8, "bins", bus.partitions(topics.ARTIFACTS), {})


@asynccontextmanager
async def delegating(path: Path, *versions: Sequence[Delegation], profile: str = "rstuf") -> AsyncIterator[tuple[Rest, Routing]]:
    """Run ingest alone over a published repository, to which custom roles are added; and the routing by which the changes must go."""
    bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS))
    try:
        payload = copy.deepcopy(make_bootstrap(path / "keys", bins=8, mode="rstuf").payload)
        payload["settings"]["client_profile"] = profile
        async with bootstrapped(path, bus=bus, payload=payload):
            pass
        (first,) = [one for record in await read_all(bus, topics.ADMIN) if isinstance(one := read_admin(record), records.Bootstrap)]
        offsets = [await delegate(bus, *added) for added in versions]
        accepted: list[AcceptedDelegations] = []
        for offset, added in zip(offsets, versions, strict=True):
            known = accepted[-1].delegations.roles if accepted else ()
            accepted.append(AcceptedDelegations(offset, (0,) * PARTITIONS, Delegations({}, (*known, *added))))
        async with rest(path, bus=bus) as server:
            await server.ask("GET", "/api/v1/status")  # answered once all of the log is read
            yield server, Routing(first.settings.partitioning, accepted)
    finally:
        await bus.close()


def read_admin(record: Record) -> Any:
    """Decode a record of ``admin``."""
    return records.decode(records.admin_decoder, record.value)


async def settle(bus: Bus, *receipts: tuple[int, str, ChangeReceipt]) -> None:
    """Write what signer and publisher write when all is applied and published, with receipts in partitions, of requests."""
    for partition in range(PARTITIONS):
        trail, end = ReceiptIndex(0), await bus.end(topics.ARTIFACTS, partition)
        if mine := [(request, receipt) for at, request, receipt in receipts if at == partition]:
            written = await bus.append([Message(topics.RECEIPTS, request, records.encode(receipt), partition) for request, receipt in mine])
            trail = trail.extended(0, end, written[0].offset, written[-1].offset)
        progress = Progress(offset=end, trail=trail)
        await bus.append([Message(topics.HEADS, PROGRESS_KEY, records.encode(progress), partition)])
    found = await last_published(bus, "origin", PassedOver(Health(), "test"))
    nothing = FileRef(0, 0, "0" * 64)
    before, snapshot, next_offset = (
        (nothing, nothing, 0) if found is None else (found[1].timestamp, found[1].snapshot, found[1].next_offset)
    )
    timestamp = FileRef(before.version + 1, before.offset, before.sha256)
    vector = Vector([await bus.end(topics.ARTIFACTS, partition) for partition in range(PARTITIONS)], await bus.end(topics.ADMIN, 0))
    published = Published(origin="origin", timestamp=timestamp, snapshot=snapshot, vector=vector, next_offset=next_offset)
    await bus.append([Message(topics.PUBLISHED, "origin", records.encode(published))])
