"""The state that the records of ``admin`` add up to: the bootstrap, versions of root and targets, publishes, and a freeze of changes.

``tufline.trust.admin_records`` applies the records. A version that is accepted here is not published yet: the signer releases it once
everything that it governs verifies under it, so that no client ever fails. No I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic

import msgspec
from tuf.api.metadata import Root, Targets

from tufline.errors import MetadataError
from tufline.metadata.profiles import STANDARD, Profile
from tufline.records import Bootstrap, Renewal, Settings
from tufline.records.routing import AcceptedDelegations, Routing
from tufline.trust import roles
from tufline.trust.roles import SignedRole
from tufline.trust.signing import Kind, Proposal

KEPT_PUBLISHES: Final = 200
"""How many of the newest publishes a state keeps. A worker that is further behind applies the older ones together with the oldest one
kept."""


@dataclass(frozen=True, slots=True)
class AcceptedPublish:
    """A publish: it releases the changes that were held when it was requested.

    Attributes:
        offset: the offset of its record in ``admin``.
        ends: for each partition of ``artifacts``, the offset below which held changes are released; never less than in the previous
            publish.
    """

    offset: int
    ends: tuple[int, ...]


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
            root: the root whose keys and threshold apply.
        """
        role = type(self.signed)
        try:
            roles.verified(role, self.metadata, roles.root_keys(root, role.type))
        except MetadataError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class ChangedLifetimes:
    """The result of a record with new lifetimes.

    Attributes:
        updated: the roles whose lifetime it changed.
        invalid: the other roles that it names.
    """

    updated: tuple[str, ...]
    invalid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdminState:
    """The state after all records of ``admin`` below an offset.

    Attributes:
        next_offset: the offset of the next record to apply.
        bootstrap: the accepted bootstrap; None if there is none yet.
        bootstrap_offset: the offset of its record in ``admin``; -1 if there is none yet.
        begun: whether its first root is published, or about to be, so that the bootstrap can no longer be replaced.
        roots: the versions of root, starting with the bootstrap's; each version is one higher than the previous one.
        targets: the same for top-level targets; empty if targets is signed online.
        targets_reach: the index in ``roots`` of the last root that can be released with the accepted targets; the root after it, if there
            is one, waits for targets that people sign with its keys.
        refused: offset of each refused record to the reason.
        proposals: offset to the version that was submitted there with too few signatures: all that are open or became complete, and the
            newest of those that were withdrawn.
        losses: topic and partition to the offset below which the loss of records is accepted (``tufline.views.lost_input``).
        unreadable: role (or ``bootstrap``) to the reason why its last record could never be published, although older rules accept it; kept
            until a record follows that can be published.
        profile: the clients that must be able to read the repository.
        lifetimes: role to its lifetime in days, for the roles whose lifetime was changed since the bootstrap.
        lifetime_changes: offset to the result of a record with new lifetimes; the newest ones.
        publishes: the newest publishes, in their order.
        frozen_since: since when changes of artifacts wait on the log; None if they are applied.
        renew_since: role to the offset in ``metadata`` at or above which its newest version must be (``Renewal``).
        renewals: offset to an accepted ``Renewal``; the newest ones.
        routing: how changes are routed to roles, by each version of the custom delegations; None before a bootstrap.
    """

    next_offset: int = 0
    bootstrap: Bootstrap | None = None
    bootstrap_offset: int = -1
    begun: bool = False
    roots: tuple[Submitted[Root], ...] = ()
    targets: tuple[Submitted[Targets], ...] = ()
    targets_reach: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)
    proposals: Mapping[int, Proposal] = field(default_factory=dict)
    losses: Mapping[tuple[str, int], int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = STANDARD
    lifetimes: Mapping[str, int] = field(default_factory=dict)
    lifetime_changes: Mapping[int, ChangedLifetimes] = field(default_factory=dict)
    publishes: tuple[AcceptedPublish, ...] = ()
    frozen_since: datetime | None = None
    renew_since: Mapping[str, int] = field(default_factory=dict)
    renewals: Mapping[int, Renewal] = field(default_factory=dict)
    routing: Routing | None = field(default=None, compare=False)

    def next_publish(self, offset: int) -> AcceptedPublish | None:
        """Return the oldest kept publish at or after an offset.

        Args:
            offset: in ``admin``; the publishes below it have been applied.

        Returns:
            The publish; None if there is none yet.
        """
        return next((publish for publish in self.publishes if publish.offset >= offset), None)

    @property
    def waiting_root(self) -> Submitted[Root] | None:
        """The first root that is released only once people sign new targets with its keys; None if no root waits for that."""
        following = self.targets_reach + 1
        return self.roots[following] if self.targets and following < len(self.roots) else None

    @property
    def bootstrapped(self) -> "Bootstrapped | None":
        """The same state with a bootstrap that is not None; None before a bootstrap."""
        if self.bootstrap is None or self.routing is None:
            return None
        return Bootstrapped(
            self.next_offset,
            self.bootstrap,
            self.bootstrap_offset,
            self.begun,
            self.roots,
            self.targets,
            self.lifetimes,
            self.renew_since,
            self.renewals,
            self.routing,
        )

    def open_proposal(self, *kinds: Kind) -> Proposal | None:
        """Return a proposal that waits for signatures.

        Args:
            kinds: the kinds of proposal to look for, in this order.

        Returns:
            The open proposal of the first of these kinds that has one; None if none has.
        """
        found = {proposal.kind: proposal for proposal in self.proposals.values() if proposal.record is not None}
        return next((found[kind] for kind in kinds if kind in found), None)


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The state of ``admin`` once a bootstrap is accepted, for code that would otherwise have to check whether there is a repository.

    Attributes:
        next_offset: the offset of the next record of ``admin`` to apply.
        bootstrap: the accepted bootstrap.
        bootstrap_offset: the offset of its record in ``admin``.
        begun: whether its first root is published, or about to be: it can no longer be replaced.
        roots: at least one, as in ``AdminState``.
        targets: as in ``AdminState``; none if they are online.
        lifetimes: as in ``AdminState``.
        renew_since: as in ``AdminState``.
        renewals: as in ``AdminState``.
        routing: as in ``AdminState``.
    """

    next_offset: int
    bootstrap: Bootstrap
    bootstrap_offset: int
    begun: bool
    roots: tuple[Submitted[Root], ...]
    targets: tuple[Submitted[Targets], ...]
    lifetimes: Mapping[str, int]
    renew_since: Mapping[str, int]
    renewals: Mapping[int, Renewal]
    routing: Routing

    @property
    def delegations(self) -> tuple[AcceptedDelegations, ...]:
        """The versions of the custom delegations, in the order of the log; none if there never were any."""
        return self.routing.versions

    @property
    def settings(self) -> Settings:
        """The settings from the bootstrap, with the lifetimes that apply now."""
        settings = self.bootstrap.settings
        if not self.lifetimes:
            return settings
        return msgspec.structs.replace(settings, expiration_days={**settings.expiration_days, **self.lifetimes})
