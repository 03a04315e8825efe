"""No test is skipped under ``.ci/run``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import pytest


@pytest.fixture
def part():
    pytest.skip("NO PART")


{}
def test_something(request):
    {}
"""

WAYS = {
    "in the test": ("", 'pytest.skip("NO PART")'),
    "in a fixture": ("", 'request.getfixturevalue("part")'),
    "by a mark": ('@pytest.mark.skipif(True, reason="NO PART")', "pass"),
    "by an import": ("", 'pytest.importorskip("nothing_of_this_name", reason="NO PART")'),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_skip_is_a_failure_under_ci_run(tmp_path: Path, way: str) -> None:
    """A test that skips for any reason fails under .ci/run with that reason; elsewhere it is skipped."""
    (tmp_path / "conftest.py").write_text("from tufline_testing.skips import pytest_runtest_makereport, pytest_terminal_summary\n")
    (tmp_path / "test_it.py").write_text(PROGRAM.format(*WAYS[way]))
    for is_ci, code, outcome in ((False, 0, "1 skipped"), (True, 1, "no test may be skipped under .ci/run")):
        env = {name: value for name, value in os.environ.items() if name not in {"CI_RUN", "PYTEST_ADDOPTS"}}
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
        done = subprocess.run(command, env=env | ({"CI_RUN": "1"} if is_ci else {}), capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
        assert outcome in done.stdout
        assert "NO PART" in done.stdout
        assert ("NOT TESTED: 1 tests were skipped" in done.stdout) is not is_ci
