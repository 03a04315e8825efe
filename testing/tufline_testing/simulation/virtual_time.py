"""An event loop in which time passes only when no task can run. Weeks of simulated time take only as long as the work in them."""

import asyncio
import itertools
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tufline.clock import Clock

T = TypeVar("T")

START = datetime.now(UTC).replace(microsecond=0)
"""The start time, a real date because payloads are signed with real dates."""


STILL_TURNS = 1000
"""This many turns of the loop take no time at all."""

TURN_SECONDS = 1e-6
"""The time that each further turn takes. Without it, a timer shorter than the clock's resolution would never end."""


class _Selector(selectors.DefaultSelector):
    """Returns what is ready now. If nothing is, it moves the loop's clock to the next timer instead of waiting."""

    loop: "VirtualTimeLoop"
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits for something that can't happen")
        if not ready and timeout is not None and timeout > 0:
            self.loop.now += timeout
            self.turns = 0
        self.turns += 1
        if self.turns > STILL_TURNS:
            self.loop.now += TURN_SECONDS
        return ready


class _NumberedFuture(asyncio.Future[Any]):
    """A future whose place in a set depends on how many were made before it, and not on its address in memory.

    asyncio and the services keep futures in sets and wake or cancel them in the set's order, which must be the same in each replay.
    """

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = number

    def __hash__(self) -> int:
        return self._number


class _NumberedTask(asyncio.Task[Any]):
    """A task with the same property."""

    def __init__(self, number: int, *arguments: Any, **options: Any) -> None:
        self._number = number  # before the task is registered, which needs its hash
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._number


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time`` does not move while anything runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.suspended = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._numbers = itertools.count()
        self.set_task_factory(self._make_task)

    def create_future(self) -> asyncio.Future[Any]:
        """See ``_NumberedFuture``."""
        return _NumberedFuture(next(self._numbers), self)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return _NumberedTask(next(self._numbers), coroutine, loop=loop, **options)

    def time(self) -> float:
        return self.now

    def since_boot(self) -> float:
        """Replace ``tufline.clock.elapsed``, which includes the time in which the machine is suspended."""
        return self.now + self.suspended

    def run_in_executor(self, _executor: Any, func: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a thread's work immediately, because another thread would not follow the virtual time."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*arguments))
        except Exception as error:  # noqa: BLE001 (as an executor does)
            done.set_exception(error)
        return done


def suspend(time: timedelta) -> None:
    """Suspend the machine: the wall clock moves on, but the event loop's timers do not."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.suspended += time.total_seconds()


def run_virtual(main: Callable[[Clock], Awaitable[T]]) -> T:
    """Run a coroutine function in virtual time; it receives the virtual wall clock."""
    loop = VirtualTimeLoop()

    def clock() -> datetime:
        return START + timedelta(seconds=loop.since_boot())

    async def awaited() -> Any:
        return await main(clock)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result: T = runner.run(awaited())
    return result
