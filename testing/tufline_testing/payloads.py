"""Bootstrap payloads, made as ``tufline init`` makes them."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key

from tufline.trust import ceremony
from tufline.trust.ceremony import Ceremony, Plan


def make_bootstrap(
    key_dir: Path,
    *,
    bins: int = 16,
    mode: str = ceremony.RSTUF,
    scheme: str = "ecdsa",
    days: Mapping[str, int] | None = None,
    online: Mapping[str, Key] | None = None,
    now: datetime | None = None,
) -> Ceremony:
    """Make keys and a payload signed by two of three; if no online key is passed, a new one is put into the key directory."""
    held = ceremony.hold(Plan(bins, mode, scheme, days={**ceremony.DEFAULT_DAYS, **(days or {})}, online=online or {}), now)
    if held.online is not None:
        ceremony.write_private(key_dir / ceremony.ONLINE_KEY_FILE, held.online.pem)
    return held
