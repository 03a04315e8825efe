"""The custom roles of one partition: follows the delegations, and renews the roles.

In: versions of the delegations (``tufline.records.routing``), and renewals that are due. Out: custom roles that were added, empty; those
that lost paths, without the artifacts of these; and new versions of those that approach their expiry. A role whose keys can't be used does
not keep the others waiting: health names it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import structlog

from tufline.errors import KeyUnavailableError
from tufline.metadata.bins import Bin
from tufline.metadata.delegations import Delegation
from tufline.records.routing import Routing
from tufline.runtime.turns import Turns
from tufline.trust.roles import BINS
from tufline_signer import metrics
from tufline_signer.bins.bins_log import BinsLog, SignedBin
from tufline_signer.bins.bins_signing import BinsSigning
from tufline_signer.bins.context import part
from tufline_signer.bins.held import HeldChanges
from tufline_signer.bins.signed_by_people import SignedByPeople
from tufline_signer.context import SignerContext
from tufline_signer.signing.key_selection import newest_keys_of_custom

ROLE_BYTES: Final = 1_000
"""The work of a look at a custom role, in bytes of JSON that take as long (``tufline.runtime.turns``)."""

NO_KEY: Final = (
    "the custom role {0} can't be signed: {1}; correct its keys (PUT /api/v1/delegations, or tufline delegations update {0}), or delete it"
)

NO_NEW_KEY: Final = (
    "the custom role {0} keeps its previous keys, because it can't be signed with its new ones: {1}; put the key there, or name another "
    "one (PUT /api/v1/delegations, or tufline delegations update {0})"
)

_log = structlog.get_logger(__name__)


class CustomRoles:
    """The custom roles of one partition, after its takeover."""

    def __init__(self, context: SignerContext, bins: BinsLog, held: HeldChanges, signing: BinsSigning, people: SignedByPeople) -> None:
        """Start with the state read from the log.

        Args:
            context: shared by the workers of the process.
            bins: the bins and custom roles of the partition.
            held: the held changes of the partition.
            signing: signs them.
            people: the roles that people sign instead.
        """
        self._people = people
        self._context = context
        self._bins = bins
        self._held = held
        self._signing = signing
        self._unsigned: set[str] = set()
        self._followed: Routing | None = None

    @property
    def _routing(self) -> Routing:
        return self._context.admin.repository.routing

    def _is_to_create(self, role: str, routing: Routing) -> bool:
        """Return whether a custom role has no version yet, or none since it was added again."""
        added, head = routing.added(role), self._bins.heads.get(role)
        return added != math.inf and (head is None or head.admin <= added)

    def _is_to_drop(self, role: str, routing: Routing) -> bool:
        """Return whether a custom role has lost paths since its newest version."""
        head = self._bins.heads.get(role)
        if head is None or routing.added(role) == math.inf:
            return False
        return any(not {*before.paths} <= {*after.paths} for before, after in pairwise(routing.since(role, head.admin)))

    async def follow(self, routing: Routing) -> None:
        """Follow the delegations: create the custom roles of this partition that do not exist yet, and drop what others have lost.

        A role that can't be signed does not keep the others waiting.

        Args:
            routing: the routing by the newest version of the delegations.
        """
        if routing is self._followed and not self._bins.behind:
            return
        create: list[str] = []
        drop: list[str] = []
        turns = Turns()
        for role in routing.custom_in(self._bins.partition):
            await turns.take(ROLE_BYTES)
            if self._people.has(role):
                continue
            if self._is_to_create(role, routing):
                create.append(role)
            elif self._is_to_drop(role, routing):
                drop.append(role)
        for role in [role for role in self._unsigned if routing.added(role) == math.inf]:
            self._can_be_signed(role)
        self._followed, self._bins.behind = routing, {*create, *drop}
        self._bins.followed = routing.versions[-1].offset + 1 if routing.versions else 0
        for role in create:
            if signed := await self._try_to_sign(role, Bin()):
                self._bins.behind.discard(role)
                await self._bins.commit(signed, self._held.take_touched(), applied=int(routing.begins(role, self._bins.partition)))
                _log.info("bins.custom_role_created", partition=self._bins.partition, role=role, version=self._bins.heads[role].version)
        await self._people.follow()
        for role in drop:
            await self._drop_lost(role, routing.since(role, self._bins.heads[role].admin)[1:])

    async def _drop_lost(self, role: str, since: Sequence[Delegation]) -> None:
        """Drop the artifacts that a custom role has lost, also held ones: they must not come back if it gets their paths again."""
        (content,) = (await self._bins.load([role])).values()

        def is_lost(path: str) -> bool:
            return not all(delegation.matches(path) for delegation in since)

        content.keep(lambda path: not is_lost(path))
        if signed := await self._try_to_sign(role, content):
            for change in self._held.of(role):
                if is_lost(change.path):
                    self._held.drop(role, change.path)
            self._bins.behind.discard(role)
            await self._bins.commit(signed, self._held.take_touched())

    async def _try_to_sign(self, role: str, content: Bin | None = None) -> list[SignedBin]:
        """Sign a custom role: with other content, or again. If its keys can't be used, health says so, and the result is empty."""
        if role in self._unsigned and not await self._signing.usable(role):
            return []
        try:
            signed = await self._signing.sign(await self._bins.load([role]) if content is None else {role: content})
        except KeyUnavailableError as error:
            self._unsigned.add(role)
            self._context.health.problem(f"{part(self._bins.partition)}.{role}", NO_KEY.format(role, error))
            return []
        await self._report_new_keys(role)
        return signed

    async def _report_new_keys(self, role: str) -> None:
        """Report a custom role that waits for its newest keys, which can't be used; its previous keys sign it meanwhile."""
        keys, keyring = newest_keys_of_custom(self._context.admin.repository, role), self._context.keyring
        signed_by = self._bins.heads[role].keyids if role in self._bins.heads else []
        if keys is None or keys.are_met_by(signed_by) or await keyring.can_meet(keys, part(self._bins.partition)):
            self._can_be_signed(role)
        else:
            self._unsigned.add(role)
            self._context.health.problem(f"{part(self._bins.partition)}.{role}", NO_NEW_KEY.format(role, keyring.why_not(keys)))

    def _can_be_signed(self, role: str) -> None:
        """Stop reporting that a custom role can't be signed, or no longer has to be."""
        self._unsigned.discard(role)
        self._context.health.gone(f"{part(self._bins.partition)}.{role}")

    async def renew(self) -> None:
        """Sign the custom roles that are due again. One that can't be signed does not keep the others waiting."""
        now, since = self._context.clock.latest(), self._context.admin.repository.renew_since.get(BINS, 0)
        turns = Turns()
        for role in self._routing.custom_in(self._bins.partition):
            await turns.take(ROLE_BYTES)
            head = self._bins.heads.get(role)
            if head is None or role in self._bins.behind or self._people.has(role) or self._routing.added(role) == math.inf:
                continue
            if (
                head.offset >= since
                and self._signing.renewal(role, head, now, await self._signing.usable(role), self._signing.lifetime(role)) > now
            ):
                await self._report_new_keys(role)
                continue
            if signed := await self._try_to_sign(role):
                await self._bins.commit(signed, self._held.take_touched())
                metrics.renewals.inc()

    def leave(self) -> None:
        """Stop reporting: from here on another worker may have the partition."""
        for role in [*self._unsigned]:
            self._can_be_signed(role)
