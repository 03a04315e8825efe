"""Processes that are slow or were paused: they keep their partitions whatever their group decides, and write late."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tufline.bus import Assigned, Bus, Member, Message, Position, Then, Writer
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.origin.directory import LocalStore

LATE_SECONDS = (0, 0, 0.001, 0.05, 2.0)
"""How late the writes of a paused process arrive, in seconds; other processes have its partitions by then."""


class LastingMember:
    """A membership in a group that is never revoked."""

    async def leave(self) -> None:
        pass


@dataclass
class StoppedBus:
    """The bus of a process that is paused: it keeps its partitions.

    Attributes:
        bus: the bus of the other processes.
        kept: the partitions that the process keeps; None for all.
    """

    bus: Bus
    kept: frozenset[int] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def join(self, _group: str, topic: str, assigned: Assigned, _revoked: Assigned) -> Member:
        await assigned(frozenset(range(self.bus.partitions(topic))) if self.kept is None else self.kept)
        return LastingMember()


@dataclass
class SlowBus:
    """The bus of a process whose appends are slow, so that other things happen in the meantime."""

    bus: EmbeddedBus
    chance: random.Random

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        await asyncio.sleep(self.chance.choice([0, 0.001, 0.05]))
        return await self.bus.append(messages)


class StubbornBus(SlowBus):
    """The bus of a process after a long pause: the process keeps all partitions, and its writes arrive late."""

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        await asyncio.sleep(self.chance.choice(LATE_SECONDS))
        return await super().append(messages)

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> Member:
        return await StoppedBus(self.bus).join(group, topic, assigned, revoked)

    async def writer(self, writer_id: str) -> Writer:
        return LateWriter(await self.bus.writer(writer_id), self.chance)


@dataclass
class LateWriter:
    """A writer whose transactions arrive late."""

    writer: Writer
    chance: random.Random

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        await asyncio.sleep(self.chance.choice(LATE_SECONDS))
        return await self.writer.commit(messages, then)

    async def close(self) -> None:
        pass


class LateStore(LocalStore):
    """The origin of a process after a long pause: its operations arrive late."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        super().__init__(directory)
        self._chance = chance

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        await asyncio.sleep(self._chance.choice(LATE_SECONDS))
        await super().replace(name, content, expected=expected, owner=owner)

    async def delete_many(self, names: Iterable[str]) -> None:
        await asyncio.sleep(self._chance.choice(LATE_SECONDS))
        await super().delete_many(names)
