"""People who bootstrap the repository of a schedule.

In some schedules another bootstrap comes first, and is replaced at a random moment; the replacement has no effect once the first has
started. In half of these the first one's key is lost, so that it can't start. In some schedules the bootstrap arrives with too few
signatures, and the others come one by one (``governing``).
"""

import random
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner

from tufline.bus import Bus
from tufline.records import CURRENT_RULES, SIGNING_SCHEMA, Bootstrap, topics
from tufline_testing.log import DEFAULT_DAYS, admin_state, announce_bootstrap
from tufline_testing.offline import Offline
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
    """The bootstraps of a schedule.

    Attributes:
        offline: the keys of the bootstrap that is valid, as far as is known.
        bootstrap: that bootstrap.
        signers: the offline keys of all bootstraps: keyid to the signer that has the private key.
    """

    def __init__(
        self, seed: int, chance: random.Random, keys: Path, mode: str, partitions: int, *, by_hash: bool, signing: random.Random | None
    ) -> None:
        """Make the keys and the bootstrap of a schedule; and, in some schedules, those of the bootstrap that comes before it.

        Args:
            seed: seed of the schedule.
            chance: decides what all schedules have.
            keys: the signer's key directory.
            mode: ``pep458`` or ``rstuf``.
            partitions: how many partitions ``artifacts`` has.
            by_hash: whether the partition of a path follows from its hash, or from the first rule.
            signing: decides which signatures the bootstrap arrives with; None if it always has all of them.
        """
        self._keys, self._mode, self._partitions, self._by_hash = keys, mode, partitions, by_hash
        self.offline = self._hold(chance.choice(BINS))
        self.bootstrap: Bootstrap = self.offline.bootstrap(partitions, by_hash=by_hash)
        # It has its own source of randomness, so that the other schedules stay as they were.
        self._contest = random.Random(f"{seed} contested")
        self._first = self._make_first() if self._contest.random() < CONTESTED else None
        self._signing = signing
        self._is_uncertain = self._first is not None or signing is not None
        self.signers: dict[str, CryptoSigner] = self.offline.signers | ({} if self._first is None else self._first.signers)

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
        if await bus.end(topics.ADMIN, 0) > 0:
            return
        if self._first is None:
            await self.announce(bus)
        else:
            first = self._first.bootstrap(self._partitions, by_hash=self._by_hash)
            await announce_bootstrap(bus, msgspec.structs.replace(first, rules=CURRENT_RULES))

    async def announce(self, bus: Bus) -> None:
        """Announce the bootstrap that is meant, perhaps with too few signatures."""
        incomplete = None if self._signing is None else _drop_signatures(self.bootstrap, self._signing)
        await announce_bootstrap(bus, incomplete or self.bootstrap)

    async def has_begun(self, bus: Bus) -> bool:
        """Return whether the valid bootstrap is known, and remember it; before that, neither artifacts nor metadata can be announced."""
        if not self._is_uncertain:
            return True
        state = await admin_state(bus)
        if state.bootstrap is None or (self._first is not None and not state.begun):
            return False
        if self._first is not None and state.bootstrap.root["signed"] != self.bootstrap.root["signed"]:
            self.offline, self.bootstrap = self._first, state.bootstrap
        self._first, self._is_uncertain = None, False
        return True

    async def contest(self, bus: Bus) -> bool:
        """Perhaps replace the bootstrap that came first; return whether it was tried."""
        if self._first is None or self._contest.random() >= CONTEST:
            return False
        await self.announce(bus)
        return True

    async def finish(self, bus: Bus) -> None:
        """Announce the bootstrap with all signatures, unless one has started."""
        await self.begin(bus)
        if not await self.has_begun(bus):
            await announce_bootstrap(bus, self.bootstrap)


def _drop_signatures(bootstrap: Bootstrap, chance: random.Random) -> Bootstrap:
    """Return a bootstrap that waits for signatures: a key of root has signed its root, and perhaps one of targets its targets."""

    def with_some(metadata: dict[str, Any], count: int) -> dict[str, Any]:
        return {**metadata, "signatures": chance.sample(metadata["signatures"], count)}

    return msgspec.structs.replace(
        bootstrap,
        root=with_some(bootstrap.root, 1),
        targets=None if bootstrap.targets is None else with_some(bootstrap.targets, chance.randrange(2)),
        signing=True,
        v=max(bootstrap.v, SIGNING_SCHEMA),
    )
