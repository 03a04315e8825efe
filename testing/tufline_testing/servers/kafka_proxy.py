"""A proxy in front of a Kafka broker that makes requests arrive late, twice, and after later ones, as a broken network can.

TCP neither loses nor repeats bytes, so this needs a connection that breaks before the answer. The client then tries again over another
connection, while the first request is still on its way (``delayed``), or was executed and only its answer was lost (``doubled``). Held
requests arrive after some later requests. A seed determines which requests are held, and for how long.

In: the broker's port. Out: a port for clients (the broker must advertise it), and counts of the disturbed requests.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

REQUESTS: Final = {0: "Produce", 22: "InitProducerId", 24: "AddPartitionsToTxn", 26: "EndTxn"}
"""The requests that the proxy may disturb, by their keys: those that write."""

LONGEST: Final = 6
"""How many later requests of the same client may arrive before a held request."""

ANSWER_SECONDS: Final = 10.0

HEADER_BYTES: Final = 8
"""A request starts with its key and version (2 bytes each) and an id (4 bytes), with which its answer starts too."""


class Request(NamedTuple):
    """A request of a client.

    Attributes:
        frame: all bytes of the request, without the length prefix.
    """

    frame: bytes

    @property
    def key(self) -> int:
        """The API key, which tells the kind of request."""
        return int.from_bytes(self.frame[:2], "big")

    @property
    def correlation(self) -> bytes:
        """The correlation id, which the answer repeats."""
        return self.frame[4:HEADER_BYTES]

    @property
    def client(self) -> str:
        """The client id."""
        length = int.from_bytes(self.frame[HEADER_BYTES : HEADER_BYTES + 2], "big", signed=True)
        return self.frame[HEADER_BYTES + 2 : HEADER_BYTES + 2 + max(0, length)].decode(errors="replace")

    @property
    def content(self) -> bytes:
        """The content that two attempts at one request have in common."""
        return self.frame[:4] + self.frame[HEADER_BYTES:]


@dataclass(frozen=True, slots=True)
class Held:
    """A request that is still on its way.

    Attributes:
        request: the request to deliver.
        what: ``delayed`` or ``doubled``.
        due: the total number of requests after which it is delivered.
        since: the number of requests when it was sent.
    """

    request: Request
    what: str
    due: int
    since: int


@dataclass
class Lane:
    """The disturbed requests of one client.

    Attributes:
        chance: the source of randomness.
        rates: request name to the percentage that is delayed, and also the percentage that is doubled.
        passed: the contents of all requests that arrived in time.
        held: the requests that are still on their way.
        turn: lets one request through at a time, so that they arrive in the drawn order.
    """

    chance: random.Random
    rates: Mapping[str, float]
    passed: list[bytes] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hold(self, request: Request, what: str) -> None:
        """Hold a request, to deliver it later."""
        passed = len(self.passed)
        self.held.append(Held(request, what, passed + self.chance.randint(1, LONGEST), passed))
        self.chance.shuffle(self.held)


@dataclass
class KafkaProxy:
    """Connections to a broker through the proxy.

    Attributes:
        target: the broker's port on loopback.
        port: the proxy's port for clients and brokers.
        lanes: client id to the lane of a client whose requests are disturbed.
        counts: number of disturbed requests, by request name and ``delayed``, ``doubled`` or ``reordered``.
    """

    target: int
    port: int
    lanes: dict[str, Lane] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def totals(self) -> Mapping[str, int]:
        """How many requests were delayed, doubled and reordered."""
        return {what: sum(count for (_, one), count in self.counts.items() if one == what) for what in ("delayed", "doubled", "reordered")}

    async def settle(self, client: str) -> None:
        """Stop disturbing a client, and deliver all its held requests.

        Args:
            client: the client id.
        """
        lane = self.lanes.pop(client)
        async with lane.turn:
            for one in lane.held:
                await self._deliver(one, lane)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a client's connection."""
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        answers: dict[bytes, asyncio.Future[None]] = {}
        back = asyncio.create_task(self._answer(from_broker, writer, answers))
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._pass(Request(await _frame(reader)), to_broker, answers):
                    await to_broker.drain()
        finally:
            back.cancel()
            for one in (writer, to_broker):
                one.transport.abort()
            await asyncio.gather(back, return_exceptions=True)

    async def _pass(self, request: Request, to_broker: asyncio.StreamWriter, answers: dict[bytes, "asyncio.Future[None]"]) -> bool:
        """Forward a request, or hold it.

        Returns:
            False if the connection must be broken.
        """
        lane = self.lanes.get(request.client)
        if lane is None or request.key not in REQUESTS:
            _write(to_broker, request)
            return True
        rate = lane.rates.get(REQUESTS[request.key], 0.0)
        async with lane.turn:
            for one in [one for one in lane.held if one.due <= len(lane.passed)]:
                lane.held.remove(one)
                await self._deliver(one, lane)
            drawn = lane.chance.uniform(0, 100)
            if drawn < rate:
                lane.hold(request, "delayed")
                return False
            lane.passed.append(request.content)
            if drawn < 2 * rate:
                answered = answers[request.correlation] = asyncio.get_running_loop().create_future()
                _write(to_broker, request)
                await asyncio.wait([answered], timeout=ANSWER_SECONDS)
                lane.hold(request, "doubled")
                return False
            _write(to_broker, request)
            return True

    async def _deliver(self, held: Held, lane: Lane) -> None:
        name = REQUESTS[held.request.key]
        self.counts[name, held.what] += 1
        if any(content != held.request.content for content in lane.passed[held.since :]):
            self.counts[name, "reordered"] += 1
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                _write(writer, held.request)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await _frame(reader)
            finally:
                writer.transport.abort()

    async def _answer(
        self, from_broker: asyncio.StreamReader, to_client: asyncio.StreamWriter, kept: Mapping[bytes, "asyncio.Future[None]"]
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(from_broker)
                if (answered := kept.get(frame[:4])) is not None:
                    if not answered.done():
                        answered.set_result(None)
                    continue
                to_client.write(len(frame).to_bytes(4, "big") + frame)
                await to_client.drain()
        to_client.transport.abort()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a separate task."""
        task = asyncio.create_task(self.serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _write(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(len(request.frame).to_bytes(4, "big") + request.frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


@asynccontextmanager
async def kafka_proxy(target: int, port: int) -> AsyncIterator[KafkaProxy]:
    """Run a proxy during the block; at first it disturbs nothing.

    Args:
        target: the broker's port on loopback.
        port: the port for clients, which the broker advertises.

    Yields:
        The proxy.
    """
    proxy = KafkaProxy(target, port)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
