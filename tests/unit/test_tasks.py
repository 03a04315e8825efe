"""Tasks that run one after the other."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tufline.runtime.task_groups import one_behind
from tufline_testing.simulation.virtual_time import run_virtual


def in_loop(story: Callable[[list[str]], Coroutine[Any, Any, None]]) -> list[str]:
    """Run a story, and return what it recorded."""
    noted: list[str] = []

    async def main(_: Any) -> None:
        await story(noted)
        noted.append(f"{len(asyncio.all_tasks())} task")

    run_virtual(main)
    return noted


async def work(noted: list[str], name: str, error: Exception | None = None) -> None:
    noted.append(f"{name} begins")
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        noted.append(f"{name} cancelled")
        raise
    if error:
        raise error
    noted.append(f"{name} ends")


def test_one_at_a_time_while_the_next_is_made() -> None:
    """Jobs run one after the other; their producer is ahead by one; after the block all are done."""

    async def story(noted: list[str]) -> None:
        async with one_behind() as follow:
            for name in "ab":
                noted.append(f"{name} made")
                await follow(work(noted, name))

    assert in_loop(story) == ["a made", "b made", "a begins", "a ends", "b begins", "b ends", "1 task"]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.filterwarnings("error")
def test_an_error_ends_the_block(last: bool) -> None:
    """A job's error is raised unchanged, and later jobs never start."""

    async def story(noted: list[str]) -> None:
        async def block() -> None:
            async with one_behind() as follow:
                await follow(work(noted, "a", KeyError("a")))
                if not last:
                    await follow(work(noted, "b"))

        with pytest.raises(KeyError):
            await block()

    assert in_loop(story) == ["a begins", "1 task"]


def test_nothing_is_left_behind() -> None:
    """If the block is left by an error or cancelled, the running job is cancelled and awaited."""

    async def story(noted: list[str]) -> None:
        async def block(error: Exception | None) -> None:
            async with one_behind() as follow:
                await follow(work(noted, "a"))
                await asyncio.sleep(0.5)
                if error:
                    raise error

        with pytest.raises(KeyError):
            await block(KeyError("b"))
        task = asyncio.create_task(block(None))
        await asyncio.sleep(0.7)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    assert in_loop(story) == ["a begins", "a cancelled"] * 2 + ["1 task"]
