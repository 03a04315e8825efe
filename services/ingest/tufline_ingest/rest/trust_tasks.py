"""The state of a task about trust: a bootstrap, new versions of root and targets, their signatures, new lifetimes and renewals.

Their records are in ``admin``, whose state has the result of each. As with RSTUF, a task whose version waits for signatures has done its
part: it is SUCCESS, and its details say what is missing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tuf.api.metadata import Root, Targets

from tufline.records import Vector
from tufline.records.cursor import Cursor, Task
from tufline.trust import online, roles
from tufline.trust.admin_state import AdminState
from tufline.trust.signing import Proposal
from tufline_ingest.rest.finished_tasks import finished, running
from tufline_ingest.rest.schemas.tasks import TaskData
from tufline_ingest.views.published import PublishedView

NOTHING: Final = Vector([], 0)
"""The vector before anything is published."""

ENDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "withdrawn": "it was withdrawn before enough keys had signed it",
        "superseded": "another one came before enough keys had signed it",
    }
)


def describe(task_id: str, cursor: Cursor, view: PublishedView, admin: AdminState) -> TaskData:
    """Return the state of a task about trust.

    Args:
        task_id: as the client sent it.
        cursor: the cursor that the id contains.
        view: what is published, and the newest versions on the log.
        admin: the state of all records of ``admin`` so far.

    Returns:
        The task's state; PENDING for a task that this log does not know.
    """
    offsets = cursor.positions.get(0, [])
    if cursor.positions.keys() != {0}:  # admin has one partition
        return TaskData(task_id, "PENDING")
    covered = view.published.vector if view.published is not None else NOTHING
    match cursor.task:
        case Task.SIGN:
            return _describe_signature(task_id, cursor, offsets[-1], admin, covered)
        case Task.WITHDRAW:
            return _describe_withdrawal(task_id, cursor, offsets[-1], admin)
        case Task.SETTINGS:
            return _describe_lifetimes(task_id, cursor, offsets[-1], admin)
        case Task.RENEW:
            return _describe_renewal(task_id, cursor, offsets[-1], admin, covered)
        case _:
            return _describe_versions(task_id, cursor, offsets, admin, view, covered)


def _proposed(proposal: Proposal) -> str:
    role = "root" if proposal.kind == "bootstrap" else proposal.kind
    return f"{role.title()} v{proposal.version} is pending signatures"


def _describe_versions(
    task_id: str, cursor: Cursor, offsets: Sequence[int], admin: AdminState, view: PublishedView, covered: Vector
) -> TaskData:
    is_bootstrap = cursor.task is Task.BOOTSTRAP
    versions = {one.offset: Root.type for one in admin.roots} | {one.offset: Targets.type for one in admin.targets}
    names: list[str] = []
    reasons: list[str] = []
    waiting: list[str] = []
    counts_from = -1
    for offset in offsets:
        proposal = admin.proposals.get(offset)
        at = proposal.end if proposal is not None and proposal.outcome == "complete" else offset
        if at in admin.refused:
            reasons.append(admin.refused[at])
        elif proposal is not None and proposal.outcome == "signing":
            waiting.append(_proposed(proposal))
            names.append(proposal.kind)
        elif proposal is not None and proposal.outcome != "complete":
            reasons.append(ENDED[proposal.outcome])
        elif at in versions:
            names.append(versions[at])
            counts_from = max(counts_from, at)
        else:
            return TaskData(task_id, "PENDING")
    details: dict[str, Any] = {"bootstrap": not reasons} if is_bootstrap else {"role": names[0] if names else None, "roles": names}
    if reasons:
        return finished(task_id, cursor, "Bootstrap Failed" if is_bootstrap else "Metadata Update Failed", details, "; ".join(reasons))
    if counts_from >= 0 and not covered.has_applied(counts_from):
        progress = {} if is_bootstrap else _progress(admin, view, offsets)
        return running(task_id, cursor, "Publishing", details | progress) if progress else TaskData(task_id, "RUNNING")
    if waiting:
        details["bootstrap" if is_bootstrap else "update"] = "; ".join(waiting)
    return finished(task_id, cursor, "Bootstrap Processed" if is_bootstrap else "Metadata Update Processed", details)


def _progress(admin: AdminState, view: PublishedView, offsets: Sequence[int]) -> dict[str, Any]:
    """Return how many bins are signed with the keys of an update, if it is one that names their keys and all heads are known here."""
    if admin.bootstrap is None or not view.heads_known.is_set():
        return {}
    of_targets = [roles.bin_keys(one.signed) for one in admin.targets if one.offset in offsets]
    of_roots = [roles.online_bin_keys(one.signed) for one in admin.roots if one.offset in offsets and not admin.targets]
    if not (keys := [*of_targets, *of_roots]):
        return {}
    layout, number = admin.bootstrap.settings.layout, admin.bootstrap.settings.number_of_bins
    # Many bins have the same set of keyids, so few sets have to be checked.
    signed_by = Counter(view.keyids.get(layout.name(index), ()) for index in range(number))
    return {"bins_signed": sum(count for keyids, count in signed_by.items() if keys[-1].are_met_by(keyids)), "number_of_bins": number}


def _describe_signature(task_id: str, cursor: Cursor, offset: int, admin: AdminState, covered: Vector) -> TaskData:
    if (reason := admin.refused.get(offset)) is not None:
        return finished(task_id, cursor, "Signature Failed", {}, reason)
    proposal = next((one for one in admin.proposals.values() if offset in one.signatures), None)
    if proposal is None:
        return TaskData(task_id, "PENDING")
    if (reason := ENDED.get(proposal.outcome) or admin.refused.get(proposal.end)) is not None:
        return finished(task_id, cursor, "Signature Failed", {}, reason)
    is_bootstrap = proposal.kind == "bootstrap"
    message = _proposed(proposal)
    if proposal.outcome == "complete":
        if offset == proposal.end and not covered.has_applied(offset):
            return TaskData(task_id, "RUNNING")
        if covered.has_applied(proposal.end):
            message = "Bootstrap Finished" if is_bootstrap else "Metadata update finished"
    return finished(task_id, cursor, "Signature Processed", {"bootstrap" if is_bootstrap else "update": message})


def _describe_withdrawal(task_id: str, cursor: Cursor, offset: int, admin: AdminState) -> TaskData:
    if (reason := admin.refused.get(offset)) is not None:
        return finished(task_id, cursor, "Deletion of metadata pending signatures failed", {}, reason)
    proposal = next((one for one in admin.proposals.values() if one.outcome == "withdrawn" and one.end == offset), None)
    if proposal is None:
        return TaskData(task_id, "PENDING")
    is_bootstrap = proposal.kind == "bootstrap"
    message = f"Deletion of {'root' if is_bootstrap else proposal.kind} metadata successful, signing process stopped"
    return finished(task_id, cursor, message, {"bootstrap": "Bootstrap process has been stopped"} if is_bootstrap else {})


def _describe_lifetimes(task_id: str, cursor: Cursor, offset: int, admin: AdminState) -> TaskData:
    if (reason := admin.refused.get(offset)) is not None:
        return finished(task_id, cursor, "Update Settings Failed", {}, reason)
    change = admin.lifetime_changes.get(offset)
    if change is None:
        return TaskData(task_id, "PENDING")
    details = {"updated_roles": list(change.updated), "invalid_roles": list(change.invalid)}
    return finished(task_id, cursor, "Update Settings Succeeded", details)


def _describe_renewal(task_id: str, cursor: Cursor, offset: int, admin: AdminState, covered: Vector) -> TaskData:
    if (reason := admin.refused.get(offset)) is not None:
        return finished(task_id, cursor, "Force new online metadata update failed", {}, reason)
    renewal = admin.renewals.get(offset)
    if renewal is None:
        return TaskData(task_id, "PENDING")
    if not covered.has_applied(offset):
        return TaskData(task_id, "RUNNING")
    details = {"updated_roles": online.roles_renewed_with(renewal.roles)}
    return finished(task_id, cursor, "Force new online metadata update succeeded", details)
