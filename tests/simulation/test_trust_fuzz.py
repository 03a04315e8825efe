"""Whatever the offline keys sign is either refused, or goes live and is accepted by every client of the profile."""

import copy
import logging
import secrets
from pathlib import Path

import structlog

from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline_testing.clients.running import PythonTuf
from tufline_testing.fuzz.trust_payloads import Fuzz, rename_keys, resign
from tufline_testing.live_repository import served

BOOTSTRAPS, UPDATES = 100, 200


def test_signed_metadata_is_refused_or_goes_live(tmp_path: Path) -> None:
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


def test_an_online_key_whose_type_has_its_old_name_signs(tmp_path: Path) -> None:
    """The fuzzer failed now and then because an online key of the type ``ecdsa-sha2-nistp256`` was accepted, and then could not sign."""
    with served(tmp_path) as url:
        fuzz = Fuzz(tmp_path, url, [PythonTuf()], 1)
        held = fuzz.held["rstuf"]
        payload = copy.deepcopy(held.payload)
        root = payload["metadata"]["root"]
        (online,) = (key for key in root["signed"]["keys"].values() if ONLINE_KEY_URI in key)
        online["keytype"] = online["scheme"]
        rename_keys(root["signed"])
        resign(root, [key.signer for key in held.root])
        fuzz.check_bootstrap("rstuf", payload, "old-name")
    assert fuzz.outcomes == {"bootstraps live": 1}
