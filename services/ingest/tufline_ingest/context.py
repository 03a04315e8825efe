"""The context of the REST API's handlers: the log, the read models of this process, and checks that several handlers need."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web

from tufline import records
from tufline.bus import Bus, Message, Position
from tufline.config.settings import IngestConfig
from tufline.metadata.target import TargetRules
from tufline.records import CURRENT_RULES, Changes, topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime import clock_watch
from tufline.runtime.health import Health
from tufline.trust.admin_state import Bootstrapped
from tufline.views.admin import AdminFollower
from tufline_ingest import accept
from tufline_ingest.errors import NotBootstrappedError, NotNowError
from tufline_ingest.rest import request_body
from tufline_ingest.rest.task_states import Tasks
from tufline_ingest.views.published import PublishedView

ADMIN_SECONDS: Final = 10.0
"""How long a request waits for another request that writes to ``admin``, and for its own record to be read back."""


@dataclass(frozen=True, slots=True)
class Context:
    """The context that every handler is called with.

    Attributes:
        bus: the log.
        config: the settings of ingest.
        clock: the wall clock, compared with the log's time.
        health: the health of the process.
        admin: the state derived from ``admin``.
        published_view: the published state of the origin.
        tasks: the states of tasks.
        changing_trust: held by the only request of this process that writes to ``admin``, so that the second of two bootstraps (or of two
            new versions of root) is refused before it is on the log.
    """

    bus: Bus
    config: IngestConfig
    clock: ReferenceClock
    health: Health
    admin: AdminFollower
    published_view: PublishedView
    tasks: Tasks
    changing_trust: asyncio.Lock

    async def restored(self, *, heads: bool = False) -> None:
        """Wait until the read models cover the whole log: before that, an answer made from them could be long out of date.

        Args:
            heads: whether the read models of ``heads`` are needed too.
        """
        await self.admin.known.wait()
        await self.published_view.published_known.wait()
        if heads:
            await self.published_view.heads_known.wait()

    async def body(self, request: web.Request) -> bytes:
        """Read a body whole.

        Args:
            request: from a client.

        Returns:
            The body, decoded.

        Raises:
            IngestError: if it is too large, or is not in its declared encoding.
        """
        return await request_body.read(request, self.config.max_request_bytes)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        """Append records, and learn the log's time from them.

        Args:
            messages: the records to append.

        Returns:
            Where the records are.

        Raises:
            BusError: if the bus can't append them.
        """
        return await clock_watch.append(self.bus, messages, self.clock)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only request of this process that writes to ``admin``.

        Raises:
            NotNowError: if another request takes too long.
        """
        try:
            async with asyncio.timeout(ADMIN_SECONDS):
                await self.changing_trust.acquire()
        except TimeoutError:
            raise NotNowError("another bootstrap or metadata update is under way: ask for its state, or try again") from None
        try:
            yield
        finally:
            self.changing_trust.release()

    async def append_marks(self, repository: Bootstrapped) -> list[int]:
        """Append a mark, which is a record without changes, to each partition of ``artifacts``.

        All that was acknowledged before is below the marks. The end of a partition would not do: while a transaction of another writer is
        open, a record that is acknowledged already may be above it.

        Args:
            repository: the repository.

        Returns:
            For each partition, the offset after its mark.

        Raises:
            BusError: if the bus can't append them.
        """
        name = accept.name_request()
        mark = records.encode(Changes(request=name, admin=repository.next_offset, changes=[], rules=CURRENT_RULES))
        partitions = range(repository.settings.partitions)
        return [one.offset + 1 for one in await self.append([Message(topics.ARTIFACTS, name, mark, number) for number in partitions])]

    async def read_back(self, offset: int) -> None:
        """Wait until this process has applied a record of ``admin``, so that it is taken into account for the next request.

        Args:
            offset: of the record.

        Raises:
            NotNowError: if that takes too long; the record is on the log nevertheless.
        """
        try:
            async with asyncio.timeout(ADMIN_SECONDS):
                await self.admin.wait_for(lambda state: state.next_offset > offset)
        except TimeoutError:
            reason = "the request is on the log, but this process could not read it back yet: ask for the state before sending it again"
            raise NotNowError(reason) from None

    def bootstrap_state(self) -> Literal["pre", "signing", "finished"] | None:
        """Return the state of the bootstrap.

        Returns:
            None before; ``signing`` while more keys must sign it; ``pre`` until its metadata is published; then ``finished``.
        """
        found = self.admin.state.bootstrapped
        if found is None:
            return "signing" if self.admin.state.open_proposal("bootstrap") is not None else None
        published = self.published_view.published
        return "finished" if published and published.vector.admin > found.bootstrap_offset else "pre"

    @property
    def allowed(self) -> TargetRules:
        """The rules for targets in this repository."""
        return accept.allowed_in(self.config, self.admin)

    def check_bootstrapped(self, message: str = "Task not accepted.") -> Bootstrapped:
        """Make sure that there is a repository.

        Args:
            message: the first sentence of RSTUF's answer for a repository that is not bootstrapped.

        Returns:
            The repository.

        Raises:
            NotBootstrappedError: if there is none yet.
        """
        found, state = self.admin.state.bootstrapped, self.bootstrap_state()
        if found is None or state != "finished":
            raise NotBootstrappedError(state, message)
        return found
