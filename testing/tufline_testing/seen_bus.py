"""A log of which a test sees each append and commit, to inject events there: faults, delays, or what other processes do meanwhile."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tufline.bus import Message, Position, Then, Writer
from tufline.bus.embedded.bus import EmbeddedBus


@dataclass
class SeenBus:
    """The log of a signer, with events injected at its appends and commits."""

    bus: EmbeddedBus
    on_append: Callable[[Sequence[Message]], Awaitable[None]] | None = None
    after_append: Callable[[Sequence[Message]], Awaitable[None]] | None = None
    on_commit: Callable[[Sequence[Message]], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        if self.on_append is not None:
            await self.on_append(messages)
        done = await self.bus.append(messages)
        if self.after_append is not None:
            await self.after_append(messages)
        return done

    async def writer(self, writer_id: str) -> Writer:
        return SeenWriter(await self.bus.writer(writer_id), self)


@dataclass
class SeenWriter:
    """A writer of a ``SeenBus``."""

    writer: Writer
    seen: SeenBus

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        if self.seen.on_commit is not None:
            await self.seen.on_commit(messages)
        return await self.writer.commit(messages, then)

    async def close(self) -> None:
        await self.writer.close()
