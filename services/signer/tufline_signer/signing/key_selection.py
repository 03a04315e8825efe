"""Which keys sign a new version of a role, so that it verifies under the current and the pending root and targets.

A submitted version of root or targets (``tufline.trust.admin_state``) is pending at first. Until everything that it governs verifies under
it, new versions of those roles are signed with the keys of both; then it is released. Afterwards the keys of the previous root still sign
timestamp and snapshot for a grace time, because a cache may still answer that there is no newer root. So one rule serves every key change
of every role, and clients are never locked out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from tuf.api.metadata import Root, Targets, Timestamp

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.follow import follow
from tufline.clock import in_milliseconds, moment_of
from tufline.records import Committed, Head, Vector, topics
from tufline.records.routing import AcceptedDelegations
from tufline.runtime.passed_over import PassedOver
from tufline.trust import roles
from tufline.trust.admin_state import Bootstrapped, Submitted
from tufline.trust.delegated import keys_of
from tufline.trust.roles import RoleKeys, SignedRole


@dataclass(slots=True)
class _Later:
    """The versions of a role made after a root's grace time, which starts with the release of the next root.

    Attributes:
        first: when the first of them was made, in milliseconds since 1970.
        keyids: keyids of the keys that signed all of them.
    """

    first: int
    keyids: set[str]


class Released:
    """The released versions of root and targets, according to the log."""

    def __init__(self, bus: Bus, grace: timedelta, passed: PassedOver) -> None:
        """Start without any version.

        Args:
            bus: the log, whose last partition of ``heads`` is followed.
            grace: how long the keys of a root still sign after the release of the next root, because a cache may hide the next one.
            passed: collects the heads that can't be decoded.
        """
        self._bus = bus
        self._passed = passed
        self._began = asyncio.get_running_loop().time()
        self._grace = in_milliseconds(grace.total_seconds())
        self.root = 0
        """Version of the released root; 0 before the first."""
        self.targets = 0
        """Version of the released targets; 0 before the first."""
        self.vector = Vector([], 0)
        """The vector of the newest commit."""
        self._released_at: dict[int, int] = {}
        self._later: dict[tuple[int, str], _Later] = {}
        self.known = asyncio.Event()
        """Set once everything that was on the log at the start has been read."""

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await follow(
            self._bus,
            topics.HEADS,
            topics.commit_partition(self._bus.partitions(topics.HEADS)),
            0,
            self._take,
            self.known.set,
            self._passed,
        )

    async def _take(self, batch: Sequence[Record]) -> None:
        for record in batch:
            head = self._passed.decode(records.heads_decoder, record)
            if isinstance(head, Committed):
                self.vector = head.vector
            if not isinstance(head, Head):
                continue
            if record.key == Targets.type:
                self.targets = head.version
            if record.key != Root.type:
                self._note(record.key, record.time, head.keyids)
            elif head.version > self.root:
                self.root, self._released_at[head.version] = head.version, record.time

    def _note(self, role: str, time: int, keyids: Sequence[str]) -> None:
        for version, at in self._released_at.items():
            if time >= at + self._grace:
                self._later.setdefault((version, role), _Later(time, set(keyids))).keyids.intersection_update(keyids)

    def is_in_grace(self, root: int, role: str, keys: RoleKeys, now: datetime) -> bool:
        """Return whether a replaced root is in its grace time: a cache may still hide the root after it.

        Args:
            root: version of the replaced root.
            role: the role to sign.
            keys: the role's keys in that root.
            now: a time with a time zone; not later than the true time.
        """
        next_version = min((version for version in self._released_at if version > root), default=0)
        if not next_version:
            return False
        # While no signer ran, perhaps no publisher ran either: the grace time starts only when a signer runs.
        runs_for = asyncio.get_running_loop().time() - self._began
        began = in_milliseconds(now.timestamp() - runs_for)
        since = max(self._released_at[next_version], began)
        if later := self._later.get((next_version, role)):
            if not keys.are_met_by(later.keyids):
                return False  # the grace time ended before, and a key that has stopped signing must not start again
            # Another signer ran by then, so the start of this one does not count.
            since = max(self._released_at[next_version], min(began, later.first))
        return now < moment_of(since + self._grace)


def _distinct(every: Sequence[RoleKeys]) -> list[RoleKeys]:
    found: list[RoleKeys] = []
    for keys in every:
        if not any(keys.keys.keys() == known.keys.keys() and keys.threshold <= known.threshold for known in found):
            found.append(keys)
    return found


def _to_sign_under(submitted: tuple[Submitted[SignedRole], ...], released_version: int) -> list[Submitted[SignedRole]]:
    """Choose the versions of root or targets under which new files must verify.

    Args:
        submitted: all submitted versions.
        released_version: the released version; 0 before the first.

    Returns:
        First the mandatory version: the released one, or, if later submissions declared the previous keys lost, the last of these. Then the
        other versions from the released one on, whose keys sign if they can be used.
    """
    later = [one for one in submitted if one.signed.version >= released_version]
    must = next((one for one in reversed(later) if one.skip_overlap), later[0])
    later.remove(must)
    later.insert(0, must)
    return later


def keys_of_role(repository: Bootstrapped, released: Released, role: str, now: datetime) -> list[RoleKeys]:
    """Return the keys under which a new version of timestamp, snapshot or online targets must verify.

    Args:
        repository: the repository, as folded from ``admin``.
        released: the released versions of root and targets.
        role: name of the role to sign.
        now: current time, with a time zone.

    Returns:
        First the mandatory keys; then the others, which sign if they can be used.
    """
    under = [roles.root_keys(submitted.signed, role) for submitted in _to_sign_under(repository.roots, released.root)]
    earlier = [submitted.signed for submitted in repository.roots if submitted.signed.version < released.root]
    before = [(root.version, roles.root_keys(root, role)) for root in earlier]
    under += [keys for version, keys in before if released.is_in_grace(version, role, keys, now)]
    return _distinct(under)


def roots_in_grace(repository: Bootstrapped, released: Released, now: datetime) -> list[Root]:
    """Return the replaced roots in their grace time, which clients may still have.

    Args:
        repository: the repository, as folded from ``admin``.
        released: the released versions of root and targets.
        now: current time, with a time zone.
    """
    earlier = [submitted.signed for submitted in repository.roots if submitted.signed.version < released.root]
    # The log has a timestamp of every day, by which a signer that starts again sees that a grace time has ended.
    role = Timestamp.type
    return [root for root in earlier if released.is_in_grace(root.version, role, roles.root_keys(root, role), now)]


def keys_of_bins(repository: Bootstrapped, released: Released) -> list[RoleKeys]:
    """Return the keys under which a new version of a bin must verify.

    Args:
        repository: the repository, as folded from ``admin``.
        released: the released versions of root and targets.

    Returns:
        As ``keys_of_role``.
    """
    if not repository.targets:
        # The signer makes targets, which delegate to the keys that root names for that (rules.make_targets).
        return _distinct([roles.online_bin_keys(submitted.signed) for submitted in _to_sign_under(repository.roots, released.root)])
    return _distinct([roles.bin_keys(submitted.signed) for submitted in _to_sign_under(repository.targets, released.targets)])


def newest_keys_of_custom(repository: Bootstrapped, role: str) -> RoleKeys | None:
    """Return the keys of its own that the newest delegations give a custom role.

    Args:
        repository: the repository, as folded from ``admin``.
        role: the name of a custom role.

    Returns:
        The keys; None if the keys of the bins sign it, or it was deleted.
    """
    newest = repository.routing.delegations
    delegation = newest.find(role)
    return keys_of(delegation, newest) if delegation is not None and delegation.keyids else None


def _first_named(versions: Sequence[AcceptedDelegations], vector: Vector, role: str) -> int:
    """Return the index of the version of the delegations from which on its keys for a role may be named by the released targets."""
    released = [version for version in versions if version.offset < vector.end]
    for number, (before, version) in enumerate(pairwise(released)):
        if version.offset in vector.waiting and before.delegations.find(role) != version.delegations.find(role):
            return number  # the role waits for this change
    return max(0, len(released) - 1)


def keys_of_custom(repository: Bootstrapped, released: Released, role: str) -> list[RoleKeys]:
    """Return the keys under which a new version of a custom role must verify.

    Args:
        repository: the repository, as folded from ``admin``.
        released: the released versions of root and targets.
        role: the name of a custom role.

    Returns:
        The keys by each version of the delegations from the one on by which the released targets names the role; those of the bins if no
        such version has the role, which was deleted while a change of it was about to be written.
    """
    of_bins = keys_of_bins(repository, released)
    found: list[RoleKeys] = []
    for version in repository.delegations[_first_named(repository.delegations, released.vector, role) :]:
        if (delegation := version.delegations.find(role)) is not None:
            found += [keys_of(delegation, version.delegations)] if delegation.keyids else of_bins
    return _distinct(found or of_bins)
