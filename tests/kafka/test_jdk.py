"""If no Java is installed, one is fetched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tufline_testing.servers.parts import PARTS

pytestmark = pytest.mark.slow


def test_a_java_is_fetched_where_there_is_none(tmp_path: Path) -> None:
    """Without Java on the path or in JAVA_HOME, one is installed from the locked wheel, and runs."""
    env = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {
        "PATH": str(tmp_path),
    }
    command = [sys.executable, "-c", "from tufline_testing.servers.jdk import java; print(java())"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip(f"NO WHEEL OF A JAVA, so nothing is shown about it: {said.stderr[-500:]}")
    program = Path(said.stdout.strip())
    assert PARTS in program.parents
    version = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stderr
    assert "openjdk" in version
