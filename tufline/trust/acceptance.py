"""Accepting a bootstrap, and the versions of root and targets that follow it: a version that clients would refuse is never accepted.

Ingest judges a submission by these functions before it writes a record, and every service judges the record by them again. No I/O, no
clock.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final, Literal

from tuf.api.metadata import Root, Targets

from tufline.errors import InvalidBootstrapError, InvalidInputError, InvalidUpdateError, MetadataError
from tufline.records import CHAIN_RULES, DELEGATIONS_SCHEMA, FIRST_RULES, Bootstrap, NewMetadata
from tufline.trust import roles, rules
from tufline.trust.admin_state import AdminState, Submitted
from tufline.trust.delegated import read_custom
from tufline.trust.delegating import changes_custom, first_routing, routed_from
from tufline.trust.delegating import check_bootstrap as check_delegations
from tufline.trust.signing import Kind, Proposal, Signable

MAX_WITHDRAWN: Final = 200
"""How many of the newest withdrawn or superseded proposals are kept, to answer their tasks."""


def _check_version(role: str, found: int, newest: int) -> None:
    if found != newest + 1:
        raise InvalidUpdateError(f"{role} has version {found}, but the next version is {newest + 1}: sign that version")


def _root_signable(state: AdminState, content: NewMetadata, now: datetime) -> Signable:
    newest, metadata = state.roots[-1].signed, content.metadata
    root = rules.check_submitted(Root, metadata, now)
    _check_version(Root.type, root.version, newest.version)
    rules.check_root_roles(root, targets_online=not state.targets, rules=content.rules)
    rules.check_form(root, metadata, content.rules, state.profile, newest.keys)
    return Signable(metadata, root, (roles.root_keys(newest, Root.type), roles.root_keys(root, Root.type)))


def _targets_signable(state: AdminState, bootstrap: Bootstrap, content: NewMetadata, now: datetime) -> Signable:
    if not state.targets:
        raise InvalidUpdateError("targets is signed online here, by the signer: submit a root that names its new key instead")
    newest, metadata = state.targets[-1], content.metadata
    known = {keyid for root in state.roots for keyid in root.signed.keys}
    targets = rules.check_submitted(Targets, metadata, now)
    _check_version(Targets.type, targets.version, newest.signed.version)
    rules.check_bins(bootstrap.settings, targets, content.rules)
    rules.check_form(targets, metadata, content.rules, state.profile, known)
    first = _first_signing_root(state, content.rules)
    return Signable(metadata, targets, [roles.root_keys(root.signed, Targets.type) for root in state.roots[first:]])


def _first_signing_root(state: AdminState, rules: int) -> int:
    """Return the index of the first root whose keys must sign the next targets; those of all later roots must sign it too.

    A pending root waits for targets that verify under it, so these targets must not in turn wait for that root. If the previous keys are
    lost, neither do they wait for signatures of these keys.
    """
    if rules >= CHAIN_RULES:
        return max(state.targets_reach, _last_skipping(state))
    newest = state.targets[-1]
    return next(number for number, root in reversed([*enumerate(state.roots)]) if root.skip_overlap or newest.verifies_under(root.signed))


def _last_skipping(state: AdminState) -> int:
    """Return the index of the last root that does not wait for the keys of the previous one; 0 if none is like that."""
    return max((number for number, root in enumerate(state.roots) if root.skip_overlap), default=0)


def _reaching(state: AdminState) -> AdminState:
    """Return the state with how far its newest targets reach. A root in between under which they do not verify ends their reach.

    A later root may restore the keys of an earlier one, so that they verify under the later root again: it is released after the one in
    between all the same, because clients follow the roots one by one.
    """
    if not state.targets:
        return state
    newest, skipping = state.targets[-1], _last_skipping(state)
    reach = state.targets_reach if skipping <= state.targets_reach else skipping - 1
    while reach + 1 < len(state.roots) and newest.verifies_under(state.roots[reach + 1].signed):
        reach += 1
    return replace(state, targets_reach=reach)


def _bootstrap_signable(bootstrap: Bootstrap, now: datetime) -> list[Signable]:
    root, targets = rules.check_unsigned(bootstrap, now)
    check_delegations(bootstrap)
    found = [Signable(bootstrap.root, root, [roles.root_keys(root, Root.type)])]
    if targets is not None and bootstrap.targets is not None:
        found.append(Signable(bootstrap.targets, targets, [roles.root_keys(root, Targets.type)]))
    return found


def signable(state: AdminState, content: Bootstrap | NewMetadata, now: datetime) -> list[Signable]:
    """Return the versions that a submission consists of; their signatures are not checked.

    Args:
        state: the state before the submission.
        content: the content of its record.
        now: a time with a time zone.

    Returns:
        For a bootstrap: root, and targets if it is signed offline. For an update: the next version of its role.

    Raises:
        InvalidBootstrapError: if the bootstrap could not be accepted even with all signatures, with the reason and what to do.
        InvalidUpdateError: the same for the next version of a role.
    """
    if isinstance(content, Bootstrap):
        return _bootstrap_signable(content, now)
    if state.bootstrap is None:
        raise InvalidUpdateError("there is no repository yet")
    try:
        of_root = content.role == Root.type
        return [_root_signable(state, content, now) if of_root else _targets_signable(state, state.bootstrap, content, now)]
    except InvalidUpdateError:
        raise
    except (InvalidInputError, MetadataError, ValueError) as error:
        raise InvalidUpdateError(str(error)) from error


def close(state: AdminState, proposal: Proposal, outcome: Literal["complete", "withdrawn", "superseded"], end: int) -> AdminState:
    """End a proposal.

    Args:
        state: the state before.
        proposal: an open one.
        outcome: why it ends.
        end: the offset of the record that ends it.

    Returns:
        The state in which the proposal is no longer open.
    """
    proposals = {**state.proposals, proposal.offset: replace(proposal, record=None, outcome=outcome, end=end)}
    # The first signature of a version can be sent again after a withdrawal, so there can be any number of these.
    ended = sorted((one.end, one.offset) for one in proposals.values() if one.outcome in {"withdrawn", "superseded"})
    for _, offset in ended[:-MAX_WITHDRAWN]:
        del proposals[offset]
    return replace(state, proposals=proposals)


def supersede(state: AdminState, end: int, *kinds: Kind) -> AdminState:
    """End open proposals that another version makes impossible.

    Args:
        state: the state before.
        end: the offset of that version's record.
        kinds: which proposals to end.

    Returns:
        The state without them.
    """
    for kind in kinds:
        if (proposal := state.open_proposal(kind)) is not None:
            state = close(state, proposal, "superseded", end)
    return state


def check_replacement(state: AdminState, bootstrap: Bootstrap) -> None:
    """Refuse a bootstrap that may not replace the previous one.

    Args:
        state: the state before the bootstrap.
        bootstrap: the new one.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    if (before := state.bootstrap) is None:
        return
    if not bootstrap.replace:
        raise InvalidBootstrapError("the repository had been bootstrapped already")
    if state.begun:
        raise InvalidBootstrapError("the bootstrap can no longer be replaced: its first root is published, or about to be")
    if before.rules == FIRST_RULES and before.settings.number_of_bins != bootstrap.settings.number_of_bins:
        # Under those rules, bins were created and the inbox's events assigned to partitions before the first root was published.
        raise InvalidBootstrapError(
            f"the previous bootstrap has {before.settings.number_of_bins} bins, which may be on the log already: use the same number"
        )
    if before.rules == FIRST_RULES and before.settings.partition_bits != bootstrap.settings.partition_bits:
        raise InvalidBootstrapError("the previous bootstrap assigns its bins to partitions by another rule: post that bootstrap again")


