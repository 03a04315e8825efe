"""A client for Python programs: it sends an event to ``inbox``, and returns once the event's changes are live.

    async with Client("kafka:broker1:9092,broker2:9092") as client:
        outcome = await client.publish(Event("urn:my-repository", [add("a-1.0.whl", 1234, {"sha256": "…"}), remove("a-0.9.whl")]))

An event with the same source and id is accepted only once, so after an error or a restart it is safe to send it again.

In: events. Out: records of ``inbox``, and the outcome of each event from ``receipts`` and ``published``. Each partition of ``receipts`` is
read only once, however many events are pending.
"""

import asyncio
import contextlib
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import structlog

from tufline.bus import Bus, Message, Position
from tufline.bus.follow import RETRY_SECONDS
from tufline.config.loading import of_environment
from tufline.config.settings import Config
from tufline.errors import BusError, EventRejectedError, NotLiveYetError, PushbackError
from tufline.records import Published, cursor, events, topics
from tufline.records.cursor import Cursor
from tufline.records.events import ArtifactInfo, ChangeRequest, EventData
from tufline.records.receipts import ChangeReceipt, EventReceipt
from tufline.runtime import open_bus
from tufline.runtime.task_groups import all_of
from tufline.views import task_receipts
from tufline.views.published import follow_origin
from tufline.views.receipts import CHANGE_RECEIPTS_BYTES, Receipts
from tufline.views.task_receipts import FoundReceipts

DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""How long to wait until an event is live, by default."""

_HEADERS: Final = {events.CONTENT_TYPE_HEADER: events.STRUCTURED_TYPE}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a repository: changes that belong together.

    Attributes:
        source: a URI of the sender; events of one source are applied in their order.
        changes: at least one; applied in this order, and accepted or rejected together.
        id: unique for the source.
    """

    source: str
    changes: Sequence[ChangeRequest]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


def add(path: str, length: int, hashes: dict[str, str], custom: dict[str, Any] | None = None) -> ChangeRequest:
    """Make a change that adds an artifact, or replaces the one at its path.

    Args:
        path: the target path.
        length: the file's length in bytes.
        hashes: algorithm to hexadecimal digest.
        custom: a JSON object with the repository's own data.

    Returns:
        The change.
    """
    values: tuple[Any, ...] = (length, hashes, custom)  # encoded as JSON with the event
    return ChangeRequest(path, info=ArtifactInfo(*values))


