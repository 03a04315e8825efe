"""The command line's own promises: exit codes, errors with advice, and help."""

import asyncio
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.bus.headers import ESCAPE
from tufline.config.settings import DEFAULT_PARTITIONS
from tufline.records import topics
from tufline_cli import main
from tufline_cli.exit_codes import MEANINGS, Exit, Group
from tufline_ingest.inbox.reject import KEPT_BYTES
from tufline_testing.checkout import ROOT
from tufline_testing.inbox import all_moved, change, event, moving, structured
from tufline_testing.log import announce_bootstrap, bootstrap_record
from tufline_testing.server import dev, run_tufline

REFERENCE = (ROOT / "docs" / "reference" / "command-line.md").read_text()

FAILURES = {
    "no such command": (["frobnicate"], Exit.USAGE, "No such command"),
    "nothing to add": (["add"], Exit.USAGE, "Missing argument"),
    "server not there": (["status", "--url", "http://127.0.0.1:9"], Exit.UNREACHABLE, "can't be reached"),
    "header without colon": (["status", "--url", "http://127.0.0.1:9", "-H", "x"], Exit.USAGE, "is not a valid header"),
    "URL without a scheme": (["status", "--url", "localhost:8080"], Exit.USAGE, "give a URL such as http://"),
    "an empty URL": (["add", "bad.toml", "--url", ""], Exit.USAGE, "give a URL such as http://"),
    "URL of another protocol": (["remove", "a", "--url", "ftp://x"], Exit.USAGE, "give a URL such as http://"),
    "a port above 65535 in the URL": (["status", "--url", "http://x:99999"], Exit.USAGE, "give a URL such as http://"),
    "an empty URL to submit to": (["init", "--out", "o", "--submit", ""], Exit.USAGE, "give a URL such as http://"),
    "a header name with other letters": (["status", "--url", "http://127.0.0.1:9", "-H", "ü: b"], Exit.USAGE, "'ü' is not a valid header"),
    "header of two lines": (["status", "--url", "http://127.0.0.1:9", "-H", "a: b\nc: d"], Exit.USAGE, "is not a valid header value"),
    "header of other letters": (["status", "--url", "http://127.0.0.1:9", "-H", "a: €"], Exit.USAGE, "is not a valid header value"),
    "file not there": (["add", "a=missing", "--url", "http://127.0.0.1:9"], Exit.FAILED, "can't be read"),
    "an unknown kind of source": (["import", "source.txt", "--url", "http://127.0.0.1:9"], Exit.USAGE, "source.txt can't be imported"),
    "a CSV file that is not UTF-8": (["import", "latin.csv", "--url", "http://127.0.0.1:9"], Exit.USAGE, "is not UTF-8"),
    "bad number of bins": (["init", "--out", "o", "--bins", "1000"], Exit.USAGE, "power of two"),
    "threshold that can't be met": (["init", "--out", "o", "--root-threshold", "9"], Exit.USAGE, "can't be met"),
    "a lifetime of zero days": (["init", "--out", "o", "--bins-days", "0"], Exit.USAGE, "not in the range 1<=x<=3650"),
    "lifetime of ages": (["init", "--out", "o", "--root-days", "9999999999"], Exit.USAGE, "not in the range 1<=x<=3650"),
    "an excessive lifetime": (["keys", "rotate", "d", "--new-version", "--days", "99999999"], Exit.USAGE, "not in the range 1<=x<=3650"),
    "bad bins of dev": (["dev", "--data", "d", "--bins", "3", "--port", "0"], Exit.CONFIGURATION, "power of two"),
    "a port above 65535": (["dev", "--data", "d", "--port", "99999"], Exit.CONFIGURATION, "ingest.port"),
    "unknown setting": (["config", "--config", "bad.toml"], Exit.CONFIGURATION, "did you mean ingest.port?"),
    "no TOML": (["config", "--config", "no.toml"], Exit.CONFIGURATION, "is not valid TOML"),
    "unknown bus": (["serve", "--config", "bus.toml"], Exit.CONFIGURATION, "is not a valid bus URL"),
    "a port of Kafka above 65535": (["topics", "apply", "--config", "port.toml"], Exit.CONFIGURATION, "ports from 1 to 65535"),
    "no place for keys": (
        ["init", "--out", "/proc/x", "--bins", "2", "--unencrypted"],
        Exit.FAILED,
        "/proc/x can't be used: No such file or directory",
    ),
    "no place for data": (["dev", "--data", "/proc/x", "--bins", "2"], Exit.FAILED, "/proc/x can't be used: No such file or directory"),
    "a replay without a record": (["rejected", "replay"], Exit.USAGE, "which record to replay"),
    "a replay of a partition without an offset": (["rejected", "replay", "--partition", "0"], Exit.USAGE, "which record to replay"),
    "a replay of one and all": (["rejected", "replay", "--partition", "0", "--offset", "0", "--all"], Exit.USAGE, "which record to replay"),
    "an audit of the topic without files": (["audit", "verify", "--topic"], Exit.USAGE, "add --file"),
    "root not there": (["verify", "http://127.0.0.1:9", "--root", "missing.json"], Exit.USAGE, "does not exist"),
    "a root that is not metadata": (["verify", "http://127.0.0.1:9", "--root", "bad.toml"], Exit.FAILED, "root.json"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), FAILURES.values(), ids=FAILURES)
