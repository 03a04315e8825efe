"""People who add, update and delete custom roles, as processes of ingest that may not have read the newest records of ``admin`` yet."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tufline.bus import Bus
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Settings, topics
from tufline.trust.admin_state import AdminState
from tufline_testing.log import admin_state, append_marks, delegate

NAMES = ("one", "two", "three")

PATHS = ("p/*", "p/1*", "p/*2", "q0/*", "q1/*", "q1/1*", "*/7", "*/2*")
"""The paths that a role may have."""

BEHIND = 0.3
"""How often a process has not read what is new in ``admin``."""

APART = 0.4
"""How often something else comes between the marks of a change of the delegations and its record."""

OWN_KEY = 0.4
"""How often a role gets a new key of its own."""


@dataclass
class Delegating:
    """What is known of the custom roles of a schedule.

    Attributes:
        chance: decides what is changed.
        new_key: makes a key that the signer can use, and returns its keyid and its object.
        state: the state of ``admin`` as it was last read.
        seen_at: for each version of the delegations, by its offset in ``admin``, ends of the partitions that were read after it was there.
    """

    chance: random.Random
    new_key: Callable[[], tuple[str, dict[str, Any]]]
    state: AdminState = field(default_factory=AdminState)
    seen_at: dict[int, Sequence[int]] = field(default_factory=dict)

    async def known(self, bus: Bus) -> AdminState:
        """Return the state of ``admin`` by which a process routes, which may be an earlier one."""
        if not self.state.begun or self.chance.random() >= BEHIND:
            await self.read(bus)
        return self.state

    async def read(self, bus: Bus) -> None:
        """Read what is new in ``admin``."""
        self.state = await admin_state(bus, self.state)
        new = (
            [version.offset for version in self.state.routing.versions if version.offset not in self.seen_at] if self.state.routing else []
        )
        if new:
            ends = [await bus.end(topics.ARTIFACTS, partition) for partition in range(bus.partitions(topics.ARTIFACTS))]
            self.seen_at.update(dict.fromkeys(new, ends))

    async def change(self, bus: Bus, settings: Settings, between: Callable[[], Awaitable[None]]) -> None:
        """Add, update or delete a role; perhaps with something between the marks and the record, which another process does."""
        state = await self.known(bus)
        assert state.routing is not None
        present = [role.name for role in state.routing.delegations.roles]
        absent = [name for name in NAMES if name not in present]
        action = self.chance.choice([*(["add"] * 2 if absent else []), *(["update", "update", "delete"] if present else [])])
        name = self.chance.choice(absent if action == "add" else sorted(present))
        named, keys = self._draw(name)
        ends = await append_marks(bus, settings)
        if self.chance.random() < APART:
            await between()
        if action == "delete":
            await delegate(bus, settings, action, deleted=[name], ends=ends)
        else:
            await delegate(bus, settings, action, named, keys=keys, ends=ends)
        if self.chance.random() >= BEHIND:
            await self.read(bus)

    @property
    def _delegations(self) -> Delegations:
        assert self.state.routing is not None
        return self.state.routing.delegations

    def _draw(self, name: str) -> tuple[Delegation, dict[str, Any]]:
        before, keys = self._delegations.find(name), dict[str, Any]()
        if self.chance.random() < OWN_KEY:
            keys = dict([self.new_key()])
        elif before is not None and self.chance.random() < 0.5:
            keys = {keyid: self._delegations.keys[keyid] for keyid in before.keyids}
        paths = self.chance.sample(PATHS, self.chance.choice([1, 1, 2]))
        if before is not None and self.chance.random() < 0.4:
            paths = [*before.paths]
        role = Delegation(
            name=name,
            paths=tuple(sorted(paths)),
            terminating=self.chance.random() < 0.3,
            keyids=tuple(keys),
            days=self.chance.choice([None, 20]),
        )
        return role, keys
