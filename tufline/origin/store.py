"""The origin: where the published metadata files lie for the CDN and the clients.

Files of a version are written once and never change; only ``timestamp.json`` is replaced. A root is seen as soon as it is there. What a web
server must say of a file follows from its name (``content_headers``), so that every store and the built-in server agree.
"""

import re
from collections.abc import Iterable
from typing import Final, Protocol

from tufline.config.settings import TIMESTAMP_MAX_AGE_SECONDS

VERSIONED_MAX_AGE_SECONDS: Final = 31_536_000
"""How long a CDN and clients may keep a versioned file: a year; it never changes."""


TIMESTAMP: Final = "timestamp.json"

OWNER: Final = ".tufline-origin.json"
"""Says which log may publish to an origin (``tufline.origin.owner``). It is no metadata: web servers need not serve it."""

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
    """An origin. One publisher at a time writes it; one that was stopped and wakes up late may still try to."""

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        """Put versioned files that are not there yet.

        MUST leave a file that is there as it is, also one with other content: it may be served, and a version has one content. Whether that
        content is damage (left half-written by a crash, say) is for the caller to find out, who then uses ``replace``.

        Args:
            files: name and content.

        Returns:
            Names of files that are there with other content.

        Raises:
            StoreError: if any could not be put.
        """

    async def flush(self) -> None:
        """Make everything put so far durable.

        Raises:
            StoreError: if that is not certain.
        """

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        """Put or replace a file that clients find without being told of it, at once and durably: a reader sees the old one or the new one.

        Compare and swap: MUST change nothing unless the file is just as expected at that moment, whoever else writes meanwhile. (An object
        store does it by a conditional write, with the ETag of what it has compared. That is a condition on one object only, so such a store
        compares the owner just before.) MUST have ended, one way or the other, when it returns, also when it is cancelled.

        Args:
            name: ``timestamp.json``, that of a root, ``OWNER``, or that of a versioned file whose content is damaged.
            content: the new file.
            expected: the content that must be there; None if there must be no such file. A file that has the new content already is left.
            owner: the content that ``OWNER`` must have at that moment too; None if any will do.

        Raises:
            StoreChangedError: if something else is there.
            StoreBusyError: if another process has kept others from replacing anything for long.
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
        """List the names of all complete files, except ``OWNER``.

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
