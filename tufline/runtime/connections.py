"""The connections of one HTTP server: a slow client can't keep others out.

aiohttp has no such limits. Here a connection is closed when the server has waited too long for its client: for the head of a request, for
the next part of its body, or for the client to read the response. When a new connection exceeds the limit, the one that has been idle for
longest is closed; if none is idle, connections whose clients have stalled are closed. The new connection is refused with 503 only if the
server is working on requests of all other connections.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter, Gauge

from tufline.clock import in_milliseconds
from tufline.decoding import EXCERPT_LENGTH, shorten

ENOUGH_BYTES: Final = 1024
"""How much of a body a client must send within each timeout; one that sends less is treated as if it had sent nothing."""

STALLED_SECONDS: Final = 2.0
"""How long a client may pause in the middle of a request before its connection may be closed for a new one."""

SCAN_SECONDS: Final = 0.1
"""The shortest time between two searches for stalled requests."""

RETRY_AFTER_SECONDS: Final = 1

open_now = Gauge("tufline_http_connections", "Connections that are open.", ["server"])
dropped = Counter("tufline_http_connections_dropped", "Connections that the server closed.", ["server", "reason"])


def _refusal(status: str, detail: str, *headers: str) -> bytes:
    body = msgspec.json.encode({"detail": detail})
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


TOO_MANY: Final = _refusal(
    "503 Service Unavailable",
    "this server has reached its limit of connections: try again, or raise http.max_connections",
    f"Retry-After: {RETRY_AFTER_SECONDS}",
)
TOO_SLOW: Final = _refusal("408 Request Timeout", "the request was not sent in time: send it again, without pauses")


class HttpConnection(RequestHandler):
    """A connection that knows how long the server has been waiting for its client."""

    __slots__ = ("_busy", "_clock", "_closing", "_connections", "_received", "_wire", "since")

    def __init__(self, connections: "ServerConnections", manager: web.Server, **options: Any) -> None:
        """Start.

        Args:
            connections: all connections of the server.
            manager: aiohttp's server.
            options: arguments of ``RequestHandler``.
        """
        super().__init__(manager, **options)
        self._connections = connections
        self._clock = connections.clock
        self._wire: asyncio.Transport | None = None  # RequestHandler drops its own reference on close, even with data still to be sent
        self._busy = False
        self._received = 0
        self._closing = False
        self.since = connections.clock()
        """When the client last sent or read something that the server waited for."""

    @property
    def is_waiting(self) -> bool:
        """Whether the server is waiting for the client."""
        if not self._busy or self._closing or self._paused:
            return True
        request = self._current_request
        # While reading is paused, the server has data that it has not processed yet, so the client waits for the server.
        return request is not None and not request.content.is_eof() and not self._reading_paused and not self._buffer_paused

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Respond to a request that is not valid HTTP, or whose head is too long. The response is JSON, as for every other error.

        Args:
            request: the part of the request that could be read.
            status: the response's status.
            exc: the exception, if there was one.
            message: the reason, for people.

        Returns:
            The response; the connection is closed after it.
        """
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        # This is not logged: any client could fill the log.
        detail = f"the request can't be read: {' '.join((message or '').split())}"
        refusal = web.json_response({"detail": shorten(detail, 3 * EXCERPT_LENGTH)}, status=status)
        refusal.force_close()
        return refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, or refuse it.

        Args:
            transport: the connection's transport.
        """
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        found = transport.get_extra_info("socket")
        if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux; it also covers files, which the kernel sends by itself
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, in_milliseconds(self._connections.timeout))
        super().connection_made(transport)
        self._connections.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister the connection.

        Args:
            exc: the error that closed it, from asyncio.
        """
        self._wire = None
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, and note the time if it is enough.

        Args:
            data: from the client; empty when aiohttp parses its buffered data again.
        """
        self._received += len(data)
        if self._busy and self._received >= ENOUGH_BYTES:
            self._note()
        super().data_received(data)
        if not self._busy and self._messages:  # a whole head
            self._busy = True
            self._note()
            self._connections.idle.pop(self, None)

    def pause_writing(self) -> None:
        """Note that the client must read before more can be sent."""
        self._note()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client has read enough for the server to send more."""
        self._note()
        super().resume_writing()

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Note the end of a request; aiohttp calls this when it has sent the response.

        Args:
            request: the request that was answered.
            response: the response to it.
            time: when the request started, if that is logged.
        """
        self._note()
        self._busy = bool(self._messages)  # the next one may have come already
        if not self._busy:
            self._connections.rest(self)
        super().log_access(request, response, time)

    def _note(self) -> None:
        self.since = self._clock()
        self._received = 0

    def drop(self, answer: bytes = b"") -> None:
        """Close the connection; at once if the client does not read what was sent before.

        Args:
            answer: a response to send before closing, if no other response has started.
        """
        wire, request = self._wire, self._current_request
        if wire is None:
            return
        if self._paused or wire.is_closing():
            wire.abort()
            return
        self._closing = True
        self._note()
        if not self._busy or (request is not None and not request.writer.output_size):
            wire.write(answer)
        self.force_close()


class ServerConnections:
    """All connections of one server, and how many there may be."""

    def __init__(self, server: str, most: int, timeout: float, clock: Callable[[], float]) -> None:
        """Start without connections.

        Args:
            server: the server's name, for operators.
            most: the limit of connections.
            timeout: how long the server waits for a client, in seconds.
            clock: returns monotonic seconds.
        """
        self.clock = clock
        self.idle: OrderedDict[HttpConnection, None] = OrderedDict()
        """The connections without a request; the one that has been idle for longest comes first."""
        self._server = server
        self._most = most
        self.timeout = timeout
        self._all: set[HttpConnection] = set()
        self._scanned = float("-inf")

    def enter(self, new: HttpConnection) -> None:
        """Register a new connection. At the limit, another connection is closed, or the new one is refused.

        Args:
            new: a connection that was just accepted.
        """
        self._all.add(new)
        open_now.labels(self._server).set(len(self._all))
        if len(self._all) > self._most and not self._make_room():
            dropped.labels(self._server, "refused").inc()
            new.drop(TOO_MANY)
            return
        self.rest(new)

    def rest(self, connection: HttpConnection) -> None:
        """Note that a connection is idle.

        Args:
            connection: a connection whose last request has ended.
        """
        if connection in self._all:
            self.idle[connection] = None
            self.idle.move_to_end(connection)

    def leave(self, connection: HttpConnection) -> None:
        """Unregister a connection.

        Args:
            connection: a connection that is closed.
        """
        self._all.discard(connection)
        open_now.labels(self._server).set(len(self._all))
        self.idle.pop(connection, None)

    def _make_room(self) -> bool:
        if self.idle:
            longest, _ = self.idle.popitem(last=False)
            self._drop(longest, "idle")
            return True
        now = self.clock()
        if now - self._scanned < SCAN_SECONDS:
            return False
        self._scanned = now
        stalled = sorted((one for one in self._all if one.is_waiting and now - one.since >= STALLED_SECONDS), key=lambda one: one.since)
        for one in stalled[: max(1, self._most // 16)]:  # several at once, so that a flood of new ones does not cause a search for each
            self._drop(one, "stalled", TOO_SLOW)
        return bool(stalled)

    def _drop(self, connection: HttpConnection, reason: str, answer: bytes = b"") -> None:
        dropped.labels(self._server, reason).inc()
        connection.drop(answer)

    def sweep(self) -> None:
        """Close every connection whose client has kept the server waiting for too long."""
        now = self.clock()
        for connection in list(self._all):
            if connection.is_waiting and now - connection.since >= self.timeout:
                self._drop(connection, "timeout", b"" if connection in self.idle else TOO_SLOW)
