"""An origin in a directory, for a web server that serves the directory.

A file is written under a temporary name and then renamed, so that a reader sees the whole file or none. Versioned files are not synced one
by one: clients find them only through the timestamp, and before the timestamp is replaced, ``flush`` syncs the file system once. Each root
is synced at once, as clients find roots without the timestamp.

``replace`` compares and renames under a lock. So a publisher process that was suspended for a long time can't overwrite, when it resumes,
what a newer publisher has written. If the lock's holder is suspended, publication waits, and after a while an error names the holder.
The lock needs a local file system (see ``tufline.origin.file_systems`` and docs/adr/0008-the-origin-is-fenced-at-the-store.md).
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
from tufline.origin.directory_lock import LockedError, TemporaryFiles, locked, remove_leftovers
from tufline.origin.file_systems import network_type
from tufline.origin.store import OWNER

FIRST_LOCK_PAUSE_SECONDS: Final = 0.02
LONGEST_LOCK_PAUSE_SECONDS: Final = 0.5
"""The shortest and longest pause before a lock held by another process is tried again; replacing a file takes a few milliseconds."""

LOCK_PATIENCE_SECONDS: Final = 5.0
"""When the lock has been held for this long, its holder is assumed to be suspended, and an error names it."""

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class LocalStore:
    """The ``Store`` in a directory."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, and create it if it does not exist.

        Args:
            directory: where the metadata files are published.

        Raises:
            StoreError: if the directory can't be created, or is in a network file system.
        """
        self._directory = directory
        self._temporary = TemporaryFiles(directory)
        self._is_clean = False
        with self._explained("create the directory", "choose another one in publisher.directory, or fix this one"):
            directory.mkdir(parents=True, exist_ok=True)
        if kind := network_type(directory):
            raise StoreError(
                f"the origin {directory} is in a network file system ({kind}), where locks do not reliably exclude a second publisher; "
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
                        f"{error.holder or 'another process'}, and publication waits for it: if that process is stopped, continue it "
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
            raise StoreError(f"{name!r} is not a valid name of a metadata file")
        return self._directory / name

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _put_all(self, files: list[tuple[str, bytes]]) -> list[str]:
        # With plain system calls: for small files, path objects and buffered files cost more than the file system itself.
        self._remove_leftovers()
        others: list[str] = []
        for name, content in files:
            path = str(self._path(name))
            if os.path.exists(path):  # noqa: PTH110 (as above)
                # It is not written again: a web server may be sending the existing file, which is durable.
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

        # Checked first, so that retries write no temporary file while another process holds the lock.
        with locked(self._directory):
            check()
        self._remove_leftovers()
        # The lock is not held while the new file is written: a process suspended during the write would block all others.
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
                f"{name} in the origin {self._directory} was {'deleted' if found is None else 'replaced'} by another process; "
                "the publisher checks the origin again"
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
    def _explained(self, what: str, advice: str = "fix that, and the publisher continues by itself") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"can't {what} in the origin {self._directory}: {error.strerror}; {advice}") from error
