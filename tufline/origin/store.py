"""The origin: the store of the published metadata files, which the CDN and TUF clients read.

Versioned files are written once and never change; only ``timestamp.json`` is replaced. Clients see a root as soon as it is written. A
file's HTTP headers follow from its name (``content_headers``), so that every store and the built-in server agree.
"""

import re
from collections.abc import Iterable
from typing import Final, Protocol

from tufline.config.settings import TIMESTAMP_MAX_AGE_SECONDS

VERSIONED_MAX_AGE_SECONDS: Final = 31_536_000
"""How long a CDN and clients may cache a versioned file, which never changes: a year."""


TIMESTAMP: Final = "timestamp.json"

OWNER: Final = ".tufline-origin.json"
"""The file that names the log that owns the origin (``tufline.origin.owner``). It is not metadata, and web servers need not serve it."""

_VERSIONED = re.compile(r"[1-9][0-9]*\.[a-z][A-Za-z0-9_.-]*\.json")


def content_headers(name: str) -> dict[str, str]:
    """Return the HTTP headers with which a metadata file is served.

    Args:
        name: the file's name, such as ``3.snapshot.json``.

    Returns:
        Content-Type and Cache-Control.
    """
    versioned = _VERSIONED.fullmatch(name) is not None
    cache = f"public, max-age={VERSIONED_MAX_AGE_SECONDS}, immutable" if versioned else f"public, max-age={TIMESTAMP_MAX_AGE_SECONDS}"
    return {"Content-Type": "application/json", "Cache-Control": cache}


class Store(Protocol):
    """An origin. Only one publisher writes to it at a time, but one that was suspended and has been replaced may still try to."""

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        """Write versioned files that do not exist yet.

        MUST NOT change an existing file, even if its content differs: a server may be sending it, and a version never changes. The caller
        finds out whether the existing file is damaged (for example half-written before a crash), and then uses ``replace``.

        Args:
            files: name and content of each.

        Returns:
            The names of existing files with other content.

        Raises:
            StoreError: if any file could not be written.
        """

    async def flush(self) -> None:
        """Make everything written so far durable.

        Raises:
            StoreError: if it may not be durable.
        """

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        """Create or replace a file that clients read at a fixed name, atomically and durably: a reader sees the old file or the new one.

        Compare and swap: MUST change nothing unless the file has the expected content at that moment, even if others write at the same
        time. (An object store uses a conditional write with the ETag of the content that it compared. That covers one object only, so such
        a store compares the owner just before.) Once it has returned, or was cancelled, the write MUST have happened or MUST NOT happen any
        more.

        Args:
            name: ``timestamp.json``, a root, ``OWNER``, or a versioned file whose content is damaged.
            content: the new content.
            expected: the content that the file must have; None if it must not exist. A file that already has the new content is accepted.
            owner: the content that ``OWNER`` must have at the same moment; None for any.

        Raises:
            StoreChangedError: if the file or the owner has another content.
            StoreBusyError: if another process has held the lock for too long.
            StoreError: if the file could not be replaced.
        """

    async def get(self, name: str) -> bytes | None:
        """Read a file.

        Args:
            name: the file's name at the origin.

        Returns:
            Its content, or None if it does not exist.

        Raises:
            StoreError: if the origin can't be read.
        """

    async def names(self) -> set[str]:
        """List the names of all complete files, except ``OWNER``.

        Returns:
            The names.

        Raises:
            StoreError: if the origin can't be read.
        """

    async def delete_many(self, names: Iterable[str]) -> None:
        """Delete files. Names that do not exist are ignored.

        Args:
            names: names of versioned files.

        Raises:
            StoreError: if any file could not be deleted.
        """
