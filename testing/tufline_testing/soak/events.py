"""A producer of a soak that sends events to topic ``inbox``, as a repository does."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tufline.client.events import Client, Event, add, remove
from tufline.config.settings import Config
from tufline.errors import TuflineError

SOURCE: Final = "urn:soak"
SECONDS: Final = 60.0
"""How long one attempt waits before the event is sent again, in seconds."""

OVERTIME_SECONDS: Final = 60.0
"""How much longer an attempt may take before it counts as hung, in seconds."""


class InboxSender:
    """Publishes events with ``tufline.client.events``; a change is accepted when it is live.

    A failed change is sent again as the same event, because it may have arrived already, and must not overwrite later changes.
    """

    kind = "inbox"

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        """Create the sender.

        Args:
            client: a connected client.
            loop: the client's event loop, in another thread.
        """
        self._client = client
        self._loop = loop
        self._unfinished: tuple[str, int | None] | None = None
        self._id = ""

    def send(self, path: str, length: int | None) -> Callable[[], bool]:
        """See ``Sender.send``."""
        if self._unfinished != (path, length):
            self._unfinished, self._id = (path, length), uuid.uuid4().hex
        change = remove(path) if length is None else add(path, length, {"sha256": f"{length:064x}"})
        publishing = self._client.publish(Event(SOURCE, [change], self._id), seconds=SECONDS)
        try:
            asyncio.run_coroutine_threadsafe(publishing, self._loop).result(SECONDS + OVERTIME_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"publishing hangs beyond its deadline, at {self._stacks()}") from None
        except TuflineError as error:
            raise TuflineError(str(error)) from error
        self._unfinished = None
        return lambda: True

    def _stacks(self) -> str:
        return "; ".join(f"{task.get_name()}: {' > '.join(_awaits(task.get_coro()))}" for task in asyncio.all_tasks(self._loop))


def _awaits(coroutine: Any) -> Iterator[str]:
    # A task's own stack only shows its outermost coroutine.
    while frame := getattr(coroutine, "cr_frame", None):
        yield f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        coroutine = coroutine.cr_await


@contextmanager
def inbox_sender(servers: str) -> Iterator[InboxSender]:
    """Connect to the cluster, in a thread with its own event loop.

    Args:
        servers: the cluster's bootstrap servers.

    Yields:
        The sender.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    client = Client(f"kafka:{servers}", Config())
    try:
        asyncio.run_coroutine_threadsafe(client.__aenter__(), loop).result()
        try:
            yield InboxSender(client, loop)
        finally:
            asyncio.run_coroutine_threadsafe(client.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
