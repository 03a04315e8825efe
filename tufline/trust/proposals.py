"""Proposals: submissions that came with too few signatures, and the signatures that follow one by one.

See ``tufline.trust.signing``. No I/O, no clock.
"""

from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec

from tufline.errors import InvalidUpdateError
from tufline.records import SIGNING_SCHEMA, Bootstrap, NewMetadata, Signature, Withdrawal
from tufline.trust.acceptance import begin, check_replacement, close, signable, supersede, update
from tufline.trust.admin_state import AdminState
from tufline.trust.signing import SHOWN_KEYID, Kind, Proposal

Proposable = TypeVar("Proposable", Bootstrap, NewMetadata)


def _accept(state: AdminState, content: Bootstrap | NewMetadata, offset: int, now: datetime) -> AdminState:
    return begin(state, content, offset, now) if isinstance(content, Bootstrap) else update(state, content, offset, now)


def propose(state: AdminState, content: Bootstrap | NewMetadata, offset: int, now: datetime) -> AdminState:
    """Accept a version that more keys must sign, or a bootstrap with one. It becomes valid once enough keys have signed it.

    Args:
        state: the state before the record.
        content: the record's content.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record.

    Raises:
        InvalidBootstrapError: if the bootstrap could not be accepted even with all signatures, with the reason and what to do.
        InvalidUpdateError: the same for the next version of a role; or if one of the signatures is not valid or not needed, or there is
            none.
    """
    kind: Kind = "bootstrap" if isinstance(content, Bootstrap) else content.role
    if isinstance(content, Bootstrap):
        check_replacement(state, content)
    versions = signable(state, content, now)
    for version in versions:
        version.check_entries()
    if all(version.is_complete for version in versions):
        return _accept(state, msgspec.structs.replace(content, signing=False), offset, now)
    if not (first := versions[0]).is_backed():
        keys = ", ".join(keyid[:SHOWN_KEYID] for keyid in dict.fromkeys(first.trusted))
        raise InvalidUpdateError(f"{first.name} has no valid signature by {keys}: sign it with one of these keys before you submit it")
    if (waiting := state.open_proposal(kind)) is not None and not (isinstance(content, Bootstrap) and content.replace):
        raise InvalidUpdateError(
            f"{waiting.what} waits for signatures already: sign that one, or withdraw it first (POST /api/v1/metadata/sign/delete)"
        )
    proposal = Proposal(offset, kind, versions[0].signed.version, content)
    state = supersede(state, offset, kind)
    return replace(state, proposals={**state.proposals, offset: proposal})


def submit(state: AdminState, content: Proposable, offset: int, now: datetime) -> tuple[AdminState, Proposable]:
    """Accept a version, or a bootstrap: as complete if enough keys signed it, otherwise as a proposal.

    Args:
        state: the state before the record.
        content: the content of the record to write.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record, and the content to write.

    Raises:
        InvalidBootstrapError: if the bootstrap can't be accepted, with the reason and what to do.
        InvalidUpdateError: the same for the next version of a role.
    """
    if isinstance(content, Bootstrap):
        check_replacement(state, content)
    if all(version.is_complete for version in signable(state, content, now)):
        return _accept(state, content, offset, now), content
    content = msgspec.structs.replace(content, signing=True, v=max(content.v, SIGNING_SCHEMA))
    return propose(state, content, offset, now), content


def sign(state: AdminState, signature: Signature, offset: int, now: datetime) -> AdminState:
    """Add a signature to a version that more keys must sign. With the last signature it is valid from this record on.

    Args:
        state: the state before the record.
        signature: the record's content.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record.

    Raises:
        InvalidBootstrapError: if it is the last signature of a bootstrap that can no longer be accepted.
        InvalidUpdateError: if the signature is not valid or not needed, or no version waits for it, with the reason and what to do.
    """
    proposal = state.open_proposal("bootstrap", signature.role)
    if proposal is None or proposal.record is None or proposal.offset != signature.proposal:
        raise InvalidUpdateError(f"no {signature.role} waits for this signature: GET /api/v1/metadata/sign lists the versions that wait")
    version = next((one for one in signable(state, proposal.record, now) if one.signed.type == signature.role), None)
    if version is None:
        raise InvalidUpdateError(f"{proposal.what} has no {signature.role} for people to sign: GET /api/v1/metadata/sign lists its roles")
    signed = version.sign(signature.keyid, signature.sig)
    field_name = signature.role if isinstance(proposal.record, Bootstrap) else "metadata"
    record = msgspec.structs.replace(proposal.record, **{field_name: signed})
    proposal = replace(proposal, record=record, signatures=(*proposal.signatures, offset))
    if all(one.is_complete for one in signable(state, record, now)):
        state = close(state, proposal, "complete", offset)
        complete = msgspec.structs.replace(record, signing=False)
        if isinstance(complete, NewMetadata):
            complete = msgspec.structs.replace(complete, ends=signature.ends)
        return _accept(state, complete, offset, now)
    return replace(state, proposals={**state.proposals, proposal.offset: proposal})


def withdraw(state: AdminState, withdrawal: Withdrawal, offset: int) -> AdminState:
    """Withdraw a version that waits for signatures.

    Args:
        state: the state before the record.
        withdrawal: the record's content.
        offset: the record's offset in ``admin``.

    Returns:
        The state after the record.

    Raises:
        InvalidUpdateError: if it does not wait for signatures.
    """
    proposal = state.proposals.get(withdrawal.proposal)
    if proposal is None or proposal.record is None:
        raise InvalidUpdateError("it does not wait for signatures any more: GET /api/v1/metadata/sign lists the versions that wait")
    return close(state, proposal, "withdrawn", offset)
