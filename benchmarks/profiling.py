"""Profiles a server with py-spy, from outside the process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RATE = 50
"""Samples per second; more would slow the server down."""

KINDS = (
    ("signing and verifying", r"keys/|envelope.py:.*|_verify|is_signed_by"),
    ("the log (SQLite)", r"bus/_log|bus/_schema|bus/embedded|bus/_tails"),
    ("the origin's files", r"store/local"),
    ("snapshots", r"tufline/snapshot|tufline_publisher/origin|tufline_signer/commits"),
    ("bins", r"tufline/bins|tufline_signer|tufline/metadata/target.py:1[5-9]"),
    ("publishing", r"tufline_publisher"),
    ("REST and checks", r"tufline_ingest|aiohttp|tufline/canonical|tufline/model"),
)
"""A sample counts for the first kind that matches, from our innermost frame outwards."""

_OURS = re.compile("|".join(pattern for _, pattern in KINDS))


@dataclass
class Profile:
    """A profile of a process."""

    seconds: float = 0.0
    samples: Counter[str] = field(default_factory=Counter)

    @property
    def limits(self) -> str:
        """The limiting factors, in words."""
        total = sum(self.samples.values())
        if not total:
            return "no profile: py-spy can't read the server's memory (run as root)"
        shares = ", ".join(f"{kind} {100 * count / total:.0f} %" for kind, count in self.samples.most_common(5))
        return f"{total / RATE / self.seconds:.1f} cores busy: {shares}"


def kind_of(stack: str) -> str:
    """Return the kind of work of a stack."""
    for frame in reversed(stack.split(";")):
        if _OURS.search(frame):
            return next(kind for kind, pattern in KINDS if re.search(pattern, frame))
    return "else"


@contextmanager
def profiled(process: int) -> Iterator[Profile]:
    """Profile a process during the block; the result is complete after it."""
    profile = Profile()
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "stacks"
        spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        command = [
            str(spy),
            "record",
            "-p",
            str(process),
            "-f",
            "raw",
            "-t",
            "-r",
            str(RATE),
            "-d",
            "3600",
            "-o",
            str(output),
            "--nonblocking",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            began = time.perf_counter()
            try:
                yield profile
            finally:
                profile.seconds = time.perf_counter() - began
                running.send_signal(signal.SIGINT)
                running.wait()
        if output.exists():
            for line in output.read_text().splitlines():
                stack, _, count = line.rpartition(" ")
                profile.samples[kind_of(stack)] += int(count)


def peak_mb(process: int) -> float:
    """Return the peak memory of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
