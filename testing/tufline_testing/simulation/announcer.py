"""Repositories that announce changes, over REST and by events, and know which states may be live."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tufline.bus import Bus, Message
from tufline.records import Add, Remove, Settings, topics
from tufline_testing.inbox import event, structured
from tufline_testing.log import announce, publish
from tufline_testing.simulation.delegating import Delegating

SOURCES = 2
"""The sources of events. Each sends to its own partition of the inbox, if there are enough."""


@dataclass
class Announcer:
    """The repositories of a schedule, and the expected state.

    Attributes:
        chance: decides what is announced.
        numbers: the lengths of artifacts and the ids of events, each used once.
        expected: each path's last acknowledged length (0: removed).
        maybe: of each path, the lengths that were sent but not acknowledged.
        sent: the acknowledged events of each source.
        unacknowledged: each source's event that is not acknowledged yet, with the lengths that it announces.
        held: the length of each path's last acknowledged change that is held.
        maybe_held: of each path, the lengths that were sent to be held since then, but not acknowledged.
        maybe_not_held: the paths whose held change may have been published, or dropped, by something that was not acknowledged.
        accepted: the lengths of all acknowledged additions.
        delegating: knows the custom roles; None if there never are any.
    """

    chance: random.Random
    numbers: Iterator[int]
    expected: dict[str, int] = field(default_factory=dict)
    maybe: dict[str, list[int]] = field(default_factory=dict)
    sent: dict[int, list[Message]] = field(default_factory=lambda: {source: [] for source in range(SOURCES)})
    unacknowledged: dict[int, tuple[Message, dict[str, int]]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    maybe_held: dict[str, list[int]] = field(default_factory=dict)
    maybe_not_held: set[str] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    delegating: Delegating | None = None

    def _draw(self, chance: random.Random, folder: str) -> tuple[list[Add | Remove], dict[str, int]]:
        changes: list[Add | Remove] = []
        meant: dict[str, int] = {}
        for path in (f"{folder}/{chance.randrange(30)}" for _ in range(chance.choice([1, 2, 12]))):
            removes = chance.random() < 0.25
            meant[path] = 0 if removes else next(self.numbers)
            changes.append(Remove(path) if removes else Add(path, meant[path], {"sha256": f"{meant[path]:064x}"}))
        return changes, meant

    def _make_changes(self, folder: str) -> tuple[list[Add | Remove], dict[str, int]]:
        changes, meant = self._draw(self.chance, folder)
        for path, number in meant.items():
            self.maybe.setdefault(path, []).append(number)
            self.maybe_not_held.add(path)
        return changes, meant

    def _acknowledged(self, meant: dict[str, int]) -> None:
        self.accepted.update(filter(None, meant.values()))
        for path, number in meant.items():
            self.expected[path] = number
            self.maybe[path].clear()
            self._forget_held(path)

    async def _append(self, bus: Bus, settings: Settings, changes: list[Add | Remove], *, hold: bool = False) -> None:
        if self.delegating is None:
            await announce(bus, settings, changes, hold=hold)
        else:
            known = await self.delegating.known(bus)
            await announce(bus, settings, changes, hold=hold, routing=known.routing, admin=known.next_offset)

    def _forget_held(self, path: str) -> None:
        self.held.pop(path, None)
        self.maybe_held.pop(path, None)
        self.maybe_not_held.discard(path)

    async def hold(self, bus: Bus, settings: Settings, chance: random.Random) -> None:
        """Announce some changes that are to be held until they are published."""
        changes, meant = self._draw(chance, "p")
        for path, number in meant.items():
            self.maybe_held.setdefault(path, []).append(number)
        await self._append(bus, settings, changes, hold=True)
        self.accepted.update(filter(None, meant.values()))
        for path, number in meant.items():
            self._forget_held(path)
            self.held[path] = number

    async def publish(self, bus: Bus, settings: Settings) -> None:
        """Publish what is held."""
        paths = sorted(self.held.keys() | self.maybe_held.keys())
        for path in paths:
            self.maybe.setdefault(path, []).extend([*([self.held[path]] if path in self.held else []), *self.maybe_held.get(path, [])])
        certain = [path for path in paths if path in self.held and path not in self.maybe_held and path not in self.maybe_not_held]
        self.maybe_not_held.update(paths)
        await publish(bus, settings)
        for path in paths:
            if path in certain:
                self.maybe[path].clear()
                self.expected[path] = self.held[path]
            self._forget_held(path)

    async def announce(self, bus: Bus, settings: Settings) -> None:
        """Announce some changes, as ingest does for a request."""
        changes, meant = self._make_changes("p")
        await self._append(bus, settings, changes)
        self._acknowledged(meant)

    async def send_event(self, bus: Bus, source: int) -> None:
        """Send an event of a source, perhaps one that was sent before, or something that is not a valid event."""
        partition = source % bus.partitions(topics.INBOX)
        # A producer that got no answer sends its event again before any other. Apart from that, it may repeat any of its events at
        # any time.
        if source in self.unacknowledged and self.chance.random() < 0.7:
            message, meant = self.unacknowledged[source]
        elif self.sent[source] and self.chance.random() < 0.3:
            await bus.append([self.chance.choice(self.sent[source]), Message(topics.INBOX, "", b"bad", partition)])
            return
        else:
            changes, meant = self._make_changes(f"q{source}")
            said = [
                {"op": "remove", "path": one.path}
                if isinstance(one, Remove)
                else {"path": one.path, "info": {"length": one.length, "hashes": one.hashes}}
                for one in changes
            ]
            message = structured(event(*said, id=str(next(self.numbers)), source=f"source {source}"), partition)
        self.unacknowledged[source] = message, meant
        await bus.append([message])
        del self.unacknowledged[source]
        self.sent[source].append(message)
        self._acknowledged(meant)

    def check(self, found: Mapping[str, int]) -> None:
        """Check the lengths of the artifacts that a client finds."""
        for path in self.expected.keys() | self.maybe.keys() | self.held.keys() | self.maybe_held.keys():
            allowed = [self.expected.get(path, 0), *self.maybe.get(path, [])]
            assert found.get(path, 0) in allowed, f"{path} is {found.get(path, 0)}, and should be one of {allowed}"

    def check_held(self, found: Mapping[str, int]) -> None:
        """Check the lengths of the changes that are held on the log (0: a removal)."""
        for path in found.keys() | self.held.keys():
            allowed: list[int | None] = [self.held.get(path), *self.maybe_held.get(path, [])]
            if path in self.maybe_not_held:
                allowed.append(None)
            assert found.get(path) in allowed, f"{path} is held as {found.get(path)}, and should be one of {allowed}"
