"""``make test`` tells what this machine lacks before it starts, and what is not tested for that reason."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tufline_testing import prerequisites
from tufline_testing.checkout import ROOT
from tufline_testing.prerequisites import PART_LIST, PROGRAMS, Part, Program, fetch, lacking
from tufline_testing.servers import parts
from tufline_testing.servers.jdk import java
from tufline_testing.servers.parts import MissingPartError, kept, only_look

APT_GET = """\
#!/bin/sh
echo "$@" >> {directory}/asked
test "$2" = update || for command in mvn node npm softhsm2-util strace; do cp {true} {directory}/$command; done
"""
"""Stands in for Debian's package manager: records what it is asked, and installs programs that do nothing."""

BROKEN_APT_GET = "#!/bin/sh\necho 'no mirror answers' >&2; exit 100\n"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine without programs and with an empty cache; return the directory of its programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cp"):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CI_RUN", raising=False)
    monkeypatch.setattr(parts, "PARTS", tmp_path / "parts")
    java.cache_clear()  # another test may have found one
    return programs


def install_apt_get(directory: Path, text: str) -> None:
    (directory / "apt-get").write_text(text)
    (directory / "apt-get").chmod(0o755)


def test_missing_prerequisites_are_listed_first(tmp_path: Path) -> None:
    """Without packages and root, the list has each missing package, what is not tested, and the command; only CI fails."""
    env = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": "testing"}
    for ci, code in (({}, 0), ({"CI_RUN": "1"}, 1)):
        command = [sys.executable, "-S", "-m", "tufline_testing.prerequisites", "programs"]
        done = subprocess.run(command, cwd=ROOT, env=env | ci, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "sudo apt-get install maven nodejs npm softhsm2" in done.stdout
        assert "  maven: NOT TESTED without it: the services on Apache Kafka" in done.stdout
        assert "To be fetched or built, once" in done.stdout
        assert all(part.name in done.stdout for part in PART_LIST)


def test_root_installs_what_is_missing(bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As root the missing packages are installed with one command, and are then no longer missing."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("CI_RUN", "1")
    install_apt_get(bare, APT_GET.format(directory=bare, true=shutil.which("true", path=os.defpath)))
    assert prerequisites.main(["programs"]) == 0
    asked = (bare / "asked").read_text().splitlines()
    assert asked[0] == "-qq update"
    assert asked[1].startswith("-qq install --yes maven nodejs npm softhsm2")
    assert "This machine lacks" not in capsys.readouterr().out


@pytest.mark.parametrize(("ci", "password"), [("1", False), ("1", True), ("", False)], ids=["CI", "CI with a password", "a user"])
def test_ci_installs_with_sudo(bare: Path, monkeypatch: pytest.MonkeyPatch, ci: str, *, password: bool) -> None:
    """In CI, where the user is not root, packages are installed with sudo if it asks for no password; a user's sudo is never used."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("CI_RUN", ci)
    install_apt_get(bare, APT_GET.format(directory=bare, true=shutil.which("true", path=os.defpath)))
    (bare / "env").symlink_to(shutil.which("env", path=os.defpath) or "env")
    (bare / "true").symlink_to(shutil.which("true", path=os.defpath) or "true")
    (bare / "sudo").write_text(f'#!/bin/sh\ntest "$1" = -n || exit 2\nshift\n{"exit 1" if password else "exec env"} "$@"\n')
    (bare / "sudo").chmod(0o755)
    may_install = ci == "1" and not password
    assert prerequisites.main(["programs"]) == (0 if may_install or not ci else 1)
    assert (bare / "asked").exists() is may_install


def test_a_failed_installation_is_reported(bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If packages can't be installed, the reason is shown and the rest is tested; CI fails."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install_apt_get(bare, BROKEN_APT_GET)
    assert prerequisites.main(["programs"]) == 0
    said = capsys.readouterr().out
    assert "no mirror answers" in said
    assert "softhsm2: NOT TESTED without it" in said
    monkeypatch.setenv("CI_RUN", "1")
    assert prerequisites.main(["programs"]) == 1


def test_without_venv_nothing_can_go_on(bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A package without which nothing can be tested ends the run everywhere, with its name."""
    monkeypatch.setattr(prerequisites, "PROGRAMS", (Program("python3-venv", lambda: False),))
    assert prerequisites.main(["programs"]) == 1
    assert "python3-venv: NOT TESTED without it: anything" in capsys.readouterr().out


def test_a_part_that_fails_is_reported_with_what_it_leaves_untested(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that can't be fetched is reported with the reason and the untested guarantee; the others are fetched."""

    def fine() -> Path:
        return kept("fine", [ROOT / "Makefile"], lambda directory: (directory / "file").touch())

    (tuf_js,) = (part for part in PART_LIST if part.name == "tuf-js")
    failed = fetch([tuf_js, Part("fine", fine, "nothing")])
    assert list(failed) == ["tuf-js"]
    said = capsys.readouterr().out
    assert "fetching tuf-js … failed. NOT TESTED: that tuf-js reads what Tufline publishes" in said
    assert "apt-get install nodejs npm" in said
    assert "fetching fine … 0 s" in said
    assert not fetch([Part("fine", fine, "nothing")])
    assert capsys.readouterr().out == ""


def test_maven_is_not_missing_once_kafka_is_here(bare: Path) -> None:
    """A program that only fetches a part is not missing if the part is in the cache."""

    def part() -> Path:
        return kept("kafka", [ROOT / "Makefile"], lambda directory: (directory / "jar").touch())

    maven = Program("maven", lambda: False, "Kafka", (Part("Kafka", part, "Kafka"),))
    assert maven.is_missing
    part()
    assert not maven.is_missing
    assert lacking([], []) == []


def test_every_part_is_listed(bare: Path) -> None:
    """Every part that the harness or a test makes is fetched before the tests, and missing ones are named."""
    made = {
        name
        for folder in ("testing", "tests")
        for file in (ROOT / folder).rglob("*.py")
        if file != Path(__file__) and file.name != "test_parts.py"
        for name in re.findall(r"\b(?:kept|wheel|environment|_node_modules|_go_program)\(\"([\w-]+)\"", file.read_text())
    }
    listed = set()
    for part in PART_LIST:
        with only_look(), pytest.raises(MissingPartError) as caught:
            part.fetch()
        listed |= set(
            re.findall(r"(?:no node, which runs )?([\w.-]+?)(?:-\d\.\d+)?(?: has not been fetched yet|: apt-get)", str(caught.value))
        )
    # Two are fetched with what they build and run; Kafka's classes lack Java first.
    assert made - {"go", "node", "kafka-classes"} == listed


def test_every_package_that_a_message_advises_is_listed() -> None:
    """A package that a skipped test advises to install is one that ``make test`` installs as root."""
    packages = {program.package for program in PROGRAMS}
    for folder in ("testing", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            for advice in re.findall(r"apt-get install ([a-z0-9 -]+)\"", file.read_text()):
                assert set(advice.split()) <= packages, file


def test_make_test_lists_before_it_installs() -> None:
    """``make test`` lists what is missing first, then fetches, then tests; CI sets what makes each of these fail."""
    make = shutil.which("make")
    assert make is not None
    said = subprocess.run([make, "-n", "-B", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    places = [said.index(text) for text in ("prerequisites programs", "-m venv", "prerequisites parts", "ruff check", "-m pytest")]
    assert places == sorted(places)
    assert "export CI_RUN=1" in (ROOT / ".ci" / "run").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["jobs"]["test"]["env"] == {"CI_RUN": "1"}
