"""The REST API: RSTUF's calls, and besides them bulk import, a query for what is live, and a status.

An answer to a change is given when the log has it. Every refusal is an error that ``answers`` turns into an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from tuf.api.metadata import Root

import tufline
from tufline import records
from tufline.bus import Bus, Message, Position
from tufline.clock import Clock, moment_of
from tufline.config.settings import IngestConfig
from tufline.errors import BusError, InvalidBootstrapError, InvalidCursorError, InvalidTargetError
from tufline.metadata.paths import check_path
from tufline.metadata.target import Allowed
from tufline.records import Bootstrap, Settings, cursor, topics
from tufline.records.cursor import Cursor, Task
from tufline.runtime.health import Health
from tufline.trust import admin_state as admin
from tufline.trust.admin_state import AdminState
from tufline.views.admin import AdminFollower
from tufline_ingest import accept, metrics
from tufline_ingest.errors import BadRequestError, BootstrappedError, NotBootstrappedError, NotNowError
from tufline_ingest.rest import bootstrap, request_body, schemas
from tufline_ingest.rest.bulk import Outcome, take_lines
from tufline_ingest.rest.bulk_tasks import parse_place
from tufline_ingest.rest.responses import PART_OF_IT, answer
from tufline_ingest.rest.tasks import Tasks
from tufline_ingest.views.published import Live, describe_expiries, summarize_expiries

TASK_HOLD_SECONDS: Final = 1.0
"""How long an answer about an unfinished task is held back for a change: RSTUF's command line asks again without a pause."""


