"""Runs each test of this directory on every implementation of the bus.

No test here may depend on the implementation, or on consecutive offsets.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tufline_testing.bus_contract import TOPICS
from tufline_testing.buses import BusSetup, EmbeddedSetup, KafkaSetup


@pytest_asyncio.fixture(params=["embedded", "embedded-inline", pytest.param("kafka", marks=pytest.mark.slow)])
async def setup(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BusSetup]:
    """Provide each implementation in turn, empty."""
    made: BusSetup
    if request.param == "kafka":
        cluster = request.getfixturevalue("kafka")
        made = KafkaSetup(cluster.bootstrap, TOPICS, data=cluster.brokers[0].directory / "data")
        await made.create()
    else:
        made = EmbeddedSetup(tmp_path, TOPICS, threads=request.param == "embedded")
    await made.open()
    yield made
    await made.end()
