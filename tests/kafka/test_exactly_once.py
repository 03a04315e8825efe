"""Nothing is lost, applied twice or reverted, and no client fails, under constant faults: a small ``make soak``."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tufline_testing.soak.__main__ import soak

FAULTS = ["kill signer"] * 2 + ["freeze signer", "come and go", "kill broker", "roll services", "seal vault"]


@pytest.mark.slow
@pytest.mark.timeout(2400)  # the longest limit of all, so that it starts first
def test_exactly_once_under_faults(kafka_parts: None, vault_parts: None, tmp_path: Path) -> None:
    """Whatever process is killed, accepted changes are live, in order and once; no fenced writer wrote, and no client failed."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    report = soak(tmp_path, FAULTS, seed)
    print(f"seed {seed}\n{report}")  # noqa: T201 (to play it again)
    assert not report.problems, f"seed {seed}\n{report}"
    assert report.sent.keys() == {"REST", "inbox"}
    assert report.refreshes > 0
    assert report.faults == Counter(FAULTS)
