"""What a server spends its time with, by py-spy, which looks into it from outside."""

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
"""Samples in a second; more would slow the server down."""

KINDS = (
    ("signing and verifying", r"keys/|envelope.py:.*|_verify|is_signed_by"),
    ("the log (SQLite)", r"bus/_log|bus/_schema|bus/embedded|bus/_tails"),
    ("the origin's files", r"store/local"),
    ("snapshots", r"tufline/snapshot|tufline_publisher/origin|tufline_signer/commits"),
    ("bins", r"tufline/bins|tufline_signer|tufline/metadata/target.py:1[5-9]"),
    ("publishing", r"tufline_publisher"),
    ("REST and checks", r"tufline_ingest|aiohttp|tufline/canonical|tufline/model"),
)
"""A sample is of the first kind that its innermost frames of ours show."""

_OURS = re.compile("|".join(pattern for _, pattern in KINDS))


@dataclass
class Profile:
    """What was seen."""

    seconds: float = 0.0
    samples: Counter[str] = field(default_factory=Counter)

    @property
    def limits(self) -> str:
        """Say it in words."""
        total = sum(self.samples.values())
        if not total:
            return "no profile: py-spy may not look into the server (run as root)"
        shares = ", ".join(f"{kind} {100 * count / total:.0f} %" for kind, count in self.samples.most_common(5))
        return f"{total / RATE / self.seconds:.1f} cores busy: {shares}"


def kind_of(stack: str) -> str:
    """Say what a stack works on."""
    for frame in reversed(stack.split(";")):
        if _OURS.search(frame):
            return next(kind for kind, pattern in KINDS if re.search(pattern, frame))
    return "else"


@contextmanager
def profiled(process: int) -> Iterator[Profile]:
    """Profile a process; what comes out is complete after the block."""
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
    """Say how much memory a process has had at most."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def cpu_seconds(process: int) -> float:
    """Say how much processor time a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
