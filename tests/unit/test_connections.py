"""The built-in HTTP servers under clients that keep them waiting."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web as aiohttp_web
from aiohttp.typedefs import Handler
from prometheus_client import REGISTRY

import tufline.runtime.http_server
from tufline.bus.embedded.bus import open_embedded
from tufline.config.settings import HttpConfig, IngestConfig, OpsConfig, WebConfig
from tufline.origin import web_server
from tufline.records import topics
from tufline.runtime import connections, operations
from tufline.runtime.connections import ServerConnections
from tufline.runtime.health import Health
from tufline_ingest import service
from tufline_testing.log import eventually

DEADLINE_SECONDS = 60.0
BIG_BYTES = 32 * 1024 * 1024

IDLE = b""
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
HALF_A_BODY = b"POST /api/v1/bootstrap HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"

SERVERS = {"ingest": "/healthz", "ops": "/healthz", "web": "/metadata/timestamp.json"}
"""Name in metrics to an address that answers 200."""


@asynccontextmanager
async def served(name: str, tmp_path: Path, http: HttpConfig) -> AsyncIterator[int]:
    """Run one of the servers, and return its port."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    (tmp_path / "timestamp.json").write_text("1")
    with (tmp_path / "1.big.json").open("wb") as big:
        big.truncate(BIG_BYTES)
    async with contextlib.AsyncExitStack() as stack:
        if name == "ingest":
            log = await open_embedded(tmp_path / "log.db", topics.topics(1))
            stack.push_async_callback(log.close)
            serving = service.run(log, IngestConfig(port=0), health=Health(), on_listening=listening.set_result, http=http)
        elif name == "ops":
            serving = operations.serve(OpsConfig(port=0), Health(), listening.set_result, http)
        else:
            serving = web_server.serve(tmp_path, WebConfig(port=0), listening.set_result, http)
        task = asyncio.create_task(serving)
        try:
            yield int((await asyncio.wait_for(listening, DEADLINE_SECONDS)).rsplit(":", 1)[1])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def connect(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, and send something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def ask(port: int, path: str) -> int:
    """Send a request as a well-behaved client does, on a separate connection."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("sent", [IDLE, HALF_A_HEAD, HALF_A_BODY], ids=["idle", "half a head", "half a body"])
@pytest.mark.parametrize("name", SERVERS)
async def test_waiting_connections_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sent: bytes) -> None:
    """However many idle clients connect, others are served immediately, and the number of open connections is limited."""
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.0)
    monkeypatch.setattr(connections, "SCAN_SECONDS", 0.0)
    async with served(name, tmp_path, HttpConfig(max_connections=16, idle_timeout=3600)) as port:
        opened = []
        for _ in range(80):
            opened.append(await connect(port, sent))
            await opened[-1][1].drain()
        assert await ask(port, SERVERS[name]) == 200
        for reader, writer in opened[:40]:  # some of the others may stay
            await rest_of(reader)
            writer.close()
        assert (REGISTRY.get_sample_value("tufline_http_connections", {"server": name}) or 0) <= 17
        assert await ask(port, SERVERS[name]) == 200
        for _, writer in opened:
            writer.close()


async def trickle(port: int) -> bytes:
    """Send a body byte by byte, until the server closes."""
    reader, writer = await connect(port, HALF_A_BODY)
    closed = asyncio.create_task(rest_of(reader))
    while not closed.done():
        writer.write(b" ")
        await asyncio.wait([closed], timeout=0.05)
    writer.close()
    return closed.result()


@pytest.mark.parametrize("name", SERVERS)
async def test_waiting_ends(tmp_path: Path, name: str) -> None:
    """A connection without a request, and one with half a head, is closed after the time-out."""
    async with served(name, tmp_path, HttpConfig(idle_timeout=1)) as port:
        for sent in (IDLE, HALF_A_HEAD):
            reader, writer = await connect(port, sent)
            assert await rest_of(reader) == b""
            writer.close()


async def test_waiting_for_a_body_ends(tmp_path: Path) -> None:
    """A body that does not arrive is answered with 408; the connection also ends if it arrives byte by byte."""
    async with served("ingest", tmp_path, HttpConfig(idle_timeout=1)) as port:
        reader, writer = await connect(port, HALF_A_BODY)
        answer = await rest_of(reader)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"not sent in time" in answer
        writer.close()
        # A byte that arrives after the connection was closed resets it, and the answer may be lost.
        assert (await trickle(port))[:13] in {b"HTTP/1.1 408 ", b""}


@asynccontextmanager
async def own_app(handler: Handler, http: HttpConfig) -> AsyncIterator[int]:
    """Serve an application with one address, ``/``, and return the port."""
    app = aiohttp_web.Application()
    app.router.add_get("/", handler)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(tufline.runtime.http_server.listen(app, "127.0.0.1", 0, "web", listening.set_result, http))
    try:
        yield int((await asyncio.wait_for(listening, DEADLINE_SECONDS)).rsplit(":", 1)[1])
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def ask_and_read_nothing(port: int, path: str) -> None:
    """Request a large answer, read none of it, and wait until the server has closed the connection."""

    async def is_closed() -> bool:
        return REGISTRY.get_sample_value("tufline_http_connections", {"server": "web"}) == 0

    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await asyncio.to_thread(client.recv, 1)
        assert not await is_closed()
        await eventually(is_closed, DEADLINE_SECONDS)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no time-out of its own for unread data")
async def test_a_file_that_is_not_read_ends(tmp_path: Path) -> None:
    """A connection over which a client asks for a large file that it does not read is closed after the time-out."""
    async with served("web", tmp_path, HttpConfig(idle_timeout=1)) as port:
        await ask_and_read_nothing(port, "/metadata/1.big.json")


async def test_an_answer_that_is_not_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one over which a client does not read a large answer, even if the system has no time-out of its own."""
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)

    async def large(_: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.Response(body=bytes(BIG_BYTES))

    async with own_app(large, HttpConfig(idle_timeout=1)) as port:
        await ask_and_read_nothing(port, "/")


async def test_a_slow_but_steady_body_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may take as long as it needs, if enough of it arrives within each time-out."""
    now, made = [0.0], list[ServerConnections]()

    def make_connections(server: str, most: int, timeout: float, _: Callable[[], float]) -> ServerConnections:
        made.append(ServerConnections(server, most, timeout, lambda: now[0]))
        return made[0]

    monkeypatch.setattr(tufline.runtime.http_server, "ServerConnections", make_connections)
    async with served("ingest", tmp_path, HttpConfig(idle_timeout=30)) as port:
        reader, writer = await connect(port, b"POST /api/v1/bootstrap HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        (connections,) = made

        async def is_noted() -> bool:
            return [(one.is_waiting, one.since) for one in connections._all if one not in connections.idle] == [(True, now[0])]

        for moment in (0.0, 20.0, 40.0, 60.0):
            now[0] = moment
            if moment:
                writer.write(b" " * 2000)
            await eventually(is_noted, DEADLINE_SECONDS)
            now[0] = moment + 29
            connections.sweep()
        now[0] = 91.0
        connections.sweep()
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_refused_only_if_all_are_worked_for() -> None:
    """If the server is working for all connections, a new one is refused with 503 and Retry-After; the others are finished."""
    go_on, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def work(_: aiohttp_web.Request) -> aiohttp_web.Response:
        begun.release()
        await go_on.wait()
        return aiohttp_web.Response(text="done")

    async with own_app(work, HttpConfig(max_connections=8)) as port:
        working = [asyncio.create_task(ask(port, "/")) for _ in range(8)]
        for _ in working:
            await asyncio.wait_for(begun.acquire(), DEADLINE_SECONDS)
        reader, writer = await connect(port, IDLE)
        refused = await rest_of(reader)
        assert refused.startswith(b"HTTP/1.1 503 "), refused
        assert b"\r\nRetry-After: 1\r\n" in refused
        writer.close()
        go_on.set()
        assert await asyncio.gather(*working) == [200] * 8
        assert await ask(port, "/") == 200


async def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    """Consecutive and pipelined requests are answered over one connection, which then counts as idle."""
    async with served("web", tmp_path, HttpConfig(max_connections=8)) as port:
        get = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n\r\n"
        reader, writer = await connect(port, get)
        for more in (get * 3, get, IDLE, IDLE, IDLE):
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await reader.readuntil(b"\r\n\r\n1")).startswith(b"HTTP/1.1 200 ")
            writer.write(more)
        assert REGISTRY.get_sample_value("tufline_http_connections", {"server": "web"}) == 1
        others = [await connect(port, HALF_A_HEAD) for _ in range(8)]
        assert await rest_of(reader) == b""
        for _, other in (*others, (reader, writer)):
            other.close()


@pytest.mark.parametrize("head", [b"GET /%s HTTP/1.1" % (b"a" * 9000), b"nonsense"], ids=["a long address", "no HTTP"])
async def test_an_unreadable_request_is_refused_in_json(tmp_path: Path, head: bytes) -> None:
    """A request whose address is too long, or that is not valid HTTP, gets 400 and a short reason as JSON, and the connection ends."""
    async with served("web", tmp_path, HttpConfig()) as port:
        reader, writer = await connect(port, head + b"\r\nHost: x\r\n\r\n")
        answer, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")
        writer.close()
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert b"Content-Type: application/json" in answer
        assert json.loads(body)["detail"].startswith("the request can't be read: ")
        assert len(body) < 1000
