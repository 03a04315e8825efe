"""A short run of the coverage-guided fuzzer; make fuzz and make nightly run it longer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tufline_testing.checkout import ROOT


def fuzz(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tufline_testing.fuzz.decoders", f"--found={tmp_path}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)


@pytest.mark.slow
def test_every_decoder_raises_documented_errors(tmp_path: Path) -> None:
    """No coverage-guided input makes a decoder raise an undocumented error, or take a long time."""
    pytest.importorskip("atheris", reason="NO ATHERIS for this platform, so nothing is shown by coverage-guided inputs")
    done = fuzz(tmp_path, "--runs=20000")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counted = re.search(r"(\d+) inputs", done.stdout)
    assert counted is not None
    assert int(counted[1]) >= 20_000


@pytest.mark.slow
def test_the_fuzzer_sees_an_undocumented_error(tmp_path: Path) -> None:
    """An input that makes a decoder raise something else ends the run with an error, and is kept to be read again."""
    pytest.importorskip("atheris", reason="NO ATHERIS for this platform, so nothing is shown by coverage-guided inputs")
    faulty = tmp_path / "faulty.py"
    faulty.write_text(
        "import sys\nfrom tufline_testing.fuzz import decoders, targets\n"
        "decoders.TARGETS = {'faulty': targets.Target(bytes.decode, (), (b'text',))}\nsys.exit(decoders.main())\n"
    )
    command = [sys.executable, str(faulty), "--runs=20000", f"--found={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode != 0
    assert "UnicodeDecodeError" in done.stdout + done.stderr
    assert list(tmp_path.glob("crash-*"))
