"""A TCP proxy on loopback that delays and cuts connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Connections to a server, delayed or cut as a test requires."""

    target: int
    port: int = 0
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: bool = False
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut every open connection immediately, and every new one."""
        self.cuts = True
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cuts:
            writer.transport.abort()
            return
        with suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers |= {writer, to_writer}
            if self.cuts:  # meanwhile
                self.cut()
            with suppress(OSError):
                await asyncio.gather(self.pump(reader, to_writer), self.pump(to_reader, writer, waits=True))
            for one in (writer, to_writer):
                self.writers.discard(one)
                one.close()
            return
        writer.transport.abort()

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, waits: bool = False) -> None:
        while content := await source.read(65_536):
            if waits:
                await self.answers.wait()
            sink.write(content)
            await sink.drain()
        sink.close()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a port on loopback during the block. Answers wait while ``answers`` is cleared."""
    made = Proxy(target)
    made.answers.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        made.tasks.add(task)
        with suppress(asyncio.CancelledError):
            await made.serve(reader, writer)
        made.tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        for task in list(made.tasks):
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await server.wait_closed()