def remove(path: str) -> ChangeRequest:
    """Make a change that removes an artifact.

    Args:
        path: the target path.

    Returns:
        The change.
    """
    return ChangeRequest(path, "remove")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an event: all its changes are live, except those that were refused.

    Attributes:
        task: its task id, for GET /api/v1/task/.
        is_duplicate: whether it had been accepted before.
        receipts: the changes that had no effect or were refused: the removal of an artifact that did not exist, the addition of one that
            already existed, or a change that does not fit into the metadata. The receipts of a duplicate may already have been deleted.
        is_complete: whether ``receipts`` has all of them. It is False if a receipt may be unreadable, or if too many receipts of other
            events had to be read first, which can happen for an event that was sent again. Then ask GET /api/v1/task/, which has the
            others or reports what is unknown.
    """

    task: str
    is_duplicate: bool
    receipts: Sequence[ChangeReceipt]
    is_complete: bool = True

    @property
    def refused(self) -> Sequence[ChangeReceipt]:
        """The refused changes, which are not live."""
        return [receipt for receipt in self.receipts if receipt.outcome == "refused"]


class Client:
    """Sends events; an async context manager."""

    def __init__(self, bus: Bus | str, config: Config | None = None) -> None:
        """Store the arguments; entering the context manager connects.

        Args:
            bus: an open bus, or a URL as in ``bus.url``.
            config: its section ``kafka`` says how to reach the cluster, and ``ingest.origin`` names the origin where events become live.
                By default it is read from the ``TUFLINE_*`` environment variables.

        Raises:
            ConfigError: if one of these variables has an invalid value.
        """
        self._config = config or of_environment()
        self._given = bus
        self._stack = contextlib.AsyncExitStack()
        self._waiting: dict[tuple[str, str], list[asyncio.Queue[EventReceipt | BaseException]]] = {}
        self._pending: dict[asyncio.Future[None], Cursor] = {}
        self._published: Published | None = None
        self._background: asyncio.Task[None]
        self._receipts: list[Receipts]
        self._bus: Bus

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConfigError: if the bus does not exist, or has no topics of Tufline.
            BusError: if the bus can't be reached.
        """
        try:
            if isinstance(self._given, str):
                section = self._config.bus.model_copy(update={"url": self._given})
                self._config = self._config.model_copy(update={"bus": section})
                self._bus = await self._stack.enter_async_context(open_bus.open_bus(self._config, as_client=True))
            else:
                self._bus = self._given
            partitions = range(self._bus.partitions(topics.RECEIPTS))
            ends = [await self._bus.end(topics.RECEIPTS, partition) for partition in partitions]
        except BaseException:
            await self._stack.aclose()
            raise
        most_bytes = CHANGE_RECEIPTS_BYTES // len(partitions)
        self._receipts = [Receipts(self._bus, partition, end, most_bytes) for partition, end in zip(partitions, ends, strict=True)]
        self._background = asyncio.create_task(self._follow(), name="client")
        self._background.add_done_callback(self._fail)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect; callers that still wait get a ``BusError``."""
        self._background.cancel()
        await asyncio.wait([self._background])
        await self._stack.aclose()

    async def _follow(self) -> None:
        following = (one.follow(self._take_receipt) for one in self._receipts)
        await all_of(follow_origin(self._bus, self._config.ingest.origin, self._take_published), *following)

    async def publish(self, event: Event, *, seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Outcome:
        """Send an event, and wait until its changes are live.

        Args:
            event: the event to send.
            seconds: how long to wait.

        Returns:
            The event's outcome.

        Raises:
            InvalidEventError: if the event is not valid; it was not sent.
            EventRejectedError: if ingest rejected the event; none of its changes will become live.
            NotLiveYetError: if the time ran out; the event may still become live.
            BusError: if the bus can't be used any more.
        """
        to_send = events.Event("1.0", event.id, event.source, events.TYPE, EventData(list(event.changes)))
        value = events.encode(to_send)
        events.read(value, _HEADERS)
        name = event.source, event.id
        queue: asyncio.Queue[EventReceipt | BaseException] = asyncio.Queue()
        self._waiting.setdefault(name, []).append(queue)
        stage = "it could not be sent"
        try:
            async with asyncio.timeout(seconds):
                self._check_alive()
                position = await self._send(event.source, value)
                stage = "ingest has not accepted it yet"
                receipt = await _receipt_of(position, queue)
                if receipt.outcome == "rejected":
                    raise EventRejectedError(receipt.reason)
                stage = f"it was accepted, but is not live yet (task {receipt.task})"
                return await self._wait_until_live(receipt)
        except TimeoutError:
            message = f"after {seconds:g} s {stage}; it may still become live, and it is safe to send the same event again"
            raise NotLiveYetError(message) from None
        finally:
            self._waiting[name].remove(queue)
            if not self._waiting[name]:
                del self._waiting[name]

    async def _send(self, source: str, value: bytes) -> Position:
        # The source selects the partition, so that its events keep their order and repeated events are recognized; as librdkafka does.
        partition = zlib.crc32(source.encode()) % self._bus.partitions(topics.INBOX)
        while True:
            try:
                (position,) = await self._bus.append([Message(topics.INBOX, source, value, partition, _HEADERS)])
            except PushbackError as error:
                await asyncio.sleep(error.retry_after)
            except BusError as error:
                # The event may already be on the log, but ingest accepts it only once.
                if not error.retriable:
                    raise
                _log.warning("client.send_again", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._check_alive()
            else:
                return position

    async def _wait_until_live(self, receipt: EventReceipt) -> Outcome:
        where = cursor.decode(receipt.task, self._bus.log_id)
        if self._published is None or not where.is_covered(self._published.vector):
            live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._pending[live] = where
            try:
                self._check_alive()
                await live
            finally:
                del self._pending[live]
        is_duplicate = receipt.outcome == "duplicate"
        receipts: list[ChangeReceipt] = []
        is_complete = True
        for partition, offsets in where.positions.items():
            followed = None
            if not is_duplicate:
                # The signer wrote these receipts before the changes became live, so they only have to be read.
                await self._receipts[partition].caught_up()
                followed = self._receipts[partition].change_receipts(offsets)
            found = (
                await task_receipts.of_records(self._bus, partition, offsets, where.time, where.request)
                if followed is None
                else FoundReceipts(followed)
            )
            is_complete = is_complete and found is not None and not found.uncertain
            receipts += () if found is None else found.receipts
        return Outcome(receipt.task, is_duplicate, receipts, is_complete)

    def _take_receipt(self, receipt: EventReceipt) -> None:
        for queue in self._waiting.get((receipt.source, receipt.id), ()):
            queue.put_nowait(receipt)

    async def _take_published(self, published: Published) -> None:
        self._published = published
        for live, where in self._pending.items():
            if not live.done() and where.is_covered(published.vector):
                live.set_result(None)

    def _fail(self, background: asyncio.Task[None]) -> None:
        error = BusError("the client is closed") if background.cancelled() else background.exception()
        assert error is not None
        for queues in self._waiting.values():
            for queue in queues:
                queue.put_nowait(error)
        for live in self._pending:
            if not live.done():
                live.set_exception(error)

    def _check_alive(self) -> None:
        if self._background.done():
            raise BusError("the client is closed") if self._background.cancelled() else self._background.exception() or AssertionError


async def _receipt_of(position: Position, queue: "asyncio.Queue[EventReceipt | BaseException]") -> EventReceipt:
    # If the same event was sent before, its earlier receipts arrive too, possibly even before this event was appended.
    while True:
        receipt = await queue.get()
        if isinstance(receipt, BaseException):
            raise receipt
        if (receipt.partition, receipt.offset) == (position.partition, position.offset):
            return receipt