ADMIN_SECONDS: Final = 10.0
"""How long a request waits for another one of its kind, and for its own record to be read back."""


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers, and what they work on.

    Attributes:
        bus: the log.
        config: of ingest.
        clock: the wall clock.
        health: of the process.
        admin: the state folded from ``admin``.
        live: what the origin shows.
        tasks: what became of what was accepted.
        bootstrapping: so that of two bootstraps (or of two new versions of root) here at once one is refused at the edge.
    """

    bus: Bus
    config: IngestConfig
    clock: Clock
    health: Health
    admin: AdminFollower
    live: Live
    tasks: Tasks
    bootstrapping: asyncio.Lock

    async def restored(self, *, heads: bool = False) -> None:
        """Wait until the read models are those of the whole log: before, what was said or refused by them could be long past.

        Args:
            heads: whether those of ``heads`` are needed too.
        """
        await self.admin.known.wait()
        await self.live.published_known.wait()
        if heads:
            await self.live.heads_known.wait()

    async def body(self, request: web.Request) -> bytes:
        """Read a body whole.

        Args:
            request: from a client.

        Returns:
            The body, decoded.

        Raises:
            IngestError: if it is too large, or is not what its encoding says.
        """
        return await request_body.read(request, self.config.max_request_bytes)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one here that puts something onto ``admin``.

        Raises:
            NotNowError: if another request takes too long.
        """
        try:
            async with asyncio.timeout(ADMIN_SECONDS):
                await self.bootstrapping.acquire()
        except TimeoutError:
            raise NotNowError("another bootstrap or metadata update is under way: ask for its state, or try again") from None
        try:
            yield
        finally:
            self.bootstrapping.release()

    async def read_back(self, offset: int) -> None:
        """Wait until what was put onto ``admin`` is applied here, so that the next request is judged by it.

        Args:
            offset: of the record.

        Raises:
            NotNowError: if that takes too long; the record is on the log.
        """
        try:
            async with asyncio.timeout(ADMIN_SECONDS):
                await self.admin.wait_for(lambda state: state.next_offset > offset)
        except TimeoutError:
            reason = "the request is on the log, but this process could not read it back yet: ask for the state before sending it again"
            raise NotNowError(reason) from None

    def bootstrap_state(self) -> str | None:
        """Say where the bootstrap stands.

        Returns:
            None before; ``pre`` until its metadata are published; then ``finished``.
        """
        state = self.admin.state
        if state.bootstrap is None:
            return None
        published = self.live.published
        return "finished" if published and published.vector.admin > state.bootstrap_offset else "pre"

    @property
    def allowed(self) -> Allowed:
        """What targets may have here."""
        return self.config.allowed(self.admin.state.profile)

    def check_bootstrapped(self) -> Settings:
        """Make sure that there is a repository.

        Returns:
            Its settings.

        Raises:
            NotBootstrappedError: if there is none yet.
        """
        found = self.admin.state.bootstrap
        state = self.bootstrap_state()
        if found is None or state != "finished":
            raise NotBootstrappedError(state)
        return found.settings

    async def _append(self, changes: Sequence[accept.Change], settings: Settings, bulk: str = "") -> Sequence[Position]:
        messages = await accept.make_messages(changes, settings, self.admin.state.next_offset, bulk)
        with metrics.append_seconds.time():
            positions = await self.bus.append(messages)
        if not bulk:
            self.tasks.recent.accepted(messages, positions)
        self.live.watch(positions)
        accept.count(changes)
        return positions

    async def _submit(self, task: Task, changes: Sequence[accept.Change], settings: Settings, message: str) -> web.Response:
        positions = await self._append(changes, settings)
        where = accept.make_cursor(task, self.bus.log_id, positions)
        paths = [change.path for change in changes]
        data = schemas.Submitted(cursor.encode(where), moment_of(where.time), paths)
        return answer(schemas.SubmittedAnswer(data, message), 202)

    async def add_artifacts(self, request: web.Request) -> web.Response:
        """POST /api/v1/artifacts/."""
        settings = self.check_bootstrapped()
        asked = schemas.decode(schemas.AddEnvelope, await self.body(request))
        changes = await accept.make_adds(asked, self.allowed)
        return await self._submit(Task.ADD, changes, settings, "New Artifact(s) successfully submitted.")

    async def remove_artifacts(self, request: web.Request) -> web.Response:
        """POST /api/v1/artifacts/delete."""
        settings = self.check_bootstrapped()
        changes = await accept.make_removes(schemas.decode(schemas.RemoveRequest, await self.body(request)))
        return await self._submit(Task.REMOVE, changes, settings, "Remove Artifact(s) successfully submitted.")

    async def bulk(self, request: web.Request) -> web.Response:
        """POST /api/v1/artifacts/bulk."""
        settings = self.check_bootstrapped()
        outcome, name = Outcome(), accept.name_request()

        async def append(changes: list[accept.Change]) -> Sequence[Position]:
            return await self._append(changes, settings, name)

        try:
            await take_lines(request_body.pieces(request), self.config.bulk_line_bytes, self.allowed, append, outcome)
        except BusError as error:
            raise NotNowError(f"{outcome.accepted} lines are on the log, then it could take no more: {error}; {PART_OF_IT}") from error
        except BadRequestError as error:
            raise BadRequestError(f"{outcome.accepted} lines are on the log, then reading stopped: {error}") from error
        finally:
            metrics.refused.inc(outcome.refused)
        if not outcome.accepted and not outcome.refused:
            raise BadRequestError("the request has no lines: send one change a line, each a JSON object")
        task_id, time = None, self.clock()
        if outcome.ends:
            where = accept.make_cursor(Task.BULK, self.bus.log_id, outcome.positions, name)
            task_id, time = cursor.encode(where), moment_of(where.time)
        result = schemas.BulkResult(task_id, time, outcome.accepted, outcome.refused, outcome.refused_lines)
        return answer(schemas.BulkAnswer(result, "Lines submitted."), 202)

    async def get_artifact(self, request: web.Request) -> web.Response:
        """GET /api/v1/artifacts/{path}."""
        settings = self.check_bootstrapped()
        try:
            path = check_path(request.match_info["path"])
        except InvalidTargetError as error:
            raise BadRequestError(f"no artifact can have this path: {error}") from None
        found = await self.live.find(path, settings)
        target = found.target
        return answer(
            schemas.LiveArtifact(
                target.path, target.length, target.hashes, found.role, found.role_version, found.snapshot_version, target.custom
            )
        )

    async def get_task(self, request: web.Request) -> web.Response:
        """GET /api/v1/task/?task_id=."""
        task_id = request.query.get("task_id")
        if not task_id:
            raise BadRequestError("task_id is missing: /api/v1/task/?task_id=<id>")
        if len(task_id) > cursor.MAX_TEXT_LENGTH:
            raise BadRequestError(f"task_id is too long to be one: it has more than {cursor.MAX_TEXT_LENGTH} characters")
        start = parse_place(request.query.get("after"))
        try:
            where = cursor.decode(task_id, self.bus.log_id)
        except InvalidCursorError:
            return answer(schemas.TaskAnswer(schemas.TaskData(task_id, "PENDING")))
        data = await self.tasks.describe(task_id, where, start)
        if data.state == "RUNNING":
            await self.live.wait_for_change(TASK_HOLD_SECONDS)
            data = await self.tasks.describe(task_id, where, start)
        return answer(schemas.TaskAnswer(data))

    async def get_bootstrap(self, _: web.Request) -> web.Response:
        """GET /api/v1/bootstrap/."""
        state = self.bootstrap_state()
        if state is None:
            return answer(schemas.BootstrapAnswer(schemas.BootstrapState(False, None, None), "System available for bootstrap."))
        offset = self.admin.state.bootstrap_offset
        where = Cursor(cursor.FORMAT, Task.BOOTSTRAP, self.bus.log_id, 0, {0: [offset]})
        data = schemas.BootstrapState(True, state, cursor.encode(where))  # type: ignore[arg-type]
        return answer(schemas.BootstrapAnswer(data, "System LOCKED for bootstrap."))

    async def post_bootstrap(self, request: web.Request) -> web.Response:
        """POST /api/v1/bootstrap/."""
        asked = schemas.decode(schemas.BootstrapRequest, await self.body(request))
        async with self.alone():
            state = self.admin.state
            if state.bootstrap is not None and not (asked.replace and self._may_replace(state)):
                raise BootstrappedError(self.bootstrap_state())
            # In a thread: what is not signed by anybody may take long to read.
            wanted: Bootstrap = await asyncio.to_thread(bootstrap.make_bootstrap, asked, self.bus.partitions(topics.ARTIFACTS))
            try:
                await asyncio.to_thread(admin.begin, state, wanted, state.next_offset, self.clock())
            except InvalidBootstrapError as error:
                raise BadRequestError(f"the bootstrap can't be accepted: {error}") from None
            (position,) = await self.bus.append([Message(topics.ADMIN, "bootstrap", records.encode(wanted))])
            await self.read_back(position.offset)
            if asked.replace and position.offset in self.admin.state.refused:
                raise BootstrappedError(self.bootstrap_state())  # the signer was faster
        where = accept.make_cursor(Task.BOOTSTRAP, self.bus.log_id, [position])
        data = schemas.Submitted(cursor.encode(where), moment_of(where.time))
        return answer(schemas.SubmittedAnswer(data, "Bootstrap accepted."), 202)

    def _may_replace(self, state: AdminState) -> bool:
        # A log that was written before may have a root that no record of admin tells of.
        return not state.begun and not self.live.versions.get(Root.type)

    async def get_status(self, _: web.Request) -> web.Response:
        """GET /api/v1/status."""
        published, found = self.live.published, self.admin.state.bootstrap
        backlog = await self.live.backlog()
        expiring = {} if found is None else describe_expiries(self.live.expires, found, self.clock())
        problems = expiring | {part: reason for part, reason in self.health.problems.items() if reason}
        bins = set() if found is None else {found.settings.layout.name(number) for number in range(found.settings.number_of_bins)}
        return answer(
            schemas.StatusAnswer(
                version=tufline.__version__,
                log=self.bus.log_id,
                bootstrap=self.bootstrap_state(),
                number_of_bins=len(bins) or None,
                timestamp=published.timestamp.version if published else 0,
                snapshot=published.snapshot.version if published else 0,
                backlog=backlog.count,
                waiting_seconds=0 if backlog.since is None else max(0, int(self.clock().timestamp() - backlog.since / 1000)),
                expires=summarize_expiries(self.live.expires, bins),
                problems=problems,
                warnings=sorted(problems.keys() & {*self.health.warnings, *expiring}),
            )
        )
