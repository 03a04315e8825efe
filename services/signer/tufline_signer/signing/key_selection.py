"""Which keys sign a new version of a role, so that it verifies under the root and targets that are shown and under those to come.

A version of root or targets that people gave (``tufline.trust.admin_state``) is not shown at once. Until all that it governs verifies under
it, new versions of those roles are signed with the keys of both; then it is released. After that the keys of the root before still sign
timestamp and snapshot for a grace time: a cache may go on saying that there is no newer root. So one rule serves every change of
a key, of whatever role, and clients are never locked out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.follow import follow
from tufline.clock import in_milliseconds, moment_of
from tufline.records import Head, topics
from tufline.runtime.passed_over import PassedOver
from tufline.trust import rules
from tufline.trust.admin_state import AdminState, Submitted
from tufline.trust.rules import RoleKeys, SignedRole


@dataclass(slots=True)
class _Later:
    """The versions of a role that were made when the grace time of a root, counted from the release of the next one, was over.

    Attributes:
        first: when the first of them was made, in milliseconds.
        keyids: of the keys that signed all of them.
    """

    first: int
    keyids: set[str]


class Released:
    """Which versions of root and targets have been released, as the log says it."""

    def __init__(self, bus: Bus, grace: timedelta, passed: PassedOver) -> None:
        """Know nothing yet.

        Args:
            bus: to follow the last partition of ``heads`` on.
            grace: how long a root still counts after the next one was shown, as a cache may say that there is none.
            passed: takes the heads that can't be read.
        """
        self._bus = bus
        self._passed = passed
        self._began = asyncio.get_running_loop().time()
        self._grace = in_milliseconds(grace.total_seconds())
        self.root = 0
        """Version; 0 before the first."""
        self.targets = 0
        """Version; 0 before the first."""
        self._released_at: dict[int, int] = {}
        self._later: dict[tuple[int, str], _Later] = {}
        self.known = asyncio.Event()
        """Set once all of it has been read that was on the log in the beginning."""

    async def run(self) -> None:
        """Follow the log, for ever."""
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
        """Say whether a cache may still say that there is no root after one that is no longer shown.

        Args:
            root: its version.
            role: to be signed.
            keys: of the role in that root.
            now: with a time zone; not later than it is.
        """
        next_version = min((version for version in self._released_at if version > root), default=0)
        if not next_version:
            return False
        # While no signer ran, no publisher may have run either: what is released begins to count when one runs.
        runs_for = asyncio.get_running_loop().time() - self._began
        began = in_milliseconds(now.timestamp() - runs_for)
        since = max(self._released_at[next_version], began)
        if later := self._later.get((next_version, role)):
            if not keys.are_met_by(later.keyids):
                return False  # it was over before, and a key that signed no more does not begin again
            # One ran then: this one's beginning does not count.
            since = max(self._released_at[next_version], min(began, later.first))
        return now < moment_of(since + self._grace)


def _distinct(every: Sequence[RoleKeys]) -> list[RoleKeys]:
    found: list[RoleKeys] = []
    for keys in every:
        if not any(keys.keys.keys() == known.keys.keys() and keys.threshold <= known.threshold for known in found):
            found.append(keys)
    return found


def _to_sign_under(given: tuple[Submitted[SignedRole], ...], shown: int) -> list[Submitted[SignedRole]]:
    """Choose the versions under which what is made now must verify.

    Args:
        given: all versions.
        shown: the one that is shown; 0 for the first.

    Returns:
        First the one that must be met: the shown one, or a later one that says that the keys before it are lost. Then the others from the
        shown one on, which are met as far as their keys can be used.
    """
    later = [one for one in given if one.signed.version >= shown]
    must = next((one for one in reversed(later) if one.skip_overlap), later[0])
    later.remove(must)
    later.insert(0, must)
    return later


def keys_of_role(state: AdminState, released: Released, role: str, now: datetime) -> list[RoleKeys]:
    """Say under which keys a new version of timestamp, snapshot or online targets is to verify.

    Args:
        state: folded from ``admin``; bootstrapped.
        released: what is shown.
        role: its name.
        now: with a time zone.

    Returns:
        First those that must be met; the others are met as far as their keys can be used.
    """
    under = [rules.root_keys(given.signed, role) for given in _to_sign_under(state.roots, released.root)]
    before = [(given.signed.version, rules.root_keys(given.signed, role)) for given in state.roots if given.signed.version < released.root]
    under += [keys for version, keys in before if released.is_in_grace(version, role, keys, now)]
    return _distinct(under)


def keys_of_bins(state: AdminState, released: Released) -> list[RoleKeys]:
    """Say under which keys a new version of a bin is to verify.

    Args:
        state: folded from ``admin``; bootstrapped.
        released: what is shown.

    Returns:
        As ``keys_of_role``.
    """
    if not state.targets:
        # The signer makes targets, and delegates to the keys that root has for that (trust.make_targets).
        return _distinct([rules.online_bin_keys(given.signed) for given in _to_sign_under(state.roots, released.root)])
    return _distinct([rules.bin_keys(given.signed) for given in _to_sign_under(state.targets, released.targets)])
