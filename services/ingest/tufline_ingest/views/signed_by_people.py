"""What waits for people to sign custom roles: the next versions, and the changes that these have. Derived from ``heads``.

In: the records of ``heads``. Out: which versions wait, by whose signatures; which changes a version has; and the bytes to sign, made again
from the version before, the pending changes and the delegations, as the signer made them.
"""

from collections.abc import Sequence
from typing import Final

from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.metadata.delegations import Delegations
from tufline.records import Head, Pending, Proposed
from tufline.records.heads import PROPOSED_PREFIX
from tufline.records.routing import Routing
from tufline.trust.delegated import keys_of
from tufline.trust.offline_roles import PendingChange, kept_since, missing, next_content
from tufline.trust.signing import Missing
from tufline_ingest.errors import NotNowError

VERSIONS_KEPT: Final = 8
"""How many versions of a role are remembered with the changes that they have: the signer may be so many ahead of the origin."""


class SignedByPeople:
    """The custom roles that people sign, and what waits for them."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._slots: dict[tuple[int, str], Pending] = {}
        self._of_role: dict[str, dict[tuple[int, str], Pending]] = {}
        self._proposed: dict[str, Proposed] = {}
        self._applied: dict[str, dict[int, int]] = {}

    def take(self, partition: int, key: str, content: object) -> None:
        """Apply a record of ``heads``.

        Args:
            partition: its partition.
            key: its key.
            content: the record, decoded.
        """
        match content:
            case Pending() as pending:
                place = partition, key
                if (before := self._slots.pop(place, None)) is not None:
                    del self._of_role[before.role][place]
                if pending.role:
                    self._slots[place] = pending
                    self._of_role.setdefault(pending.role, {})[place] = pending
            case Proposed() as proposed:
                self._proposed[key.removeprefix(PROPOSED_PREFIX)] = proposed
            case Head(admin=admin) as head if admin:  # a custom role
                known = self._applied.setdefault(key, {})
                known[head.version] = head.applied
                if len(known) > VERSIONS_KEPT:
                    del known[min(known)]
            case _:
                pass

    def proposed(self, role: str) -> Proposed | None:
        """Return the version of a role that waits for signatures; None if none does.

        Args:
            role: its name.
        """
        found = self._proposed.get(role)
        return found if found is not None and found.version else None

    def waiting(self, delegations: Delegations) -> list[str]:
        """Return the roles of which a version waits, sorted.

        Args:
            delegations: the newest delegations.
        """
        return sorted(role for role in delegations.offline if self.proposed(role) is not None)

    def missing(self, role: str, delegations: Delegations) -> Missing | None:
        """Return the signatures that a role's next version needs; None if no version waits, or people do not sign the role.

        Args:
            role: its name.
            delegations: the newest delegations.
        """
        proposed, delegation = self.proposed(role), delegations.find(role)
        if proposed is None or delegation is None or role not in delegations.offline:
            return None
        return missing(proposed, keys_of(delegation, delegations))

    def describe(self, role: str, delegations: Delegations) -> str:
        """Return what a role waits for, for people.

        Args:
            role: its name.
            delegations: the newest delegations.
        """
        found, proposed = self.missing(role, delegations), self.proposed(role)
        if found is None or proposed is None:
            return f"{role} is about to be published"
        return f"{role} version {proposed.version} waits for the signatures of {found}: GET /api/v1/metadata/sign"

    def has_live(self, role: str, offset: int, published: int) -> bool:
        """Return whether a change of a role is live, or has no effect any more.

        Args:
            role: its name.
            offset: an offset in ``artifacts``: that of the change's record.
            published: the version of the role that is published; 0 if none is.
        """
        known = self._applied.get(role, {})
        if offset < known.get(published, 0):
            return True
        return self.proposed(role) is None and published == max(known, default=0)

    def has_pending(self, partition: int, first: int, last: int) -> bool:
        """Return whether changes between two offsets wait for people.

        Args:
            partition: of ``artifacts``.
            first: the first offset.
            last: the last offset.
        """
        return any(where == partition and first <= one.offset <= last for (where, _), one in self._slots.items())

    def changes(self, role: str, end: int) -> list[PendingChange]:
        """Return the pending changes of a role.

        Args:
            role: its name.
            end: an offset in ``artifacts``; only changes below it count.
        """
        return [
            PendingChange(one.offset, one.index, one.role, one.path, None if one.entry is None else one.entry.encode())
            for one in self._of_role.get(role, {}).values()
            if one.offset < end
        ]


def make(role: str, proposed: Proposed, base: bytes | None, changes: Sequence[PendingChange], routing: Routing) -> bytes:
    """Make the bytes of a version that waits for signatures.

    Args:
        role: the role's name.
        proposed: the version.
        base: the file of the version that it follows; None if there is none.
        changes: the pending changes that it has.
        routing: has the versions of the delegations.

    Returns:
        The bytes to sign.

    Raises:
        NotNowError: if not all of it has been read yet.
    """
    content = Bin() if base is None else Bin.decode(envelope.disassemble(base).signed)
    kept = kept_since(routing.versions, role, proposed.since, proposed.admin)
    signed = next_content(content, kept, changes).encode(proposed.version, proposed.expires)
    if envelope.sha256(signed) != proposed.sha256:
        raise NotNowError(f"the next version of {role} is being made")
    return signed
