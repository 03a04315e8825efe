"""The first steps of ``make demo``, before anything is installed."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import demo_environment
from tools.demo_environment import packages, plan, progress
from tufline_testing.checkout import ROOT
from tufline_testing.servers import parts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_plan_says_what_and_how_long() -> None:
    """Before anything is done, the demo prints what it fetches and installs, where, and how long each step takes."""
    first = plan(40, is_fetched=False, is_installed=False)
    for text in ("needs 40 Python packages", "15 seconds, longer on a slow network: 20 MB", "tufline/parts", ".demo/venv", "to play "):
        assert text in first
    again = plan(40, is_fetched=True, is_installed=False)
    assert "to fetch them    nothing" in again
    assert "MB" not in again
    assert plan(40, is_fetched=True, is_installed=True) == "The demo's packages are installed in .demo/venv. The demo takes 15 seconds."


def test_packages_are_those_of_the_locks() -> None:
    """The count is that of the packages to be fetched: each once, without its hashes."""
    assert {"tuf", "aiohttp", "hatchling"} <= {package.partition("==")[0] for package in packages()}
    assert len({package.partition("==")[0] for package in packages()}) == len(packages())


def test_progress_is_one_line_on_a_terminal() -> None:
    """A terminal shows one line, which changes as the work goes on."""
    out = Terminal()
    with progress("fetching", 40, out) as report:
        report("tuf")
        report("aiohttp")
    assert "\n" not in out.getvalue().removesuffix("\n")
    assert "fetching: 2 of 40, aiohttp" in out.getvalue()


def test_progress_is_a_few_lines_in_a_log() -> None:
    """A log gets some lines as the work goes on, the first one immediately."""
    out = io.StringIO()
    with progress("fetching", 40, out) as report:
        report("tuf")
        assert out.getvalue() == "fetching: 1 of 40\n"
        for number in range(39):
            report(str(number))
    assert out.getvalue().splitlines()[-1] == "fetching: 40 of 40"
    assert len(out.getvalue().splitlines()) == demo_environment.LINES_A_LOG + 1


def test_it_starts_without_any_package() -> None:
    """The standard library is enough, because the module that installs everything can't need what it installs."""
    command = [sys.executable, "-S", "-c", "import tools.demo_environment"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "testing"}, check=True)


@pytest.mark.slow
def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If the packages can't be fetched, the last lines of pip are shown, nothing stays in the cache, and the exit code is 1."""
    monkeypatch.setattr(parts, "PARTS", tmp_path / "parts")
    for name, path in {"VENV": "venv", "INSTALLED": "venv/.installed", "WHEELS": "wheels"}.items():
        monkeypatch.setattr(demo_environment, name, tmp_path / path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert demo_environment.main() == 1
    said = capsys.readouterr()
    assert "to fetch them" in said.out
    assert "the demo can't be installed" in said.err
    assert "No matching distribution found for" in said.err
    assert not list((tmp_path / "parts").glob("demo*"))
    assert not (tmp_path / "venv" / ".installed").exists()
