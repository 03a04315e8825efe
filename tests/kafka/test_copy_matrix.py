"""Copying in transactions while brokers and clients are restarted: ``testing/tufline_testing/proofs/copy_matrix.py`` in small."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tufline_testing.proofs.copy_matrix import BROKERS, copy_matrix
from tufline_testing.servers.kafka_cluster import Cluster

RECORDS = 3000
BOUNCES = 2
MATRIX = (("brokers", "hard"), ("clients", "hard"), ("clients", "clean"))


@pytest.fixture
def brokers(kafka_parts: None, tmp_path: Path) -> Iterator[Cluster]:
    """Run separate brokers, which the test may break."""
    cluster = Cluster(tmp_path / "kafka", BROKERS)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_copied_once_and_in_order(brokers: Cluster) -> None:
    """Whatever is restarted, a reader of committed records sees each input once and in order, and none is missing."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    outcome = await copy_matrix(brokers, RECORDS, seed, bounces=BOUNCES, matrix=MATRIX)
    assert not +outcome.wrong, (seed, outcome)
    assert outcome.copied == len(MATRIX) * RECORDS
    assert outcome.transactions > len(MATRIX)
    assert outcome.bounces == {" ".join(way): BOUNCES for way in MATRIX}
