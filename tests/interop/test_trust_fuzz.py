"""Whatever the offline keys sign is either refused, or accepted by clients in three languages."""

import logging
import secrets
from pathlib import Path

import pytest
import structlog

from tufline_testing.clients.running import Client
from tufline_testing.fuzz.trust_payloads import Fuzz
from tufline_testing.live_repository import served

pytestmark = pytest.mark.slow

BOOTSTRAPS, UPDATES = 150, 150


def test_accepted_metadata_is_read_by_every_client(every_client: list[Client], tmp_path: Path) -> None:
    """Each changed, correctly signed bootstrap or update is refused or read by every client of the profile."""
    seed = secrets.randbelow(10**9)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with served(tmp_path) as url:
            fuzz = Fuzz(tmp_path, url, every_client, seed)
            fuzz.run(BOOTSTRAPS, UPDATES)
    finally:
        structlog.reset_defaults()
    assert not fuzz.faults, f"seed {seed}:\n" + "\n".join(fuzz.faults)
    assert fuzz.outcomes["bootstraps live"] > 0
