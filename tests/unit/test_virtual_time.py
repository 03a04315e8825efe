"""Virtual time, in which the simulation and many tests run."""

import asyncio
from contextlib import suppress

from tufline.clock import Clock
from tufline_testing.simulation.virtual_time import VirtualTimeLoop, run_virtual


def test_a_wait_too_short_for_the_clock_ends() -> None:
    """A wait that is shorter than the event loop's resolution still ends, because time moves on."""

    async def story(_: Clock) -> None:
        loop, never = asyncio.get_running_loop(), asyncio.Event()
        assert isinstance(loop, VirtualTimeLoop)
        began = loop.now = 1e7
        wait, turns = 1e-10, 0
        assert began + wait == began, "the clock can distinguish it"
        while (left := wait - (loop.time() - began)) > 0:
            turns += 1
            assert turns < 100_000, "time stands still"
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await never.wait()

    run_virtual(story)


def test_work_takes_no_time() -> None:
    """A moderate number of turns of the event loop leaves the time as it is, and a sleep takes exactly its time."""

    async def story(_: Clock) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _turn in range(100):
            await asyncio.sleep(0)
        after_work = loop.time()
        await asyncio.sleep(86_400)
        return after_work - began, loop.time() - after_work

    assert run_virtual(story) == (0.0, 86_400.0)
