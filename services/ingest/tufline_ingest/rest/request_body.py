"""Bodies of requests: decoded by their Content-Encoding, in pieces of bounded size; an incomplete body is an error.

aiohttp's own decompression is off (``tufline.runtime.http_server``): it decompresses without a limit, and accepts a stream that was cut
off.
"""

import zlib
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.hdrs import CONTENT_ENCODING

from tufline.decoding import excerpt
from tufline.runtime.turns import Turns
from tufline_ingest.errors import BadRequestError, TooLargeError, UnsupportedEncodingError

PIECE_BYTES: Final = 65_536
"""The most bytes that are decompressed at once."""

IDENTITY: Final = "identity"
WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Supported encodings (RFC 9110, 8.4.1), and zlib's ``wbits`` for each."""

MAX_MEMBERS: Final = 1000
"""The most members of one gzip body (RFC 1952, 2.2): each is a new decompressor."""


def encoding_of(request: web.Request) -> str:
    """Return the encoding of a body.

    Args:
        request: from a client.

    Returns:
        ``identity``, or a key of ``WINDOWS``.

    Raises:
        UnsupportedEncodingError: for any other encoding, or more than one.
    """
    sent = ", ".join(request.headers.getall(CONTENT_ENCODING, [])).strip().lower()
    encoding = sent or IDENTITY
    if encoding != IDENTITY and encoding not in WINDOWS:
        raise UnsupportedEncodingError(f"the content encoding {excerpt(sent)} is not supported: send {', '.join(WINDOWS)}, or no encoding")
    return encoding


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Read a body as it arrives.

    Args:
        request: from a client.

    Yields:
        Decoded bytes; of a compressed body, at most ``PIECE_BYTES`` at a time.

    Raises:
        UnsupportedEncodingError: for an encoding that is not supported.
        BadRequestError: if the body is not in its declared encoding, or is cut off; the bytes that were yielded before are then not a
            complete body.
    """
    encoding = encoding_of(request)
    if encoding == IDENTITY:
        async for chunk in request.content.iter_any():
            yield chunk
        return
    unpacker, turns = _Unpacker(encoding), Turns()
    async for chunk in request.content.iter_any():
        unpacker.feed(chunk)
        while piece := unpacker.unpack():
            yield piece
            await turns.take(len(piece))
    unpacker.finish()


async def read(request: web.Request, most_bytes: int) -> bytes:
    """Read a body whole.

    Args:
        request: from a client.
        most_bytes: the longest body, both compressed and decoded.

    Returns:
        The decoded body.

    Raises:
        TooLargeError: if it is longer; the rest is not read.
        UnsupportedEncodingError: for an encoding that is not supported.
        BadRequestError: if the body is not in its declared encoding, or is cut off.
    """
    encoding_of(request)  # before anything about its size
    if (request.content_length or 0) > most_bytes:
        raise TooLargeError(most_bytes)
    body = bytearray()
    async for piece in pieces(request):
        body += piece
        if len(body) > most_bytes:
            raise TooLargeError(most_bytes)
    return bytes(body)


class _Unpacker:
    """One body under way."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._zlib = zlib.decompressobj(WINDOWS[encoding])
        self._rest = b""
        self._members = 1

    def feed(self, chunk: bytes) -> None:
        self._rest += chunk

    def unpack(self) -> bytes:
        """Decompress the next bytes; empty if it needs more input first."""
        while self._rest:
            if self._zlib.eof:
                self._begin_member()
            try:
                piece = self._zlib.decompress(self._rest, PIECE_BYTES)
            except zlib.error as error:
                raise BadRequestError(f"the body is not {self._encoding}, as its Content-Encoding says: {error}") from error
            self._rest = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            if piece:
                return piece
        return b"" if self._zlib.eof else self._flushed()

    def _flushed(self) -> bytes:
        # Even when all input is consumed, there may be more output.
        return self._zlib.decompress(b"", PIECE_BYTES)

    def _begin_member(self) -> None:
        self._members += 1
        if self._encoding == "deflate" or self._members > MAX_MEMBERS:
            raise BadRequestError(f"something follows the end of the {self._encoding} body: send one body, encoded once")
        self._zlib = zlib.decompressobj(WINDOWS[self._encoding])

    def finish(self) -> None:
        """Check that the body is complete."""
        if not self._zlib.eof:
            raise BadRequestError(f"the {self._encoding} body is cut off: send it again whole")
