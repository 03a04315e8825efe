"""The bins worker of one partition: from ``artifacts`` to signed bins on the log.

Workflow. Take the partition over, and create the bins that do not exist yet. Then, until cancelled: read the next records, sort them by
bin, and write the changed bins. In between, bins that approach their expiry are signed again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import Any, Final

import structlog

from tufline.bus import Bus, Reader
from tufline.errors import InputLostError, RecordUnreadableError
from tufline.records import topics
from tufline.runtime.passed_over import PassedOver
from tufline.trust.admin_state import Bootstrapped
from tufline.views.lost_input import CheckedReader, is_accepted
from tufline_signer.bins.batch import Batch
from tufline_signer.bins.bins_writer import BinsWriter
from tufline_signer.bins.context import BinsContext, part
from tufline_signer.heads import OwnedHeads, take_over

FETCH_BYTES: Final = 256 * 1024
"""How many bytes of records are sorted in one step; the event loop is busy meanwhile."""

BACKLOG_BYTES: Final = 2_000_000
"""A batch with this much memory, in bytes, indicates a backlog: partitions take turns, each with as large a batch as memory allows."""

HEAVY_SECONDS: Final = 0.3
"""A batch that took longer than this, in seconds, and touched most bins of its partition, indicates a backlog too."""

LINGER_SECONDS: Final = 10.0
"""With a backlog, the longest time that a batch waits for more records."""

TICK_SECONDS: Final = 0.5
TICK_GROWTH: Final = 0.1
"""It stops waiting when the backlog grows by less than this fraction in one tick."""

_log = structlog.get_logger(__name__)


async def read_some(reader: Reader, batch: Batch, max_wait: float, max_bytes: int) -> bool:
    """Read the next records into a batch, up to its end. The batch rejects a record that can't be read.

    Args:
        reader: the partition's reader.
        batch: receives the records.
        max_wait: see ``Reader.fetch``.
        max_bytes: see ``Reader.fetch``.

    Returns:
        Whether there were any records.
    """
    try:
        some = await reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
    except RecordUnreadableError as damaged:
        if batch.ends_before(damaged.offset):
            return False
        _log.error("bins.unreadable_record", partition=damaged.partition, offset=damaged.offset, error=str(damaged))
        batch.refuse(damaged.offset, str(damaged))
        reader.seek(damaged.offset + 1)
        return True
    below = list(takewhile(lambda record: not batch.ends_before(record.offset), some))
    if len(below) < len(some):
        reader.seek(some[len(below)].offset)
    if (taken := batch.add(below)) < len(below):
        reader.seek(below[taken].offset)
    return bool(taken)


async def fill(reader: Reader, batch: Batch, most_bytes: int, seconds: float, on_growth: Callable[[int], None] = lambda _: None) -> None:
    """Read into a batch all records that are available, and those that arrive meanwhile.

    Args:
        reader: the partition's reader.
        batch: receives the records.
        most_bytes: the batch's memory limit.
        seconds: how long to wait for more records.
        on_growth: called with the batch's memory whenever it has grown.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (room := most_bytes - batch.memory) > 0 and not batch.is_full:
        if not await read_some(reader, batch, max(0.0, deadline - loop.time()), min(FETCH_BYTES, room)):
            return
        on_growth(batch.memory)
        await asyncio.sleep(0)  # a fetch from memory does not yield to other tasks


