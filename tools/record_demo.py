"""Records ``make demo`` and draws the recording: ``python -m tools.record_demo``; with ``--draw`` the last recording is drawn again.

docs/images/demo.cast is the recording, docs/images/demo.svg shows it; see ``tools.recordings``. The demo runs with an empty home, as for a
new user.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Final

from tools.recordings import COLUMNS, Event, RecordingError, main
from tufline_testing.checkout import ROOT

CAST: Final = ROOT / "docs" / "images" / "demo.cast"
PICTURE: Final = ROOT / "docs" / "images" / "demo.svg"

COMMAND: Final = "make demo"


def record() -> list[Event]:
    """Run ``make demo`` as a new user does, and record what it prints.

    Returns:
        The lines, with their times.

    Raises:
        RecordingError: if the demo fails.
    """
    shutil.rmtree(ROOT / ".demo", ignore_errors=True)
    events: list[Event] = []
    with tempfile.TemporaryDirectory() as home:
        # Use colours as on a terminal, but no progress bars, because the picture has only lines.
        terminal = {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "HOME": home}
        env = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | terminal
        began = time.monotonic()
        command = [shutil.which("make") or "make", "--no-print-directory", "demo"]
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                events.append((round(time.monotonic() - began, 2), line))
                print(line, end="", flush=True)
    if process.returncode:
        raise RecordingError(f"make demo ended with {process.returncode}")
    return events


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], record, CAST, PICTURE, COMMAND))
