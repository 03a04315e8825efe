"""An event loop in which time passes only when nothing else can happen: weeks take as long as the work in them."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tufline.clock import Clock

T = TypeVar("T")

START = datetime.now(UTC).replace(microsecond=0)
"""Payloads are signed with real dates."""


class _Selector(selectors.DefaultSelector):
    """Finds what is ready now; where that is nothing, the loop's clock goes on to the next timer instead of waiting for it."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits for something that can't happen")
        if not ready and timeout is not None and timeout > 0:
            self.loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its ``time`` stands still while anything runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.suspended = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def since_boot(self) -> float:
        """Say what ``tufline.clock.elapsed`` does: it goes on while the machine is suspended."""
        return self.now + self.suspended

    def run_in_executor(self, _executor: Any, func: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Do at once what would be done in a thread: another thread's time is not ours."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*arguments))
        except Exception as error:  # noqa: BLE001 (as an executor does)
            done.set_exception(error)
        return done


def suspend(time: timedelta) -> None:
    """Let the machine sleep: the wall clock goes on, and timers of the event loop do not."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.suspended += time.total_seconds()


def run_virtual(main: Callable[[Clock], Awaitable[T]]) -> T:
    """Run a coroutine function, which is given the virtual wall clock, in virtual time."""
    loop = VirtualTimeLoop()

    def clock() -> datetime:
        return START + timedelta(seconds=loop.since_boot())

    async def awaited() -> Any:
        return await main(clock)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result: T = runner.run(awaited())
    return result
