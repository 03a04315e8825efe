"""The state that the records of ``admin`` add up to: the bootstrap, and the versions of root and targets that people submitted since.

Every service folds the same records in the same order, and uses the records' times, so that all reach the same state whenever they read it.
A version that is accepted here is not published yet: the signer releases it once everything that it governs verifies under it, so that no
client ever fails. No I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic

from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.bus import Record
from tufline.clock import moment_of
from tufline.errors import (
    InvalidBootstrapError,
    InvalidInputError,
    InvalidUpdateError,
    MetadataError,
    RecordError,
    SchemaError,
    UnreadableMetadataError,
)
from tufline.metadata.profiles import STANDARD, Profile
from tufline.records import FIRST_RULES, AcceptedLoss, Begun, Bootstrap, NewMetadata, Settings
from tufline.trust import rules
from tufline.trust.rules import SignedRole


@dataclass(frozen=True, slots=True)
class Submitted(Generic[SignedRole]):
    """A version of root or targets that people signed.

    Attributes:
        offset: the offset of its record in ``admin``.
        metadata: the object, ``{"signatures": […], "signed": {…}}``.
        signed: its signed part, parsed.
        skip_overlap: see ``NewMetadata``.
    """

    offset: int
    metadata: Mapping[str, Any]
    signed: SignedRole
    skip_overlap: bool = False

    def verifies_under(self, root: Root) -> bool:
        """Return whether enough keys of a root signed this version.

        Args:
            root: the root whose keys and threshold count.
        """
        role = type(self.signed)
        try:
            rules.verified(role, self.metadata, rules.root_keys(root, role.type))
        except MetadataError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class AdminState:
    """The state after all records of ``admin`` below an offset.

    Attributes:
        next_offset: the offset of the next record to apply.
        bootstrap: the accepted bootstrap; None if there is none yet.
        bootstrap_offset: the offset of its record in ``admin``; -1 if there is none yet.
        begun: whether its first root is published, or about to be, so that the bootstrap can't be replaced any more.
        roots: the versions of root, starting with the bootstrap's; each version is one higher than the previous one.
        targets: the same for top-level targets; empty if targets is signed online.
        refused: offset of each refused record to the reason.
        losses: topic and partition to the offset below which the loss of records is accepted (``tufline.views.lost_input``).
        unreadable: role (or ``bootstrap``) to the reason why its last record could never be published, although older rules accept it; kept
            until a record follows that can be published.
        profile: the clients that must be able to read the repository.
    """

    next_offset: int = 0
    bootstrap: Bootstrap | None = None
    bootstrap_offset: int = -1
    begun: bool = False
    roots: tuple[Submitted[Root], ...] = ()
    targets: tuple[Submitted[Targets], ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    losses: Mapping[tuple[str, int], int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = STANDARD

    @property
    def bootstrapped(self) -> "Bootstrapped | None":
        """The repository that the state is of; None before a bootstrap."""
        if self.bootstrap is None:
            return None
        return Bootstrapped(self.next_offset, self.bootstrap, self.bootstrap_offset, self.begun, self.roots, self.targets)


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The part of an ``AdminState`` that is there once a bootstrap counts. Who has one need not ask whether there is a repository.

    Attributes:
        next_offset: of the next record of ``admin`` to apply.
        bootstrap: the one that counts.
        bootstrap_offset: where its record is in ``admin``.
        begun: whether its first root is published, or about to be: it can't be replaced any more.
        roots: at least one, as in ``AdminState``.
        targets: as in ``AdminState``; none if they are online.
    """

    next_offset: int
    bootstrap: Bootstrap
    bootstrap_offset: int
    begun: bool
    roots: tuple[Submitted[Root], ...]
    targets: tuple[Submitted[Targets], ...]

    @property
    def settings(self) -> Settings:
        """What was settled at bootstrap."""
        return self.bootstrap.settings


def _check_version(role: str, found: int, newest: int) -> None:
    if found != newest + 1:
        raise InvalidUpdateError(f"{role} has version {found}, but the next version is {newest + 1}: sign that version")


def _check_root(state: AdminState, content: NewMetadata, now: datetime) -> Root:
    newest, metadata = state.roots[-1].signed, content.metadata
    root = rules.check_given(Root, metadata, now)
    _check_version(Root.type, root.version, newest.version)
    rules.check_root_roles(root, targets_online=not state.targets, rules=content.rules)
    rules.check_form(root, metadata, content.rules, state.profile, newest.keys)
    rules.verified(Root, metadata, rules.root_keys(newest, Root.type))
    rules.verified(Root, metadata, rules.root_keys(root, Root.type))
    return root


