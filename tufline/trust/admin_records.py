"""Applying the records of ``admin``.

Every service applies the same records in the same order, and uses the records' times, so that all reach the same state whenever they read
it. No I/O, no clock.
"""

from dataclasses import replace
from datetime import datetime

from tufline import records
from tufline.bus import Record
from tufline.clock import moment_of
from tufline.errors import InvalidBootstrapError, InvalidUpdateError, RecordError, SchemaError, UnreadableMetadataError
from tufline.records import (
    AcceptedLoss,
    AdminRecord,
    Bootstrap,
    BootstrapStarted,
    ChangedDelegations,
    Freeze,
    NewLifetimes,
    NewMetadata,
    Publish,
    Renewal,
    Signature,
    Withdrawal,
)
from tufline.trust import acceptance, delegating, online, proposals
from tufline.trust.admin_state import KEPT_PUBLISHES, AcceptedPublish, AdminState


def _start(state: AdminState, begun: BootstrapStarted, offset: int) -> AdminState:
    if begun.bootstrap != state.bootstrap_offset:
        raise InvalidBootstrapError(f"the bootstrap at the offset {begun.bootstrap} was replaced before its root was published")
    # A replacement that still waits for signatures can no longer be accepted. If it stayed open, ``proposals.sign`` would take a signature
    # of the next root for one of the replacement.
    return replace(acceptance.supersede(state, offset, "bootstrap"), begun=True)


def _accept_loss(state: AdminState, loss: AcceptedLoss) -> AdminState:
    known = state.losses.get((loss.topic, loss.partition), 0)
    return replace(state, losses={**state.losses, (loss.topic, loss.partition): max(known, loss.below)})


def _publish(state: AdminState, publish: Publish, offset: int) -> AdminState:
    if state.bootstrap is None or len(publish.ends) != state.bootstrap.settings.partitions:
        raise RecordError("the publish does not have one offset for each partition of the repository")
    # Two processes may have read the ends in one order, and appended their records in the other.
    ends = tuple(publish.ends)
    if state.publishes:
        ends = tuple(map(max, ends, state.publishes[-1].ends))
    return replace(state, publishes=(*state.publishes, AcceptedPublish(offset, ends))[-KEPT_PUBLISHES:])


def _freeze(state: AdminState, freeze: Freeze, now: datetime) -> AdminState:
    if not freeze.frozen:
        return replace(state, frozen_since=None)
    return state if state.frozen_since is not None else replace(state, frozen_since=now)


def _apply(state: AdminState, content: AdminRecord, offset: int, now: datetime) -> AdminState:
    match content:
        case Bootstrap(signing=True) | NewMetadata(signing=True):
            state = proposals.propose(state, content, offset, now)
        case Bootstrap():
            state = acceptance.begin(state, content, offset, now)
        case NewMetadata():
            state = acceptance.update(state, content, offset, now)
        case Signature():
            state = proposals.sign(state, content, offset, now)
        case Withdrawal():
            state = proposals.withdraw(state, content, offset)
        case _:
            state = _apply_unsigned(state, content, offset, now)
    return state


def _apply_unsigned(state: AdminState, content: AdminRecord, offset: int, now: datetime) -> AdminState:
    """Apply a record that nobody has to sign."""
    match content:
        case BootstrapStarted():
            state = _start(state, content, offset)
        case ChangedDelegations():
            state = delegating.change(state, content, offset, now)
        case NewLifetimes():
            state = online.change_lifetimes(state, content, offset)
        case Renewal():
            state = online.renew(state, content, offset)
        case AcceptedLoss():
            state = _accept_loss(state, content)
        case Publish():
            state = _publish(state, content, offset)
        case Freeze():
            state = _freeze(state, content, now)
    return state


def fold(state: AdminState, record: Record) -> AdminState:
    """Apply one record of ``admin``.

    Args:
        state: the state before the record.
        record: the next record.

    Returns:
        The state after the record. A refused record (such as a second bootstrap) only changes ``refused`` and perhaps ``unreadable``.

    Raises:
        SchemaError: if it has a newer schema: this version of Tufline must not continue.
    """
    state = replace(state, next_offset=record.offset + 1)
    try:
        return _apply(state, records.decode(records.admin_decoder, record.value), record.offset, moment_of(record.time))
    except SchemaError:
        raise
    except (InvalidBootstrapError, InvalidUpdateError, RecordError) as error:
        state = replace(state, refused={**state.refused, record.offset: str(error)})
        if isinstance(error.__cause__, UnreadableMetadataError):
            state = replace(state, unreadable={**state.unreadable, record.key: str(error)})
        return state
