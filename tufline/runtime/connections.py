"""The connections of one HTTP server: a client that keeps it waiting can't keep others out.

aiohttp has no limits of its own. Here a connection is closed when the server has waited for its client too long: for the head of a
request, for the next part of its body, or for the client to read the answer. When there are as many connections as there may be, the one
that has been idle for longest makes room for a new one; if none is idle, requests whose client has stalled do. A new connection is refused
with 503 only if every other one is being worked for.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter, Gauge

from tufline.clock import in_milliseconds

ENOUGH_BYTES: Final = 1024
"""Of a body, within each time-out: a client that sends less is waited for as if it sent nothing."""

STALLED_SECONDS: Final = 2.0
"""How long a client in the middle of a request may pause before it may have to make room."""

SCAN_SECONDS: Final = 0.1
"""At most this often stalled requests are looked for."""

RETRY_AFTER_SECONDS: Final = 1

open_now = Gauge("tufline_http_connections", "Connections that are open.", ["server"])
dropped = Counter("tufline_http_connections_dropped", "Connections that the server closed.", ["server", "reason"])


def _refusal(status: str, detail: str, *headers: str) -> bytes:
    body = msgspec.json.encode({"detail": detail})
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


TOO_MANY: Final = _refusal(
    "503 Service Unavailable",
    "this server has as many connections as it may: try again, or raise http.max_connections",
    f"Retry-After: {RETRY_AFTER_SECONDS}",
)
TOO_SLOW: Final = _refusal("408 Request Timeout", "the request was not sent in time: send it again, without pauses")


class Connection(RequestHandler):
    """A connection that knows since when the server waits for its client."""

    __slots__ = ("_busy", "_clock", "_closing", "_received", "_room", "_wire", "since")

    def __init__(self, room: "Room", manager: web.Server, **options: Any) -> None:
        """Begin.

        Args:
            room: of the server.
            manager: aiohttp's server.
            options: of ``RequestHandler``.
        """
        super().__init__(manager, **options)
        self._room = room
        self._clock = room.clock
        self._wire: asyncio.Transport | None = None  # RequestHandler forgets it when it closes it, with what is still to be sent
        self._busy = False
        self._received = 0
        self._closing = False
        self.since = room.clock()
        """When the client last did what was waited for."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is the client's turn."""
        if not self._busy or self._closing or self._paused:
            return True
        request = self._current_request
        # While reading is paused, more has come than is worked on: then it is the server's turn.
        return request is not None and not request.content.is_eof() and not self._reading_paused and not self._buffer_paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter, or be refused.

        Args:
            transport: of the connection.
        """
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        found = transport.get_extra_info("socket")
        if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux; also for a file, which the system sends by itself
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, in_milliseconds(self._room.timeout))
        super().connection_made(transport)
        self._room.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave.

        Args:
            exc: as asyncio says it.
        """
        self._wire = None
        self._room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come; note it if it is enough.

        Args:
            data: from the client; empty when aiohttp parses again what it has.
        """
        self._received += len(data)
        if self._busy and self._received >= ENOUGH_BYTES:
            self._note()
        super().data_received(data)
        if not self._busy and self._messages:  # a whole head
            self._busy = True
            self._note()
            self._room.idle.pop(self, None)

    def pause_writing(self) -> None:
        """From now on the client has to read before more is sent."""
        self._note()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._note()
        super().resume_writing()

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Note the end of a request, which aiohttp calls this at.

        Args:
            request: that was answered.
            response: to it.
            time: when it began, if that is logged.
        """
        self._note()
        self._busy = bool(self._messages)  # the next one may have come already
        if not self._busy:
            self._room.rest(self)
        super().log_access(request, response, time)

    def _note(self) -> None:
        self.since = self._clock()
        self._received = 0

    def drop(self, answer: bytes = b"") -> None:
        """Close the connection; at once, if what was sent before is not being read.

        Args:
            answer: to send before, if none has begun.
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


class Room:
    """All connections of one server, and how many there may be."""

    def __init__(self, server: str, most: int, timeout: float, clock: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            server: its name, for operators.
            most: how many connections there may be.
            timeout: how long a client may be waited for, in seconds.
            clock: monotonic seconds.
        """
        self.clock = clock
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        """Those without a request, the one that has been so for longest first."""
        self._server = server
        self._most = most
        self.timeout = timeout
        self._all: set[Connection] = set()
        self._scanned = float("-inf")

    def enter(self, new: Connection) -> None:
        """Count a new connection; at the limit another one makes room for it, or it is refused.

        Args:
            new: that was just accepted.
        """
        self._all.add(new)
        open_now.labels(self._server).set(len(self._all))
        if len(self._all) > self._most and not self._make_room():
            dropped.labels(self._server, "refused").inc()
            new.drop(TOO_MANY)
            return
        self.rest(new)

    def rest(self, connection: Connection) -> None:
        """Note that a connection has no request.

        Args:
            connection: that has none now.
        """
        if connection in self._all:
            self.idle[connection] = None
            self.idle.move_to_end(connection)

    def leave(self, connection: Connection) -> None:
        """Forget a connection.

        Args:
            connection: that is closed.
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
        for one in stalled[: max(1, self._most // 16)]:  # some at once, so that a flood is not searched for each of its connections
            self._drop(one, "stalled", TOO_SLOW)
        return bool(stalled)

    def _drop(self, connection: Connection, reason: str, answer: bytes = b"") -> None:
        dropped.labels(self._server, reason).inc()
        connection.drop(answer)

    def sweep(self) -> None:
        """Close every connection whose client was waited for too long."""
        now = self.clock()
        for connection in list(self._all):
            if connection.is_waiting and now - connection.since >= self.timeout:
                self._drop(connection, "timeout", b"" if connection in self.idle else TOO_SLOW)
