"""An origin in a directory, for a web server on the same machine or a file system that one serves.

A file is written under a name of its own and renamed, so that a reader sees it whole or not at all. Versioned files are not synced one by
one: ``flush`` syncs the file system once before the timestamp, which alone makes them visible to clients. Only roots are.
"""

import asyncio
import contextlib
import ctypes
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from tufline.errors import StoreError

TEMPORARY_PREFIX: Final = ".tmp-"
"""Names of files that are being written begin with it."""

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _write(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


class LocalStore:
    """The ``Store`` in a directory; see the module."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, and make it if there is none. What a crash left half-written is removed.

        Args:
            directory: of the metadata files.

        Raises:
            StoreError: if it can't be used.
        """
        self._directory = directory
        with self._saying("make the directory", "choose another one in publisher.directory, or mend this one"):
            directory.mkdir(parents=True, exist_ok=True)
            for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink()

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """See ``Store.put_many``."""
        await self._do("write files", lambda: self._put_all(list(files)))

    async def flush(self) -> None:
        """See ``Store.flush``."""
        await self._do("sync the file system", self._sync)

    async def replace(self, name: str, content: bytes) -> None:
        """See ``Store.replace``."""
        await self._do(f"replace {name}", lambda: self._replace_durably(name, content))

    async def get(self, name: str) -> bytes | None:
        """See ``Store.get``."""

        def read() -> bytes | None:
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

        return await self._do(f"read {name}", read)

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
        if not name or "/" in name or name.startswith("."):
            raise StoreError(f"{name!r} can't be the name of a metadata file")
        return self._directory / name

    def _put_all(self, files: list[tuple[str, bytes]]) -> None:
        # By plain system calls: for small files, paths as objects and buffered files cost more than the file system does.
        for name, content in files:
            path = str(self._path(name))
            if self._has(path, content):
                continue  # to write it anew would put a durable file, which is perhaps being served, at risk
            temporary = f"{self._directory}/{TEMPORARY_PREFIX}{name}"
            with open(temporary, "wb", buffering=0) as file:  # noqa: PTH123 (as above)
                _write(file, content)
            os.rename(temporary, path)  # noqa: PTH104 (as above)

    def _has(self, path: str, content: bytes) -> bool:
        try:
            return os.stat(path).st_size == len(content) and Path(path).read_bytes() == content  # noqa: PTH116 (as above)
        except FileNotFoundError:
            return False

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

    def _replace_durably(self, name: str, content: bytes) -> None:
        temporary = self._directory / f"{TEMPORARY_PREFIX}{name}"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path(name))
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    async def _do(self, what: str, work: Callable[[], T]) -> T:
        with self._saying(what):
            return await asyncio.to_thread(work)

    @contextlib.contextmanager
    def _saying(self, what: str, advice: str = "mend that: a publisher goes on by itself then") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"can't {what} in the origin {self._directory}: {error.strerror}; {advice}") from error
