"""Owning partitions: one task for each partition that a group assigns to this process, restarted when it fails.

A failure never stops a partition for good: after a pause the task starts again, and takes the partition over again from the state on the
log. After a fence there are two cases. Usually another process has taken the partition over, and the group will soon revoke it here; a new
assignment starts the work again. But the bus may have fenced a writer that it took for dead, while the partition is still assigned to this
process. Then nobody else writes the partition, and the work starts again once the group has had the time to reassign it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog

from tufline.bus import Bus
from tufline.errors import BusError, FencedError, KeyUnavailableError, TuflineError
from tufline.runtime.health import Health

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
LONGEST_KEY_PAUSE_SECONDS: Final = 2.0
"""The longest pause while a key can't be used: short, as people who have restored the key wait, and metadata may be about to expire."""

CANCELLED: Final = "the work was cancelled, but not by its owner"

JOINING: Final = "joining the group {}, whose members finish their current work first"

_log = structlog.get_logger(__name__)


async def _pause_after_a_fence() -> None:
    await asyncio.sleep(LONGEST_PAUSE_SECONDS)


async def _is_ended(part: str, attempt: Coroutine[Any, Any, None]) -> bool:
    """Run an attempt in a task of its own. So what cancels the attempt can't be taken for a cancellation of the caller.

    If the caller is cancelled, it ends as cancelled once the attempt has ended, however that ended. Otherwise work that fails just then
    would be started again, and never end.

    Args:
        part: the name of the task.
        attempt: what to run; it handles its failures.

    Returns:
        Whether it ran to its end; False if it was cancelled, and not because the caller was.
    """
    task = asyncio.create_task(attempt, name=part)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return not task.cancelled()


async def keep_working(
    part: str, work: Callable[[], Awaitable[None]], health: Health, after_fence: Callable[[], Awaitable[None]] = _pause_after_a_fence
) -> None:
    """Run work that never ends, and restart it with growing pauses whenever it fails or ends in any other way.

    Args:
        part: the name of the work in health and log.
        work: starts from the state on the log. While it waits for something, it reports that by ``health.problem``, and then ``health.ok``.
        health: where failures are reported.
        after_fence: awaited when the work was fenced, before it starts again.
    """
    pause = FIRST_PAUSE_SECONDS
    is_fenced = False
    loop = asyncio.get_running_loop()

    async def attempt() -> None:
        nonlocal pause, is_fenced
        try:
            if is_fenced:
                await after_fence()
                is_fenced, pause = False, FIRST_PAUSE_SECONDS
            health.ok(part)
            await work()
        except FencedError as error:
            health.problem(part, f"another writer took over: {error}")
            _log.warning("partition.fenced", part=part, error=str(error))
            is_fenced, pause = True, 0.0
        except KeyUnavailableError as error:
            health.problem(part, str(error))
            _log.warning("partition.failed", part=part, error=str(error), kind=type(error).__name__)
            pause = min(pause, LONGEST_KEY_PAUSE_SECONDS)
        except TuflineError as error:
            health.problem(part, str(error))
            _log.warning("partition.failed", part=part, error=str(error), kind=type(error).__name__)
        except Exception as error:  # noqa: BLE001 (as an executor does)
            health.problem(part, f"unexpected {type(error).__name__}: {error}; see the log")
            _log.exception("partition.failed", part=part)

    while True:
        began = loop.time()
        if not await _is_ended(part, attempt()):
            health.problem(part, CANCELLED)
            _log.error("partition.failed", part=part, error=CANCELLED)
        if loop.time() - began > LONGEST_PAUSE_SECONDS:
            pause = min(pause, FIRST_PAUSE_SECONDS)
        await asyncio.sleep(pause)
        pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


async def _nobody_writes(bus: Bus, topic: str, partition: int) -> None:
    """Wait until nobody has written a partition for as long as a group takes to assign it to another member.

    Args:
        bus: the log.
        topic: the topic in which the partition's writers append their claims and their work.
        partition: the partition of that topic, from 0.
    """
    loop = asyncio.get_running_loop()
    free_at = loop.time() + bus.session_seconds
    reader = None
    try:
        while (left := free_at - loop.time()) > 0:
            try:
                reader = reader or bus.reader(topic, partition, await bus.end(topic, partition))
                if await reader.fetch(max_wait=left):
                    free_at = loop.time() + bus.session_seconds
            except BusError as error:
                _log.warning("partition.not_watched", topic=topic, partition=partition, error=str(error))
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)
    finally:
        if reader is not None:
            await reader.close()


async def own_partitions(
    bus: Bus,
    group: str,
    topic: str,
    part: Callable[[int], str],
    work: Callable[[int], Awaitable[None]],
    health: Health,
    claimed_in: Callable[[int], tuple[str, int]] | None = None,
) -> None:
    """Join a group, and work on each partition while it is assigned. Runs until cancelled; all work has stopped when it returns.

    Args:
        bus: the log.
        group: the group's name.
        topic: the topic whose partitions are shared.
        part: returns the name of the work on a partition, in health and log.
        work: the work on a partition; see ``keep_working``.
        health: where the partitions report their state, and the membership too, as ``<group>.group``. A member on standby without
            partitions is ready.
        claimed_in: returns the topic and the partition of it in which the writers of a partition append their claims
            (``tufline.runtime.takeover``). A fenced worker takes over again after a new assignment, or when nobody has written there for
            the session time. Without ``claimed_in``, it does so after a pause.
    """
    membership = f"{group}.group"
    tasks: dict[int, asyncio.Task[None]] = {}

    async def start(partition: int) -> None:
        health.problem(part(partition), "taking the partition over")
        await work(partition)

    async def assigned(partitions: frozenset[int]) -> None:
        health.ok(membership)
        for partition in sorted(partitions):
            name = part(partition)
            after_fence = _pause_after_a_fence if claimed_in is None else partial(_nobody_writes, bus, *claimed_in(partition))
            working = keep_working(name, partial(start, partition), health, after_fence)
            tasks[partition] = asyncio.create_task(working, name=name)

    async def revoked(partitions: frozenset[int]) -> None:
        health.problem(membership, JOINING.format(group))
        ending = [tasks.pop(partition) for partition in sorted(partitions) if partition in tasks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for partition in partitions:
            health.gone(part(partition))

    health.problem(membership, JOINING.format(group))
    member = await bus.join(group, topic, assigned, revoked)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await member.leave()
