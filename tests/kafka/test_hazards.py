"""The reasons why Tufline writes and takes over as it does: ``make hazards``."""

import pytest

from evidence.hazards import show
from tufline_testing.servers.kafka_cluster import Cluster


@pytest.mark.slow
async def test_the_hazards_are_real(kafka: Cluster) -> None:
    """On a real broker, ends hide committed records, unfenced zombies write, and a group's offsets lose and repeat work."""
    assert await show(kafka.bootstrap)
