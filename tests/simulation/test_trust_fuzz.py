"""Whatever the offline keys sign is either refused, or goes live and is accepted by every client of the profile."""

import logging
import secrets
from pathlib import Path

import structlog

from tufline_testing.clients.running import PythonTuf
from tufline_testing.fuzz.trust_payloads import Fuzz
from tufline_testing.live_repository import served

BOOTSTRAPS, UPDATES = 100, 200


def test_what_is_signed_is_refused_or_goes_live(tmp_path: Path) -> None:
    """Each of hundreds of changed, correctly signed bootstraps and updates is refused or read by python-tuf; the seed is in the failure."""
    seed = secrets.randbelow(10**9)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with served(tmp_path) as url:
            fuzz = Fuzz(tmp_path, url, [PythonTuf()], seed)
            fuzz.run(BOOTSTRAPS, UPDATES)
    finally:
        structlog.reset_defaults()
    assert not fuzz.faults, f"seed {seed}:\n" + "\n".join(fuzz.faults)
    for kind in ("bootstraps", "updates"):
        assert fuzz.outcomes[f"{kind} refused"] > 0
        assert fuzz.outcomes[f"{kind} live"] > 0
