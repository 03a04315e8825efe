"""Cancelling a coroutine at each of its awaits in turn, to show that no cancellation is lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any


class _Counted:
    """Awaits a coroutine, and cancels the current task while it waits for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], n: int) -> None:
        self._coroutine = coroutine
        self._left = n
        self.reached = False

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        waited: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration:
                return
            error = None
            self._left -= 1
            if self._left == 0:
                self.reached = True
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited
            except BaseException as raised:  # noqa: BLE001 (the coroutine gets whatever its await raises)
                error = raised


async def cancelled_at_each_await(story: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """Run a story again and again, and cancel it at its first await, then at its second, and so on, until it ends before it is cancelled.

    Args:
        story: called for each run.

    Yields:
        For each cancelled run the number of the await, from 1, and the task, which has ended.
    """
    for n in itertools.count(1):
        counted = _Counted(story(), n)

        async def run(counted: _Counted = counted) -> None:
            await counted

        task = asyncio.create_task(run())
        await asyncio.wait({task})
        if not counted.reached:
            task.result()  # an uncancelled story must not fail
            return
        yield n, task
