"""An origin in a directory, for a web server on the same machine or a file system that one serves.

A file is written under a name of its own and renamed, so that a reader sees it whole or not at all. Versioned files are not synced one by
one: ``flush`` syncs the file system once before the timestamp, which alone makes them visible to clients. Only roots are.

What is replaced is compared first, and both under a lock, so that a publisher that was stopped for long and wakes up changes nothing that a
newer one has put. A lock that is held for long (its holder was stopped just then) is an error that names the holder; publication waits for
it. That needs a local file system (see ``tufline.origin.file_systems`` and docs/adr/0008-the-origin-is-fenced-at-the-store.md).
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from tufline.concurrency import finish_in_thread
from tufline.errors import StoreBusyError, StoreChangedError, StoreError
from tufline.origin.directory_lock import LockedError, Temporary, locked, remove_leftovers
from tufline.origin.file_systems import network_type
from tufline.origin.store import OWNER

FIRST_LOCK_PAUSE_SECONDS: Final = 0.02
LONGEST_LOCK_PAUSE_SECONDS: Final = 0.5
"""How soon a lock that another process holds is tried again: to replace a file takes a few milliseconds."""

LOCK_PATIENCE_SECONDS: Final = 5.0
"""After so long a holder is taken for stopped, and named."""

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class LocalStore:
    """The ``Store`` in a directory; see the module."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, and make it if there is none.

        Args:
            directory: of the metadata files.

        Raises:
            StoreError: if it can't be used.
        """
        self._directory = directory
        self._temporary = Temporary(directory)
        self._is_clean = False
        with self._explained("make the directory", "choose another one in publisher.directory, or fix this one"):
            directory.mkdir(parents=True, exist_ok=True)
        if kind := network_type(directory):
            raise StoreError(
                f"the origin {directory} is in a network file system ({kind}), where locks do not keep two publishers apart reliably; "
                "set publisher.directory to a directory on a local disk, and serve it from there"
            )

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        """See ``Store.put_many``."""
        return await self._do("write files", lambda: self._put_all(list(files)))

    async def flush(self) -> None:
        """See ``Store.flush``."""
        await self._do("sync the file system", self._sync)

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        """See ``Store.replace``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_PATIENCE_SECONDS
        pause = FIRST_LOCK_PAUSE_SECONDS
        while True:
            try:
                await self._do(f"replace {name}", lambda: self._replace_durably(name, content, expected, owner))
            except LockedError as error:
                if loop.time() >= deadline:
                    raise StoreBusyError(
                        f"the origin {self._directory} has been locked for {LOCK_PATIENCE_SECONDS:g} seconds by "
                        f"{error.holder or 'another process'}, and publication waits for that: if it is stopped, let it continue "
                        "(kill -CONT) or end it"
                    ) from None
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOCK_PAUSE_SECONDS)

    async def get(self, name: str) -> bytes | None:
        """See ``Store.get``."""
        return await self._do(f"read {name}", lambda: self._read(self._path(name)))

    async def names(self) -> set[str]:
        """See ``Store.names``."""
        return await self._do("list the files", lambda: {path.name for path in self._directory.iterdir() if path.name[0] != "."})

    async def delete_many(self, names: Iterable[str]) -> None:
        """See ``Store.delete_many``."""

        def delete() -> None:
            for name in names:
                self._path(name).unlink(missing_ok=True)

        await self._do("delete files", delete)

    def _path(self, name: str) -> Path:
        if name != OWNER and (not name or "/" in name or name.startswith(".")):
            raise StoreError(f"{name!r} can't be the name of a metadata file")
        return self._directory / name

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _put_all(self, files: list[tuple[str, bytes]]) -> list[str]:
        # By plain system calls: for small files, paths as objects and buffered files cost more than the file system does.
        self._remove_leftovers()
        others: list[str] = []
        for name, content in files:
            path = str(self._path(name))
            if os.path.exists(path):  # noqa: PTH110 (as above)
                # To write it again would put a durable file, which is perhaps being served, at risk.
                if Path(path).read_bytes() != content:
                    others.append(name)
                continue
            with self._temporary.file() as (descriptor, temporary):
                _write(descriptor, content)
                os.rename(temporary, path)  # noqa: PTH104 (as above)
        return others

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            if not hasattr(_libc, "syncfs"):  # not Linux
                os.sync()
            elif _libc.syncfs(directory) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(directory)

    def _replace_durably(self, name: str, content: bytes, expected: bytes | None, owner: bytes | None) -> None:
        path = self._path(name)

        def check() -> None:
            if owner is not None:
                self._check(OWNER, owner)
            self._check(name, expected, content)

        # While another process holds the lock nothing is written, however often this is tried.
        with locked(self._directory):
            check()
        self._remove_leftovers()
        # The lock is not held while the new file is written: a process that is stopped just then would hold up all others.
        with self._temporary.file() as (descriptor, temporary):
            _write(descriptor, content)
            os.fsync(descriptor)
            with locked(self._directory):
                check()
                os.rename(temporary, path)  # noqa: PTH104 (as above)
            self._sync_names()

    def _check(self, name: str, *expected: bytes | None) -> None:
        found = self._read(self._path(name))
        if found not in expected:
            raise StoreChangedError(
                f"{name} in the origin {self._directory} was {'deleted' if found is None else 'replaced'} by somebody else; "
                "the origin is looked at again"
            )

    def _sync_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _remove_leftovers(self) -> None:
        if not self._is_clean:
            remove_leftovers(self._directory)
            self._is_clean = True

    async def _do(self, what: str, work: Callable[[], T]) -> T:
        with self._explained(what):
            return await finish_in_thread(work)

    @contextlib.contextmanager
    def _explained(self, what: str, advice: str = "fix that: a publisher continues by itself then") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"can't {what} in the origin {self._directory}: {error.strerror}; {advice}") from error