def test_failures_say_what_happened(tmp_path: Path, arguments: list[str], code: Exit, message: str) -> None:
    """A command that fails ends with its documented exit code and a sentence, never with a traceback."""
    (tmp_path / "bad.toml").write_text("[ingest]\nprot = 1\n")
    (tmp_path / "no.toml").write_text("[[[")
    (tmp_path / "bus.toml").write_text("[bus]\nurl = 'postgres:x'\n")
    (tmp_path / "port.toml").write_text("[bus]\nurl = 'kafka:127.0.0.1:99999999'\n")
    (tmp_path / "source.txt").write_text("x")
    (tmp_path / "latin.csv").write_bytes("path,length,sha256\nä,1,2\n".encode("latin-1"))
    done = run_tufline(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root.json of a repository that was never bootstrapped."""
    directory = tmp_path_factory.mktemp("ceremony")
    run_tufline("init", "--out", "ceremony", "--unencrypted", "--bins", "4", cwd=directory)
    return directory / "ceremony" / "root.json"


CLIENT_FAILURES = {
    "URL without a scheme": ("localhost:8081/metadata", Exit.USAGE, "give a URL such as http://"),
    "an empty URL": ("", Exit.USAGE, "give a URL such as http://"),
    "nobody there": (
        "http://127.0.0.1:9/",
        Exit.UNREACHABLE,
        "can't be fetched: [Errno 111] Connection refused\nhint: check that the server is running",
    ),
    "nothing there": ("{empty}", Exit.UNREACHABLE, "status 404\nhint: pass the URL of the directory that has timestamp.json"),
    "cut off": ("{cut}", Exit.UNREACHABLE, "can't be fetched: IncompleteRead"),
}


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Give the same answer to every request, and then close the connection."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", [["verify"], ["download", "a"]], ids=["verify", "download"])
@pytest.mark.parametrize(("url", "code", "message"), CLIENT_FAILURES.values(), ids=CLIENT_FAILURES)
def test_a_failed_fetch_is_reported_with_its_reason(
    tmp_path: Path, root: Path, command: list[str], url: str, code: Exit, message: str
) -> None:
    """Verify and download report why they can't read a URL, with suitable advice."""
    name, *targets = command
    no_file, cut_off = b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nabc"
    with answering(no_file) as empty, answering(cut_off) as cut:
        done = run_tufline(name, url.format(empty=empty, cut=cut), *targets, "--root", root, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


DOWNLOAD_FAILURES = {
    "two of one name": (["a/x", "b/x"], "a/x and b/x would both be saved to x"),
    "no name": ([""], "names no file"),
    "name of a directory": (["a/.."], "names no file"),
    "no place": (["a", "--out", "bad/out"], "bad/out can't be created: Not a directory"),
    "targets URL without a scheme": (["a", "--targets-url", "cdn.example.org"], "give a URL such as http://"),
}


@pytest.mark.parametrize(("arguments", "message"), DOWNLOAD_FAILURES.values(), ids=DOWNLOAD_FAILURES)
def test_download_is_refused_before_anything_is_fetched(tmp_path: Path, root: Path, arguments: list[str], message: str) -> None:
    """A destination that can't be written is reported first, even without a server."""
    (tmp_path / "bad").write_text("")
    done = run_tufline("download", "http://127.0.0.1:9/", *arguments, "--root", root, cwd=tmp_path)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (Exit.USAGE, True, False), done.stderr


UNUSABLE = {
    "origin": ({"TUFLINE_PUBLISHER__DIRECTORY": "/proc/x"}, Exit.FAILED, "choose another one in publisher.directory"),
    "log": ({"TUFLINE_BUS__URL": "embedded:/proc/x/log.db"}, Exit.CONFIGURATION, "choose another path in bus.url"),
    "files": ({"TUFLINE_WEB__TARGETS": "/nodir"}, Exit.CONFIGURATION, "web.targets is set to /nodir, which is not a directory"),
}


@pytest.mark.parametrize(("settings", "code", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_server_that_can_not_start_prints_only_the_reason(tmp_path: Path, settings: dict[str, str], code: Exit, message: str) -> None:
    """An unusable place ends the process with one sentence that tells what to do, and without a message about a requested stop."""
    done = run_tufline("serve", cwd=tmp_path, env={"TUFLINE_INGEST__PORT": "0", "TUFLINE_WEB__PORT": "0", **settings})
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "by itself" not in done.stderr
    assert "process.stopping" not in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_environment_variable_is_an_error(tmp_path: Path) -> None:
    """A misspelt setting in the environment is reported, with the intended one."""
    done = run_tufline("config", cwd=tmp_path, env={"TUFLINE_INGEST__PROT": "1"})
    assert done.returncode == Exit.CONFIGURATION
    assert "did you mean TUFLINE_INGEST__PORT?" in done.stderr


def test_every_exit_code_is_documented() -> None:
    """The help lists every exit code, and so does the reference."""
    shown = re.sub(r"\s+", " ", CliRunner().invoke(main, ["--help"]).output)
    for code in Exit:
        assert f"{int(code)} {MEANINGS[code]}" in shown
        assert f"| {int(code)} | {MEANINGS[code]} |" in REFERENCE


NEEDS_BUS = {
    "topics apply": ["topics", "apply"],
    "rejected list": ["rejected", "list"],
    "rejected replay": ["rejected", "replay", "--all"],
    "fsck": ["fsck"],
    "audit verify": ["audit", "verify"],
}
NEEDS_VAULT = {"keys create": ["keys", "create", "transit/k"], "keys show": ["keys", "show", "transit/k"]}


@pytest.mark.parametrize("arguments", [*NEEDS_BUS.values(), *NEEDS_VAULT.values()], ids=[*NEEDS_BUS, *NEEDS_VAULT])
def test_an_unreachable_broker_or_vault_has_its_exit_code(tmp_path: Path, arguments: list[str]) -> None:
    """If no broker or no Vault answers, the exit code says so, and does not report a refusal."""
    (tmp_path / "tufline-data" / "origin" / "metadata").mkdir(parents=True)
    vault = {"TUFLINE_VAULT__ADDRESS": "http://127.0.0.1:9", "TUFLINE_VAULT__AUTH": "token", "TUFLINE_VAULT__TOKEN": "t"}
    env = {"TUFLINE_BUS__URL": "kafka:127.0.0.1:9", **vault, "TUFLINE_VAULT__RETRY": "0"}
    done = run_tufline(*arguments, cwd=tmp_path, env=env)
    assert (done.returncode, "Traceback" in done.stderr) == (Exit.UNREACHABLE, False), done.stderr
    assert "error: " in done.stderr


def test_a_full_disk_is_reported() -> None:
    """A full disk during a command is reported in one sentence; errors that are not about files or disks keep their traceback."""
    group = Group("group")
    group.command("fill")(lambda: Path("/dev/full").write_bytes(b"x"))
    group.command("connect")(lambda: socket.create_connection(("127.0.0.1", 9)))
    full = CliRunner().invoke(group, ["fill"])
    assert (full.exit_code, "error: the disk can't be used: No space left on device" in full.output) == (Exit.FAILED, True)
    assert isinstance(CliRunner().invoke(group, ["connect"]).exception, ConnectionRefusedError)


CONTEXT = click.Context(main)
HEAVY = {"aiohttp", "aiokafka", "boto3", "hvac", "pydantic", "securesystemslib", "tuf", "tufline_ingest", "tufline_signer"}
"""Packages that take long to import, and that a client of a server does not need."""


@pytest.mark.parametrize("command", ["add", "remove", "import", "status"])
def test_a_client_starts_at_once(command: str) -> None:
    """The commands for a script that calls them a hundred times import nothing that they do not need."""
    code = f"import sys, click, tufline_cli as cli; cli.main.get_command(click.Context(cli.main), {command!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tufline_cli.commands.artifacts" in done.stdout.split()
    assert HEAVY.intersection(done.stdout.split()) == set()


def test_libraries_of_key_services_are_loaded_when_a_key_needs_them() -> None:
    """The services start without the client libraries of KMS and Vault; threads that use one for the first time get the whole of it."""
    code = """
import sys, threading
import tufline_cli.commands.serve
from securesystemslib.signer import _aws_signer, _vault_signer
assert not {"boto3.session", "hvac.v1"}.intersection(sys.modules)
found = []
threads = [threading.Thread(target=lambda: found.append(_aws_signer.boto3.client)) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
import boto3
assert found == 8 * [boto3.client] and boto3.session.Session and _vault_signer.hvac.Client
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", main.list_commands(CONTEXT))
def test_every_command_has_help(command: str) -> None:
    """Every command and each of its options explains itself."""
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    found = main.get_command(CONTEXT, command)
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command} {parameter.opts} has no help"
    assert os.linesep in shown.output


@pytest.mark.slow
def test_fsck_wants_the_server_stopped(tmp_path: Path) -> None:
    """A running server and a missing log are reported by fsck; otherwise it exits with 0, or with 1 and the name of the faulty file."""
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
    for nowhere in (tmp_path, tmp_path / "missing"):
        nothing = run_tufline("fsck", "--data", nowhere, cwd=tmp_path)
        assert (nothing.returncode, "there is no log at" in nothing.stderr) == (3, True)
    assert not (tmp_path / "log.db").exists()


async def fill_inbox(path: Path, *messages: Message) -> None:
    """Append records to the inbox of a log, and run ingest until they are moved."""
    bus = await open_embedded(path, topics.topics(DEFAULT_PARTITIONS))
    if await bus.end(topics.ADMIN, 0) == 0:
        await announce_bootstrap(bus, bootstrap_record(path.parent / "keys", DEFAULT_PARTITIONS))
    async with moving(bus):
        await bus.append(messages)
        await all_moved(bus)
    await bus.close()


@pytest.mark.slow
def test_rejected_is_listed_and_replayed(tmp_path: Path) -> None:
    """Rejected records are listed with reasons, as JSON byte for byte; they are replayed singly or together, and then not listed again."""
    log = tmp_path / "log.db"
    (tmp_path / "tufline.toml").write_text("[bus]\nurl = 'embedded:log.db'\n")
    bad = structured(event(change("/bad"), id="1"))
    binary = Message(topics.INBOX, "k", b"\xff", 1, {"h": b"\xfe".decode(errors=ESCAPE)})
    cut = Message(topics.INBOX, "k", b"v" * (KEPT_BYTES + 1), 1)
    asyncio.run(fill_inbox(log, bad, binary, cut))
    listed = run_tufline("rejected", "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    first, second, third = listed.stdout.splitlines()
    assert first.startswith("0/0 20")
    assert "can't be accepted: the path is absolute" in first
    assert second.startswith("1/0 ")
    assert "(only its beginning is kept)" in third
    shown = [json.loads(line) for line in run_tufline("rejected", "list", "--json", cwd=tmp_path).stdout.splitlines()]
    assert (shown[0]["value"], shown[0]["inbox"]) == (bad.value.decode(), {"partition": 0, "offset": 0})
    assert (shown[1]["value"], shown[1]["headers"]) == ({"base64": "/w=="}, [["h", {"base64": "/g=="}]])
    one = run_tufline("rejected", "replay", "--partition", "1", "--offset", "0", cwd=tmp_path)
    assert (one.returncode, one.stdout) == (0, "1 records are in the inbox again\n"), one.stderr
    missing = run_tufline("rejected", "replay", "--partition", "1", "--offset", "7", cwd=tmp_path)
    assert (missing.returncode, "there is no rejected record" in missing.stderr) == (1, True)
    whole = run_tufline("rejected", "replay", "--partition", "1", "--offset", "1", cwd=tmp_path)
    assert (whole.returncode, "only the start of the record" in whole.stderr) == (1, True)
    every_one = run_tufline("rejected", "replay", "--all", cwd=tmp_path)
    assert (every_one.returncode, every_one.stdout) == (1, "1 records are in the inbox again\n")
    assert "of 1 records only the beginning was kept" in every_one.stderr
    asyncio.run(fill_inbox(log))
    again = [json.loads(line) for line in run_tufline("rejected", "list", "--json", cwd=tmp_path).stdout.splitlines()]
    assert sorted(str(record["value"]) for record in again if not record["is_cut"]) == sorted(
        str(record["value"]) for record in [shown[0], shown[1]]
    )


@pytest.mark.slow
def test_held_changes_wait_for_a_publish_and_frozen_ones_for_a_thaw(tmp_path: Path) -> None:
    """Held artifacts are not live until tufline publish; after tufline freeze a change waits, and status says so, until tufline thaw."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with dev(tmp_path / "data", "--bins", "4") as server:

        def said(*arguments: str, code: int = 0) -> str:
            done = run_tufline(*arguments, "--url", server.api, cwd=tmp_path)
            assert done.returncode == code, done.stderr
            return done.stdout

        def is_live(path: str) -> bool:
            updater = server.updater(tmp_path / "client")
            return updater.get_targetinfo(path) is not None

        assert "1 held until tufline publish" in said("add", "a", "--hold")
        assert not is_live("a")
        assert "1 changes, until tufline publish" in said("status")
        assert "published; 1 bins have changed" in said("publish")
        assert is_live("a")
        assert "1 removals held until tufline publish" in said("remove", "a", "--hold")
        assert is_live("a")
        assert "wait until tufline thaw" in said("freeze")
        assert "accepted; task" in said("add", "b", "--no-wait")
        assert "until they are thawed" in " ".join(said("status").split())
        assert not is_live("b")
        assert "thawed" in said("thaw")
        said("publish")
        assert "1 live" in said("add", "b")
        assert (is_live("a"), is_live("b")) == (False, True)