async def linger(bus: Bus, partition: int, first: int) -> None:
    """Wait while the log grows fast, so that a bin is rewritten rarely for many changes.

    Args:
        bus: the log.
        partition: partition of ``artifacts``.
        first: the first offset that is not applied yet.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LINGER_SECONDS
    end = await bus.end(topics.ARTIFACTS, partition)
    while loop.time() < deadline:
        await asyncio.sleep(TICK_SECONDS)
        before, end = end, await bus.end(topics.ARTIFACTS, partition)
        if end - before < TICK_GROWTH * (end - first):
            return


async def take_turn(context: BinsContext, writer: BinsWriter, reader: Reader, batch: Batch, *, is_backlog: bool) -> bool:
    """Apply a batch to the bins, after extending it from the backlog if there is one.

    Without a backlog partitions work concurrently, each as soon as it can. With a backlog, a batch waits while more records arrive and then
    for its turn, and reads everything available by then. So the work for each change falls, and only one large batch at a time is in
    memory, where the bin cache makes room for it.

    Args:
        context: shared by the workers of the process.
        writer: the partition's writer.
        reader: the partition's reader.
        batch: the first records; consumed.
        is_backlog: whether the last batch indicated a backlog.

    Returns:
        Whether this batch indicated a backlog.
    """
    loop = asyncio.get_running_loop()
    config = context.signer.config
    await fill(reader, batch, min(BACKLOG_BYTES, config.batch_max_bytes), config.batch_delay)
    if batch.memory < BACKLOG_BYTES and not is_backlog:
        began = loop.time()
        return writer.is_most(await writer.apply(batch)) and loop.time() - began > HEAVY_SECONDS
    await linger(context.signer.bus, writer.partition, batch.first_offset)
    async with context.backlog:
        began = loop.time()
        try:
            await fill(reader, batch, config.batch_max_bytes, 0.0, context.cache.lend)
            return writer.is_most(await writer.apply(batch)) and loop.time() - began > HEAVY_SECONDS
        finally:
            context.cache.lend(0)


async def work(context: BinsContext, partition: int) -> None:
    """Take a partition over and write its bins, until cancelled.

    Args:
        context: shared by the workers of the process.
        partition: partition of ``artifacts``.

    Raises:
        FencedError: if another worker took the partition over.
        TuflineError: if the bus or a key fails; the caller starts again.
    """
    began = context.signer.clock.monotonic()
    async with take_over(context.signer.bus, part(partition), partition, PassedOver(context.signer.health, part(partition))) as owned:
        context.signer.clock.observe(owned.claimed_at, began)
        await _work(context, owned, partition)


async def _work(context: BinsContext, owned: OwnedHeads, partition: int) -> None:
    if context.signer.admin.state.bootstrap is None:
        context.signer.health.problem(part(partition), "waiting for the bootstrap: post it to /api/v1/bootstrap (see tufline init)")
    await context.signer.released.known.wait()
    # New versions must verify under every root and targets submitted so far.
    known = await context.signer.bus.end(topics.ADMIN, 0)

    def has_begun(repository: Bootstrapped) -> bool:
        # Until then another bootstrap, with other bins, may replace it. On a log of an earlier version only the released root tells.
        return repository.next_offset >= known and (repository.begun or context.signer.released.root > 0)

    repository = await context.signer.admin.wait_for_bootstrap(has_begun)
    writer = BinsWriter(context, owned, repository.bootstrap)
    try:
        await writer.create_bins()
        _log.info("bins.ready", partition=partition, bins=len(owned.heads), progress=writer.progress)
        while True:
            try:
                await _apply_all(context, writer)
                await _wait_for_thaw(context, writer)
            except InputLostError as lost:
                await _wait_for_acceptance(context, writer, lost)
    finally:
        writer.leave()


async def _wait_for_thaw(context: BinsContext, writer: BinsWriter) -> None:
    """Only renew bins, as long as changes wait on the log."""
    while writer.is_frozen:
        context.signer.health.ok(part(writer.partition))
        wait = await writer.renew()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await context.signer.admin.wait_for(lambda _: not writer.is_frozen or writer.is_admin_new)


async def _wait_for_acceptance(context: BinsContext, writer: BinsWriter, lost: InputLostError) -> None:
    """Apply nothing new and only renew bins, until an operator accepts the loss of input; then continue after it."""
    context.signer.health.problem(part(writer.partition), str(lost))
    _log.error("bins.input_lost", partition=writer.partition, first=lost.first, below=lost.below, error=str(lost))
    while not is_accepted(context.signer.admin.state, lost):
        wait = await writer.renew()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await context.signer.admin.wait_for(lambda state: is_accepted(state, lost) or writer.is_admin_new)
    await writer.pass_over(lost)
    _log.warning("bins.loss_accepted", partition=writer.partition, progress=writer.progress)


async def _apply_all(context: BinsContext, writer: BinsWriter) -> None:
    """Apply changes and publishes until changes are to wait. It also returns where a publish comes before what was read already."""
    config, partition = context.signer.config, writer.partition
    reader = CheckedReader(context.signer.bus, topics.ARTIFACTS, partition, writer.progress)
    try:
        wait, is_backlog = 0.0, False
        while not writer.is_frozen:
            await writer.publish_due()
            batch = writer.new_batch()
            is_new = await _read_awake(
                context, writer, partial(read_some, reader, batch, wait, min(FETCH_BYTES, config.batch_max_bytes)), wait
            )
            context.signer.health.ok(part(partition))
            if is_new:
                is_backlog = await take_turn(context, writer, reader, batch, is_backlog=is_backlog)
                if writer.progress < batch.next_offset:
                    return
            elif batch.is_at_end and not writer.is_frozen:
                await writer.publish_next()  # the records right below its end are gone from the log
            wait = await writer.renew()
    finally:
        await reader.close()


async def _read_awake(context: BinsContext, writer: BinsWriter, read: Callable[[], Coroutine[Any, Any, bool]], wait: float) -> bool:
    """Read the next records; meanwhile publish what is held, and renew bins when ``admin`` has changed.

    Returns:
        Whether there were any records; False if changes are to wait.
    """
    if not wait:
        return await read()
    reading = asyncio.create_task(read())
    until_renewal: float | None = None
    try:
        while not writer.is_frozen:
            waking = asyncio.create_task(
                context.signer.admin.wait_for(lambda _: writer.is_frozen or writer.is_publish_due or writer.is_admin_new)
            )
            try:
                await asyncio.wait({reading, waking}, timeout=until_renewal, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waking.cancel()
            if reading.done():
                return await reading
            await writer.publish_due()
            until_renewal = await writer.renew()
        return False
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
