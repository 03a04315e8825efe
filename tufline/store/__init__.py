"""The origin: where the published metadata files lie for the CDN and the clients.

Files of a version are written once and never change; only ``timestamp.json`` is replaced. A root is seen as soon as it is there. What a web
server must say of a file follows from its name (``content_headers``), so that every store and the built-in server agree.
"""

import re
from collections.abc import Iterable
from typing import Final, Protocol

VERSIONED_MAX_AGE_SECONDS: Final = 31_536_000
"""How long a CDN and clients may keep a versioned file: a year; it never changes."""

TIMESTAMP_MAX_AGE_SECONDS: Final = 5
"""How long they may keep timestamp.json, and the answer that a file does not exist (yet): clients ask for the next root at each refresh."""

TIMESTAMP: Final = "timestamp.json"

_VERSIONED = re.compile(r"[1-9][0-9]*\.[a-z][A-Za-z0-9_.-]*\.json")


def content_headers(name: str) -> dict[str, str]:
    """Say with which HTTP headers a metadata file is served.

    Args:
        name: the file's name, such as ``3.snapshot.json``.

    Returns:
        Content-Type and Cache-Control.
    """
    versioned = _VERSIONED.fullmatch(name) is not None
    cache = f"public, max-age={VERSIONED_MAX_AGE_SECONDS}, immutable" if versioned else f"public, max-age={TIMESTAMP_MAX_AGE_SECONDS}"
    return {"Content-Type": "application/json", "Cache-Control": cache}


class Store(Protocol):
    """An origin. One publisher writes it."""

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Put versioned files, once each.

        A file that is there with the same content stays; one that is there with other content is put anew (it was left half-written by a
        crash: nothing that is published names it, as ``flush`` comes before the timestamp).

        Args:
            files: name and content.

        Raises:
            StoreError: if any could not be put.
        """

    async def flush(self) -> None:
        """Make everything put so far durable.

        Raises:
            StoreError: if that is not certain.
        """

    async def replace(self, name: str, content: bytes) -> None:
        """Put or replace a file that clients find without being told of it, at once and durably: a reader sees the old one or the new one.

        Args:
            name: ``timestamp.json``, or that of a root.
            content: the new file.

        Raises:
            StoreError: if it could not be replaced.
        """

    async def get(self, name: str) -> bytes | None:
        """Read a file.

        Args:
            name: its name.

        Returns:
            Its content, or None if there is none of that name.

        Raises:
            StoreError: if that could not be found out.
        """

    async def names(self) -> set[str]:
        """List the names of all complete files.

        Returns:
            The names.

        Raises:
            StoreError: if that could not be found out.
        """

    async def delete_many(self, names: Iterable[str]) -> None:
        """Delete files; one that does not exist is no error.

        Args:
            names: of versioned files.

        Raises:
            StoreError: if any could not be deleted.
        """
