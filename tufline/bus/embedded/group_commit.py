"""Group commit: operations that wait for the disk share one durable commit.

When the writer thread is free, it writes all waiting operations in one commit, and then answers all of them. So many small requests share
one sync, and a single request does not wait for others.

In: operations of any caller. Out: the result of each, and, to the bus, the records that are durable now.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tufline.bus import Record
from tufline.bus.embedded.log import Log, Operation, Result


@dataclass(frozen=True, slots=True)
class _Waiting:
    operation: Operation
    size: int
    done: asyncio.Future[Any]


class GroupCommit:
    """The operations that wait for the disk, and the thread that writes them."""

    def __init__(self, log: Log, on_durable: Callable[[Sequence[Record]], None], *, threads: bool) -> None:
        """Wait for operations.

        Args:
            log: where to write.
            on_durable: called in the event loop with the records of each commit, in their order, before any caller continues.
            threads: whether a thread does the disk I/O; otherwise the event loop does it.
        """
        self._log = log
        self._on_durable = on_durable
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Waiting] = []
        self.pending_bytes = 0
        """How many bytes wait for the disk."""
        self._flush_asked = False
        self._writing = False
        self._work: queue.SimpleQueue[list[_Waiting] | None] | None = None
        if threads:
            self._work = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._write_batches, name="tufline-log-writer", daemon=True)
            self._thread.start()

    def submit(self, operation: Operation, size: int) -> asyncio.Future[Any]:
        """Write in the next commit.

        Args:
            operation: what to write.
            size: how many bytes it adds to ``pending_bytes`` until it is written.

        Returns:
            The result of the operation. Cancelling it does not undo the operation: it may already be on the disk.
        """
        done: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append(_Waiting(operation, size, done))
        self.pending_bytes += size
        self._ask_for_flush()
        return done

    def _ask_for_flush(self) -> None:
        if self._pending and not self._flush_asked and not self._writing:
            self._flush_asked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_asked = False
        self._writing = True
        batch, self._pending = self._pending, []
        if self._work is not None:
            self._work.put(batch)
        else:
            self._finish(batch, self._execute(batch))

    def _execute(self, batch: Sequence[_Waiting]) -> Sequence[Result]:
        return self._log.execute([waiting.operation for waiting in batch])

    def _write_batches(self) -> None:
        assert self._work is not None
        while (batch := self._work.get()) is not None:
            results = self._execute(batch)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile; the records are durable all the same
                self._loop.call_soon_threadsafe(self._finish, batch, results)

    def _finish(self, batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
        self._writing = False
        for waiting, result in zip(batch, results, strict=True):
            self.pending_bytes -= waiting.size
            if waiting.done.done():
                continue
            if isinstance(result, BaseException):
                waiting.done.set_exception(result)
                waiting.done.exception()  # marks it as retrieved: a caller cancelled from now on does not read it
            else:
                waiting.done.set_result(result)
        self._on_durable([record for result in results if isinstance(result, list) for record in result])
        self._ask_for_flush()

    def end_thread(self) -> None:
        """End the writer thread, once it has written everything that was submitted. This blocks; nothing may be submitted afterwards."""
        if self._work is not None:
            self._work.put(None)
            self._thread.join()
