"""Fixtures that tests of the inbox share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tufline.bus.embedded.bus import EmbeddedBus
from tufline_testing.inbox import open_inbox


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    """Provide a log with a bootstrap."""
    opened = await open_inbox(tmp_path)
    yield opened
    await opened.close()
