"""The checks of the log at the end of a schedule."""

import json
from collections import Counter
from collections.abc import Collection

from tuf.api.metadata import Snapshot

from tufline import records
from tufline.bus import Bus
from tufline.records import PROGRESS_KEY, Add, Held, Progress, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.records.receipts import ChangeReceipt, PublishReceipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_ingest.rest.task_receipts import TaskReceipts
from tufline_testing.inbox import changes_on_log, event_receipts, every
from tufline_testing.log import read_all


async def check_log(bus: Bus) -> None:
    """Check that nothing is on the log twice, that each event has one receipt, and that each role's versions are consecutive."""
    moved_once = Counter(change.length for change in await changes_on_log(bus) if isinstance(change, Add))
    assert moved_once.total() == len(moved_once), f"on the log twice: {moved_once.most_common(1)}"
    receipts = Counter((receipt.partition, receipt.offset) for receipt in await event_receipts(bus))
    assert receipts.total() == len(receipts) == len(await every(bus, topics.INBOX)), "not one receipt for each event"
    newest: Counter[str] = Counter()
    contents: dict[tuple[str, int], bytes] = {}
    for record in await read_all(bus, topics.METADATA):
        version = int(record.headers[VERSION_HEADER])
        assert contents.setdefault((record.key, version), record.value) == record.value, f"{record.key} {version} has two contents"
        again = record.key == "timestamp" and version == newest[record.key]
        first = record.key not in newest
        assert again or first or version == newest[record.key] + 1, f"{record.key} goes from {newest[record.key]} to {version}"
        newest[record.key] = version
    await check_names(bus)


async def check_names(bus: Bus) -> None:
    """Check that every snapshot has the names of the one before: clients refuse one that lost a name."""
    before: frozenset[str] = frozenset()
    for record in await read_all(bus, topics.METADATA):
        if record.key == Snapshot.type:
            named = frozenset(json.loads(record.value)["signed"]["meta"])
            version = record.headers[VERSION_HEADER]
            assert named >= before, f"snapshot {version} has no {sorted(before - named)}"
            before = named


async def check_accepted(bus: Bus, accepted: Collection[int]) -> None:
    """Check that every acknowledged addition is on the log, by its length."""
    there = {change.length for change in await changes_on_log(bus) if isinstance(change, Add)}
    assert there.issuperset(accepted), f"not on the log: {sorted({*accepted} - there)}"


async def check_receipts(bus: Bus) -> None:
    """Check that every receipt is found from the newest progress, even if a write was interrupted."""
    receipts = TaskReceipts(bus, PassedOver(Health(), "check"))
    for partition in range(bus.partitions(topics.RECEIPTS)):
        heads = [record for record in await read_all(bus, topics.HEADS, partition) if record.key == PROGRESS_KEY]
        if not heads:
            continue  # it has no bins
        progress = records.decode(records.heads_decoder, heads[-1].value)
        assert isinstance(progress, Progress)
        assert progress.trail is not None
        for record in await read_all(bus, topics.RECEIPTS, partition):
            receipt = records.decode(receipt_decoder, record.value)
            if isinstance(receipt, ChangeReceipt):
                found = await receipts.of(partition, [receipt.offset], progress.trail)
                assert receipt in found.receipts, f"{receipt} is not found in partition {partition}"
            elif isinstance(receipt, PublishReceipt):
                assert progress.publishes is not None
                span = await receipts.span(partition, receipt.publish, receipt.publish, progress.publishes)
                assert span is not None, f"{receipt} is not found in partition {partition}"
                assert span.start <= record.offset < span.end, f"{receipt} is not found in partition {partition}"


async def held_on_log(bus: Bus) -> dict[tuple[str, str], int]:
    """Return the custom role and the path of each change that is held on the log, with its length (0: a removal)."""
    found: dict[tuple[str, str], int] = {}
    for partition in range(bus.partitions(topics.ARTIFACTS)):
        newest = {record.key: record.value for record in await read_all(bus, topics.HEADS, partition)}
        contents = [records.decode(records.heads_decoder, value) for value in newest.values()]
        slots = [content for content in contents if isinstance(content, Held) and content.path]
        count = next((content.held for content in contents if isinstance(content, Progress)), 0)
        assert len(slots) == count, f"{len(slots)} changes are held in partition {partition}, and its progress says {count}"
        for held in slots:
            assert (held.role, held.path) not in found, f"{held.path} is held twice"
            found[held.role, held.path] = 0 if held.entry is None else json.loads(f"{{{held.entry}}}")[held.path]["length"]
    return found