def _check_targets(state: AdminState, bootstrap: Bootstrap, content: NewMetadata, now: datetime) -> Targets:
    if not state.targets:
        raise InvalidUpdateError("targets is signed online here, by the signer: submit a root that names its new key instead")
    newest, metadata = state.targets[-1], content.metadata
    known = {keyid for root in state.roots for keyid in root.signed.keys}
    targets = rules.check_given(Targets, metadata, now)
    _check_version(Targets.type, targets.version, newest.signed.version)
    rules.check_bins(bootstrap.settings, targets, content.rules)
    rules.check_form(targets, metadata, content.rules, state.profile, known)
    # A pending root waits for targets that verify under it, so these targets must not in turn wait for that root.
    under = next(number for number in reversed(range(len(state.roots))) if newest.verifies_under(state.roots[number].signed))
    for root in state.roots[under:]:
        rules.verified(Targets, metadata, rules.root_keys(root.signed, Targets.type))
    return targets


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
    refused = dict(state.refused)
    if (before := state.bootstrap) is not None:
        if not bootstrap.replace:
            raise InvalidBootstrapError("the repository had been bootstrapped already")
        if state.begun:
            raise InvalidBootstrapError("the repository has begun: its first root is published, or about to be")
        if before.rules == FIRST_RULES and before.settings.number_of_bins != bootstrap.settings.number_of_bins:
            # Under those rules bins were made, and events of the inbox sorted by bin, before the first root was published.
            raise InvalidBootstrapError(
                f"the bootstrap to replace has {before.settings.number_of_bins} bins, which may be on the log already: use the same number"
            )
        if before.rules == FIRST_RULES and before.settings.partition_bits != bootstrap.settings.partition_bits:
            raise InvalidBootstrapError("the bootstrap to replace assigns its bins to partitions by another rule: post it again")
        refused[state.bootstrap_offset] = "another bootstrap has replaced it"
    rules.check_bootstrap(bootstrap, now)
    given = bootstrap.targets
    return replace(
        state,
        bootstrap=bootstrap,
        bootstrap_offset=offset,
        roots=(Submitted(offset, bootstrap.root, rules.parse(Root, bootstrap.root).signed),),
        targets=() if given is None else (Submitted(offset, given, rules.parse(Targets, given).signed),),
        profile=rules.profile_of(bootstrap),
        refused=refused,
        unreadable={},
    )


def _fix(state: AdminState, begun: Begun) -> AdminState:
    if begun.bootstrap != state.bootstrap_offset:
        raise InvalidBootstrapError(f"the bootstrap at the offset {begun.bootstrap} was replaced before its root was published")
    return replace(state, begun=True)


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
    if state.bootstrap is None:
        raise InvalidUpdateError("there is no repository yet")
    try:
        unreadable = {role: reason for role, reason in state.unreadable.items() if role != content.role}
        if content.role == Root.type:
            root = _check_root(state, content, now)
            roots = (*state.roots, Submitted(offset, content.metadata, root, content.skip_overlap))
            return replace(state, roots=roots, unreadable=unreadable)
        targets = (
            *state.targets,
            Submitted(offset, content.metadata, _check_targets(state, state.bootstrap, content, now), content.skip_overlap),
        )
        return replace(state, targets=targets, unreadable=unreadable)
    except InvalidUpdateError:
        raise
    except (InvalidInputError, MetadataError, ValueError) as error:
        raise InvalidUpdateError(str(error)) from error


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
    now = moment_of(record.time)
    try:
        match records.decode(records.admin_decoder, record.value):
            case Bootstrap() as bootstrap:
                return begin(state, bootstrap, record.offset, now)
            case Begun() as begun:
                return _fix(state, begun)
            case NewMetadata() as content:
                return update(state, content, record.offset, now)
            case AcceptedLoss(topic=topic, partition=partition, below=below):
                known = state.losses.get((topic, partition), 0)
                return replace(state, losses={**state.losses, (topic, partition): max(known, below)})
    except SchemaError:
        raise
    except (InvalidBootstrapError, InvalidUpdateError, RecordError) as error:
        state = replace(state, refused={**state.refused, record.offset: str(error)})
        if isinstance(error.__cause__, UnreadableMetadataError):
            state = replace(state, unreadable={**state.unreadable, record.key: str(error)})
        return state
