"""The command line's own promises: exit codes, errors with advice, and help that the README repeats."""

import json
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from helpers.server import dev, run_tufline
from tufline.cli import main
from tufline.cli.exits import MEANINGS, Exit

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()

FAILURES = {
    "no such command": (["frobnicate"], Exit.USAGE, "No such command"),
    "nothing to add": (["add"], Exit.USAGE, "Missing argument"),
    "server not there": (["status", "--url", "http://127.0.0.1:9"], Exit.UNREACHABLE, "can't be reached"),
    "header without colon": (["status", "--url", "http://127.0.0.1:9", "-H", "x"], Exit.USAGE, "is no header"),
    "file not there": (["add", "a=missing", "--url", "http://127.0.0.1:9"], Exit.FAILED, "can't be read"),
    "source of no known kind": (["import", "source.txt", "--url", "http://127.0.0.1:9"], Exit.UNREACHABLE, "can't be reached"),
    "bad number of bins": (["init", "--out", "o", "--bins", "1000"], Exit.USAGE, "power of two"),
    "threshold that can't be met": (["init", "--out", "o", "--root-threshold", "9"], Exit.USAGE, "can't be met"),
    "lifetime of nothing": (["init", "--out", "o", "--bins-days", "0"], Exit.USAGE, "one day or more"),
    "bad bins of dev": (["dev", "--data", "d", "--bins", "3", "--port", "0"], Exit.CONFIGURATION, "power of two"),
    "port in no range": (["dev", "--data", "d", "--port", "99999"], Exit.CONFIGURATION, "ingest.port"),
    "unknown setting": (["config", "--config", "bad.toml"], Exit.CONFIGURATION, "did you mean ingest.port?"),
    "no TOML": (["config", "--config", "no.toml"], Exit.CONFIGURATION, "is not TOML"),
    "unknown bus": (["serve", "--config", "bus.toml"], Exit.CONFIGURATION, "is no bus"),
    "root not there": (["verify", "http://127.0.0.1:9", "--root", "missing.json"], Exit.USAGE, "does not exist"),
    "root of nonsense": (["verify", "http://127.0.0.1:9", "--root", "bad.toml"], Exit.FAILED, "root.json"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), FAILURES.values(), ids=FAILURES)
def test_failures_say_what_happened(tmp_path: Path, arguments: list[str], code: Exit, message: str) -> None:
    """A command that fails ends with its documented exit code and a sentence, never with a traceback."""
    (tmp_path / "bad.toml").write_text("[ingest]\nprot = 1\n")
    (tmp_path / "no.toml").write_text("[[[")
    (tmp_path / "bus.toml").write_text("[bus]\nurl = 'postgres:x'\n")
    (tmp_path / "source.txt").write_text("x")
    done = run_tufline(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_environment_variable_is_an_error(tmp_path: Path) -> None:
    """A setting that is misspelt in the environment is said, with the one that was meant."""
    done = run_tufline("config", cwd=tmp_path, env={"TUFLINE_INGEST__PROT": "1"})
    assert done.returncode == Exit.CONFIGURATION
    assert "did you mean TUFLINE_INGEST__PORT?" in done.stderr


def test_every_exit_code_is_documented() -> None:
    """The help lists every exit code, and so does the README."""
    shown = re.sub(r"\s+", " ", CliRunner().invoke(main, ["--help"]).output)
    for code in Exit:
        assert f"{int(code)} {MEANINGS[code]}" in shown
        assert f"| {int(code)} | {MEANINGS[code]} |" in README


def test_readme_shows_the_real_help() -> None:
    """The README's list of commands is the one of ``tufline --help``."""
    context = click.Context(main, info_name="tufline", max_content_width=120, terminal_width=120)
    listed = main.get_help(context)
    commands = listed[listed.index("Commands:") : listed.index("Exit codes:")].strip()
    assert commands in README, f"the README has to show:\n{commands}"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help(command: str) -> None:
    """Every command and each of its options explains itself."""
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command} {parameter.opts} has no help"
    assert os.linesep in shown.output


@pytest.mark.slow
def test_fsck_wants_the_server_stopped(tmp_path: Path) -> None:
    """While the server runs, or where nothing is, fsck says so; of what is there it exits with 0 or 1, and names the file."""
    data = tmp_path / "data"
    with dev(data, "--bins", "4") as server:
        running = run_tufline("fsck", "--data", data, cwd=tmp_path)
        assert (running.returncode, "open in another process" in running.stderr) == (3, True)
        assert server.stop() == 0
    clean = run_tufline("fsck", "--data", data, cwd=tmp_path)
    assert clean.returncode == 0, clean.stdout
    assert clean.stdout.startswith("no difference: ")
    (data / "origin" / "metadata" / "1.bins-2.json").unlink()
    broken = run_tufline("fsck", "--data", data, "--json", cwd=tmp_path)
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["findings"] == ["origin: 1.bins-2.json is missing"]
    nothing = run_tufline("fsck", "--data", tmp_path, cwd=tmp_path)
    assert (nothing.returncode, "there is no log at" in nothing.stderr) == (3, True)
    assert not (tmp_path / "log.db").exists()
