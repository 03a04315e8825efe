"""Tasks over REST: RSTUF's call for the state of a task, by the task id."""

from typing import Final

from aiohttp import web

from tufline.errors import InvalidCursorError
from tufline.records import cursor
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.bulk_tasks import parse_place
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.tasks import TaskAnswer, TaskData

TASK_HOLD_SECONDS: Final = 1.0
"""How long an answer about an unfinished task waits for a change: RSTUF's command line asks again without a pause."""


async def get_task(context: Context, request: web.Request) -> web.Response:
    """Answer with the state of a task, and once it is finished with its result."""
    task_id = request.query.get("task_id")
    if not task_id:
        raise BadRequestError("task_id is missing: /api/v1/task/?task_id=<id>")
    if len(task_id) > cursor.MAX_TEXT_LENGTH:
        raise BadRequestError(f"task_id is too long to be one: it has more than {cursor.MAX_TEXT_LENGTH} characters")
    start = parse_place(request.query.get("after"))
    try:
        where = cursor.decode(task_id, context.bus.log_id)
    except InvalidCursorError:
        return answer(TaskAnswer(TaskData(task_id, "PENDING")))
    data = await context.tasks.describe(task_id, where, start)
    if data.state == "RUNNING":
        await context.published_view.wait_for_change(TASK_HOLD_SECONDS, of_progress=where.hold)
        data = await context.tasks.describe(task_id, where, start)
    return answer(TaskAnswer(data))
