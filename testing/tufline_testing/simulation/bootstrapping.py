"""People who bootstrap the repository of a schedule, and replace its online key.

In some schedules another bootstrap comes first, and is replaced at a random moment; the replacement has no effect once the first has
started. In half of these the first one's key is lost, so that it can't start.
"""

import random
from datetime import datetime
from pathlib import Path

import msgspec

from tufline import records
from tufline.bus import Bus
from tufline.records import CURRENT_RULES, Bootstrap, NewMetadata, topics
from tufline_testing.log import DEFAULT_DAYS, admin_state, announce_bootstrap, read_all
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.simulation.machine import START

BINS = (4, 8, 16)

CONTESTED = 1 / 6
"""The share of schedules in which another bootstrap comes first."""

CONTEST = 0.2
"""How often the other bootstrap is replaced, while that is possible."""

FIRST_KEY_FILE = "first.pem"

DAYS = {"timestamp": 7, "snapshot": 14, "bins": 14}
"""Longer than any process is down in a schedule, so that every expiry is a fault."""

SCHEME = "ed25519"
"""The scheme of all keys. Its signatures depend only on key and content, while those of ECDSA differ each time."""


class Bootstrapping:
    """The bootstraps of a schedule, and the versions of root and targets with another online key.

    Attributes:
        offline: the keys of the bootstrap that is valid, as far as is known.
        bootstrap: that bootstrap.
    """

    def __init__(self, seed: int, chance: random.Random, keys: Path, mode: str, partitions: int, *, by_hash: bool) -> None:
        """Make the keys and the bootstrap of a schedule; and, in some schedules, those of the bootstrap that comes before it.

        Args:
            seed: seed of the schedule.
            chance: decides what all schedules have.
            keys: the signer's key directory.
            mode: ``pep458`` or ``rstuf``.
            partitions: how many partitions ``artifacts`` has.
            by_hash: whether the partition of a path follows from its hash, or from the first rule.
        """
        self._keys, self._mode, self._partitions, self._by_hash = keys, mode, partitions, by_hash
        self.offline = self._hold(chance.choice(BINS))
        self.bootstrap: Bootstrap = self.offline.bootstrap(partitions, by_hash=by_hash)
        # It has its own source of randomness, so that the other schedules stay as they were.
        self._contest = random.Random(f"{seed} contested")
        self._first = self._make_first() if self._contest.random() < CONTESTED else None
        self._updates: list[NewMetadata] = []

    def _hold(self, bins: int, key_file: str = "") -> Offline:
        days = DEFAULT_DAYS | DAYS
        return Offline(self._keys, bins=bins, mode=self._mode, days=days, key_file=key_file, scheme=SCHEME, now=START)

    def _make_first(self) -> Offline:
        first = self._hold(self._contest.choice(BINS), FIRST_KEY_FILE)
        if self._contest.random() < 0.5:
            (self._keys / FIRST_KEY_FILE).unlink()
        self.bootstrap = msgspec.structs.replace(self.bootstrap, replace=True, rules=CURRENT_RULES)
        return first

    async def begin(self, bus: Bus) -> None:
        """Announce a bootstrap, unless there is one."""
        if await bus.end(topics.ADMIN, 0) == 0:
            first = None if self._first is None else self._first.bootstrap(self._partitions, by_hash=self._by_hash)
            await announce_bootstrap(bus, self.bootstrap if first is None else msgspec.structs.replace(first, rules=CURRENT_RULES))

    async def has_begun(self, bus: Bus) -> bool:
        """Return whether a bootstrap has started, and remember it; before that, neither artifacts nor metadata can be announced."""
        if self._first is None:
            return True
        state = await admin_state(bus)
        if not state.begun:
            return False
        assert state.bootstrap is not None
        if state.bootstrap != self.bootstrap:
            self.offline, self.bootstrap = self._first, state.bootstrap
        self._first = None
        return True

    async def contest(self, bus: Bus) -> bool:
        """Perhaps replace the bootstrap that came first; return whether it was tried."""
        if self._first is None or self._contest.random() >= CONTEST:
            return False
        await announce_bootstrap(bus, self.bootstrap)
        return True

    async def finish(self, bus: Bus) -> None:
        """Announce what may be missing: a bootstrap, and the updates that were not acknowledged."""
        await self.begin(bus)
        if not await self.has_begun(bus):
            await announce_bootstrap(bus, self.bootstrap)
        await self._announce_updates(bus)

    async def rotate(self, bus: Bus, now: datetime) -> None:
        """Replace the online key."""
        self._updates += self.offline.rotate(now=now)
        await self._announce_updates(bus)

    async def _announce_updates(self, bus: Bus) -> None:
        # An update that was not acknowledged may be on the log; if it is not, updates that built on it were refused.
        given = [records.decode(records.admin_decoder, record.value) for record in await read_all(bus, topics.ADMIN)]
        missing = next((number for number, update in enumerate(self._updates) if update not in given), len(self._updates))
        if missing < len(self._updates):
            await announce_updates(bus, self._updates[missing:])
