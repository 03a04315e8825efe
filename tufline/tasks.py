"""Running tasks together."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def all_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines at once. If one fails, the others are cancelled and waited for, and its own error is raised, not a group of errors.

    Args:
        coroutines: what to run.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
