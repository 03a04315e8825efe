"""The state of a task that changes custom delegations.

Its record is in ``admin``. The task is done when the published commit covers the record: by then clients look in the roles that it leaves.
"""

from typing import Any

from tufline.bus import Bus
from tufline.metadata.delegations import NO_DELEGATIONS
from tufline.records import ChangedDelegations
from tufline.records.cursor import Cursor
from tufline.trust.admin_state import AdminState
from tufline_ingest.rest.admin_records import read_admin_record
from tufline_ingest.rest.finished_tasks import finished, running
from tufline_ingest.rest.schemas.tasks import TaskData
from tufline_ingest.rest.trust_tasks import ENDED
from tufline_ingest.views.published import PublishedView


async def describe(task_id: str, cursor: Cursor, bus: Bus, view: PublishedView, admin: AdminState) -> TaskData:
    """Return the state of a change of the delegations.

    Args:
        task_id: as the client sent it.
        cursor: the cursor that the id contains.
        bus: the log.
        view: the published state of the origin.
        admin: the state of all records of ``admin`` so far.

    Returns:
        The task's state; PENDING for a change that this log does not know.

    Raises:
        BusError: if the log can't be read now.
    """
    offset = cursor.positions.get(0, [0])[-1]
    if cursor.positions.keys() != {0} or offset >= admin.next_offset:  # admin has one partition
        return TaskData(task_id, "PENDING")
    content = await read_admin_record(bus, offset)
    if not isinstance(content, ChangedDelegations):
        return TaskData(task_id, "PENDING")
    names = content.deleted if content.action == "delete" else [role.name for role in content.roles]
    proposal = admin.proposals.get(offset)  # only where people sign targets
    end = offset if proposal is None or proposal.outcome == "signing" else proposal.end
    reason = admin.refused.get(end) or (None if proposal is None else ENDED.get(proposal.outcome))
    if reason is not None:
        failed = [{"role": name, "reason": reason} for name in names]
        return finished(task_id, cursor, "Metadata Delegation Failed", _details([], failed), reason)
    if proposal is not None and proposal.outcome == "signing":
        return running(task_id, cursor, f"{proposal.what} waits for signatures: GET /api/v1/metadata/sign", _details(names, []))
    if view.published is None or not view.published.vector.has_applied(end):
        return TaskData(task_id, "RUNNING")
    return await _of_people(task_id, cursor, view, admin, names) or finished(
        task_id, cursor, "Metadata Delegation Processed", _details(names, [])
    )


async def _of_people(task_id: str, cursor: Cursor, view: PublishedView, admin: AdminState, names: list[str]) -> TaskData | None:
    """Return what the change waits for, if people have not signed its roles with their newest keys yet."""
    delegations = NO_DELEGATIONS if admin.routing is None else admin.routing.delegations
    waiting = [name for name in names if name in delegations.offline and not await view.names_by_newest_keys(name, delegations)]
    if not waiting:
        return None
    return running(task_id, cursor, view.people.describe(waiting[0], delegations), _details(names, []) | {"waiting": waiting})


def _details(delegated: list[str], failed: list[dict[str, str]]) -> dict[str, Any]:
    return {"delegated_roles": delegated, "failed_roles": failed}
