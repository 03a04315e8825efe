"""Publishing what is held, and freezing, over REST.

A publish releases what was on the log when it was requested. To tell what that is, ingest appends a mark to each partition of
``artifacts`` first (``Context.append_marks``). Then one record of ``admin`` names the ends after the marks, and only that record makes it a
publish.
"""

from aiohttp import web

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.records import FREEZE_KEY, PUBLISH_KEY, Freeze, Publish, cursor, topics
from tufline.records.cursor import Task
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.publishing import FreezeAnswer, FreezeState


async def publish_artifacts(context: Context, _: web.Request) -> web.Response:
    """Append a publish of all changes that are held now."""
    publish = Publish(ends=await context.append_marks(context.check_bootstrapped()))
    (position,) = await context.append([Message(topics.ADMIN, PUBLISH_KEY, records.encode(publish))])
    await context.read_back(position.offset)
    where = accept.make_cursor(Task.PUBLISH, context.bus.log_id, [position])
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, "Publish artifacts successfully submitted."), 202)


async def _freeze(context: Context, text: str, *, frozen: bool) -> web.Response:
    context.check_bootstrapped()
    async with context.alone():
        if (context.admin.state.frozen_since is not None) != frozen:
            (position,) = await context.append([Message(topics.ADMIN, FREEZE_KEY, records.encode(Freeze(frozen=frozen)))])
            await context.read_back(position.offset)
        return answer(FreezeAnswer(FreezeState(context.admin.state.frozen_since), text))


async def freeze(context: Context, _: web.Request) -> web.Response:
    """Let changes of artifacts wait on the log."""
    return await _freeze(context, "Changes of artifacts wait until they are thawed.", frozen=True)


async def thaw(context: Context, _: web.Request) -> web.Response:
    """Let changes of artifacts be applied again."""
    return await _freeze(context, "Changes of artifacts are applied.", frozen=False)
