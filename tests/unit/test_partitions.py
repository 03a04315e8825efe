"""Work that never ends, and begins again."""

import asyncio
import itertools

from helpers.virtual_time import run_virtual
from tufline.bus.partitions import LONGEST_KEY_PAUSE_SECONDS, keep_working
from tufline.clock import Clock
from tufline.errors import BusError, KeyUnavailableError
from tufline.health import Health


def longest_pause(error: Exception) -> tuple[float, str]:
    """Let work fail for five minutes, and say the longest pause between two tries, and what health said."""
    tries: list[float] = []
    health = Health()

    async def main(_: Clock) -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            tries.append(loop.time())
            await asyncio.sleep(0)
            raise error

        working = asyncio.create_task(keep_working("p", work, health))
        await asyncio.sleep(300)
        working.cancel()

    run_virtual(main)
    return max(after - before for before, after in itertools.pairwise(tries)), health.problems["p"]


def test_a_key_that_is_back_is_noticed_soon() -> None:
    """However long a key could not be used, it is tried every two seconds at least; what else fails is tried less often."""
    pause, said = longest_pause(KeyUnavailableError("no key"))
    assert (pause <= LONGEST_KEY_PAUSE_SECONDS + 0.01, said) == (True, "no key")
    assert longest_pause(BusError("no bus"))[0] > 2 * LONGEST_KEY_PAUSE_SECONDS