def begin(state: AdminState, bootstrap: Bootstrap, offset: int, now: datetime) -> AdminState:
    """Accept a bootstrap, unless clients would refuse it, it could never be published, or it may not replace an earlier one.

    Args:
        state: the state before the record.
        bootstrap: the record's content.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    check_replacement(state, bootstrap)
    rules.check_bootstrap(bootstrap, now)
    check_delegations(bootstrap)
    refused = dict(state.refused)
    if state.bootstrap is not None:
        refused[state.bootstrap_offset] = "another bootstrap has replaced it"
    submitted = bootstrap.targets
    return replace(
        supersede(state, offset, "bootstrap", "root", "targets"),
        bootstrap=bootstrap,
        bootstrap_offset=offset,
        roots=(Submitted(offset, bootstrap.root, roles.parse(Root, bootstrap.root).signed),),
        targets=() if submitted is None else (Submitted(offset, submitted, roles.parse(Targets, submitted).signed),),
        targets_reach=0,
        profile=rules.profile_of(bootstrap),
        refused=refused,
        unreadable={},
        lifetimes={},
        lifetime_changes={},
        renew_since={},
        renewals={},
        routing=first_routing(bootstrap, offset),
    )


def update(state: AdminState, content: NewMetadata, offset: int, now: datetime) -> AdminState:
    """Accept a version of root or targets, unless clients would refuse it, or it could never be published.

    Args:
        state: the state before the record.
        content: the record's content.
        offset: the record's offset in ``admin``.
        now: a time with a time zone.

    Returns:
        The state after the record.

    Raises:
        InvalidUpdateError: with the reason and what to do.
    """
    (version,) = signable(state, content, now)
    try:
        version.verify()
    except MetadataError as error:
        raise InvalidUpdateError(str(error)) from error
    unreadable = {role: reason for role, reason in state.unreadable.items() if role != content.role}
    state = replace(supersede(state, offset, content.role), unreadable=unreadable)
    if isinstance(version.signed, Root):
        return _reaching(replace(state, roots=(*state.roots, Submitted(offset, content.metadata, version.signed, content.skip_overlap))))
    if state.bootstrap is not None and state.routing is not None and changes_custom(state, version.signed):
        if content.v < DELEGATIONS_SCHEMA:
            raise InvalidUpdateError(f"targets with other custom roles must have schema version {DELEGATIONS_SCHEMA}, not {content.v}")
        routing = routed_from(state.routing, offset, content.ends, read_custom(version.signed), state.bootstrap.settings)
        state = replace(state, routing=routing)
    return _reaching(replace(state, targets=(*state.targets, Submitted(offset, content.metadata, version.signed, content.skip_overlap))))
