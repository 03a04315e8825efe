"""Nothing is lost, applied twice or put back, and no client fails, while everything is broken: ``make soak`` in small."""

import os
import random
from pathlib import Path

import pytest

from soak import soak

FAULTS = 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_exactly_once_under_faults(kafka_parts: None, tmp_path: Path) -> None:
    """Of what was accepted all is live, every version has one content, and no client failed, after processes and brokers were killed."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    report = soak(tmp_path, FAULTS, seed)
    assert not report.problems, f"seed {seed}\n{report}"
    assert report.accepted > 0
    assert report.refreshes > 0
    assert sum(report.faults.values()) == FAULTS
