"""Signatures that are submitted one by one: RSTUF's calls to list the versions that wait for signatures, to sign one, and to withdraw one.

Versions wait for signatures if they were submitted with too few (``tufline.trust.signing``). A signature that is not needed or not valid is
refused here, with the reason.
"""

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.errors import InvalidBootstrapError, InvalidUpdateError
from tufline.records import DELEGATIONS_SCHEMA, SIGNATURE_KEY, WITHDRAWAL_KEY, Signature, Withdrawal, cursor, topics
from tufline.records.cursor import Task
from tufline.trust import acceptance, delegating, proposals
from tufline.trust.admin_state import AdminState
from tufline.trust.signing import Kind, Missing, Proposal
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError, NothingToSignError
from tufline_ingest.rest import role_signatures
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.role_requests import check_count
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.signatures import MissingSignatures, ProposedAnswer, ProposedVersions, SignRequest, WithdrawRequest

KINDS: Final[tuple[Kind, ...]] = ("bootstrap", "root", "targets")


async def get_proposed(context: Context, _: web.Request) -> web.Response:
    """Answer with the versions that wait for signatures, and the keys that can make them."""
    proposed = await asyncio.to_thread(_proposed, context.admin.state, context.clock.latest())
    metadata, missing = await role_signatures.listed(context)
    if metadata:
        trusted = await asyncio.to_thread(role_signatures.trusted_targets, context.check_bootstrapped(), metadata)
        metadata |= {"trusted_root": dict(context.admin.state.roots[-1].metadata), "trusted_targets": trusted}
        before = proposed or ProposedVersions({}, {}, {})
        left = {role: [_missing(one)] for role, one in missing.items()}
        proposed = ProposedVersions(before.metadata | metadata, before.missing | left, before.problems)
    if proposed is None:
        return answer(ProposedAnswer("No metadata pending signing available"))
    return answer(ProposedAnswer("Metadata role(s) pending signing", proposed))


def _proposed(state: AdminState, now: datetime) -> ProposedVersions | None:
    metadata: dict[str, dict[str, Any]] = {}
    missing: dict[str, list[MissingSignatures]] = {}
    problems: dict[str, str] = {}
    for kind in KINDS:
        proposal = state.open_proposal(kind)
        if proposal is None or proposal.record is None:
            continue
        metadata |= _metadata_of(proposal)
        try:
            versions = acceptance.signable(state, proposal.record, now)
        except (InvalidBootstrapError, InvalidUpdateError) as error:
            problems[kind] = str(error)  # it has expired, or another version came first: it can only be withdrawn
            continue
        for version in versions:
            missing[version.signed.type] = [_missing(one) for one in version.missing()]
    if not metadata:
        return None
    if state.roots and state.open_proposal("bootstrap") is None:  # a replacement is not signed by the keys of what it replaces
        metadata["trusted_root"] = dict(state.roots[-1].metadata)
    if "trusted_root" in metadata and state.targets and Targets.type in metadata:
        metadata["trusted_targets"] = dict(state.targets[-1].metadata)
    return ProposedVersions(metadata, missing, problems)


def _missing(signatures: Missing) -> MissingSignatures:
    return MissingSignatures(signatures.count, signatures.keyids, {keyid: key.to_dict() for keyid, key in signatures.keys.items()})


def _metadata_of(proposal: Proposal) -> dict[str, dict[str, Any]]:
    match proposal.record:
        case records.Bootstrap(root=root, targets=targets):
            return {Root.type: root} if targets is None else {Root.type: root, Targets.type: targets}
        case records.NewMetadata(role=role, metadata=metadata):
            return {role: metadata}
        case None:
            return {}


def _find(state: AdminState, role: str) -> Proposal:
    proposal = next((found for kind in KINDS if (found := state.open_proposal(kind)) is not None and role in _metadata_of(found)), None)
    if proposal is None:
        raise NothingToSignError(
            f"no version of {role[:64]!r} waits for signatures: GET /api/v1/metadata/sign lists the versions that wait"
        )
    return proposal


async def post_signature(context: Context, request: web.Request) -> web.Response:
    """Append a signature to the log."""
    requested = decode(SignRequest, await context.body(request))
    async with context.alone():
        if role_signatures.waits(context, requested.role):
            return await role_signatures.sign(context, requested.role, requested.signature.keyid, requested.signature.sig)
        state = context.admin.state
        found = _find(state, requested.role)
        record = Signature(role=requested.role, proposal=found.offset, keyid=requested.signature.keyid, sig=requested.signature.sig)  # type: ignore[arg-type]
        try:
            record, changes_roles = await asyncio.to_thread(_judge, state, found, record, context.clock.latest(), context.config.max_roles)
        except (InvalidBootstrapError, InvalidUpdateError) as error:
            raise BadRequestError(f"the signature can't be accepted: {error}") from None
        if changes_roles:
            record = msgspec.structs.replace(record, ends=await context.append_marks(context.check_bootstrapped()))
        return await _append(context, Message(topics.ADMIN, SIGNATURE_KEY, records.encode(record)), Task.SIGN, "Metadata sign accepted.")


def _judge(state: AdminState, found: Proposal, record: Signature, now: datetime, max_roles: int) -> tuple[Signature, bool]:
    """Judge a signature.

    Returns:
        The record, and whether it makes targets valid that change the custom delegations, so that it must name their ends.

    Raises:
        BadRequestError: if it makes more roles valid than clients should have to load.
        InvalidBootstrapError: if it is the last signature of a bootstrap that can no longer be accepted.
        InvalidUpdateError: if it can't be accepted, with the reason and what to do.
    """
    changes_roles = False
    if state.bootstrap is not None and isinstance(found.record, records.NewMetadata):
        changes_roles = delegating.needs_ends(state, found.record.role, found.record.metadata)
        if changes_roles:
            record = msgspec.structs.replace(record, v=DELEGATIONS_SCHEMA, ends=[0] * state.bootstrap.settings.partitions)
    after = proposals.sign(state, record, state.next_offset, now)
    check_count(state, after, max_roles)
    is_complete = after.proposals[found.offset].outcome == "complete"
    return (record, True) if changes_roles and is_complete else (msgspec.structs.replace(record, ends=None), False)


async def post_withdrawal(context: Context, request: web.Request) -> web.Response:
    """Append the withdrawal of a version to the log."""
    requested = decode(WithdrawRequest, await context.body(request))
    async with context.alone():
        if role_signatures.waits(context, requested.role):
            return await role_signatures.withdraw(context, requested.role)
        record = Withdrawal(proposal=_find(context.admin.state, requested.role).offset)
        message = Message(topics.ADMIN, WITHDRAWAL_KEY, records.encode(record))
        return await _append(context, message, Task.WITHDRAW, "Metadata sign delete accepted.")


async def _append(context: Context, message: Message, task: Task, text: str) -> web.Response:
    (position,) = await context.append([message])
    await context.read_back(position.offset)
    if (reason := context.admin.state.refused.get(position.offset)) is not None:
        raise BadRequestError(f"another request was faster: {reason}")
    where = accept.make_cursor(task, context.bus.log_id, [position])
    return answer(SubmittedAnswer(Submitted(cursor.encode(where), moment_of(where.time)), text), 202)
