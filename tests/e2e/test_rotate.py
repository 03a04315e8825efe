"""``tufline keys rotate`` on a real server: an operator's commands, from creating the new key to retiring the old one."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tufline.trust import ceremony
from tufline_cli.exit_codes import Exit
from tufline_testing.offline import new_key_file
from tufline_testing.server import TUFLINE, Running, artifact, dev, lengths, run_tufline

pytestmark = pytest.mark.slow

QUICK = {"TUFLINE_SIGNER__RELEASE_DELAY": "1", "TUFLINE_SIGNER__RELEASE_GRACE": "3", "TUFLINE_SIGNER__RENEWAL_CHECK": "0.5"}


PAUSE_SECONDS = 0.05
"""Between two refreshes, in seconds: without it, one client keeps a processor busy."""


def keyids(server: Running) -> set[str]:
    """Return the keyids that signed the newest timestamp and snapshot."""
    said = server.client.request("GET", "/api/v1/trust")
    return {keyid for role in ("timestamp", "snapshot") for keyid in said["keyids"][role]}


@dataclass
class Rotation:
    """A rotation as an operator makes it."""

    path: Path
    mode: str
    server: Running

    @property
    def keys(self) -> Path:
        return self.path / "data" / "keys"

    @property
    def files(self) -> list[Path]:
        directory = self.path / "rotation"
        return [directory / "root.json", *([directory / "targets.json"] if self.mode == ceremony.PEP458 else [])]

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_tufline(*arguments, "--url", self.server.client.url, cwd=self.path)

    def rotate(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("keys", "rotate", "rotation", *more)

    def sign(self, *names: str) -> str:
        """Sign all files with offline keys, and return the output."""
        options = [word for name in names for word in ("--key", self.keys / "offline" / name)]
        done = run_tufline("sign", *self.files, *options, cwd=self.path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def refreshing(self) -> Iterator[list[str]]:
        """Refresh continuously as a client that has seen everything, and return its errors."""
        failures: list[str] = []
        stop = threading.Event()

        def refresh() -> None:
            while not stop.is_set():
                try:
                    if lengths(self.server, self.path / "client", ["a"]) != {"a": 1}:
                        failures.append("a is not there")
                except Exception as error:  # noqa: BLE001 (any error of a client is a finding)
                    failures.append(f"{type(error).__name__}: {error}")
                stop.wait(PAUSE_SECONDS)

        client = threading.Thread(target=refresh)
        client.start()
        try:
            yield failures
        finally:
            stop.set()
            client.join()


def add(server: Running, path: str, length: int) -> None:
    """Add an artifact and wait until it is live."""
    task = server.client.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact(path, length)]})["data"]["task_id"]
    assert server.client.wait_for_task(task, time.monotonic() + 60)["status"]


def prepare(rotation: Rotation) -> None:
    """Start and sign; a step that is run too early reports what is missing, and changes nothing."""
    said = rotation.rotate()
    assert (said.returncode, "the new key is missing" in said.stderr) == (Exit.USAGE, True), said.stderr
    said = rotation.rotate("--new", new_key_file(rotation.keys, "second"))
    assert (said.returncode, "tufline sign" in said.stdout) == (0, True), said
    said = rotation.rotate()
    assert (said.returncode, "signatures are missing" in said.stderr) == (Exit.FAILED, True), said.stderr
    assert "root version 2: 1 more of root of root 1, 1 more of root of root 2" in rotation.sign("root-1.pem")
    wrong = run_tufline("sign", rotation.files[0], "--key", rotation.keys / "online" / "second.pem", cwd=rotation.path)
    assert (wrong.returncode, "can't sign any of these files" in wrong.stderr) == (Exit.FAILED, True), wrong.stderr
    others = ["targets-1.pem", "targets-3.pem"] if rotation.mode == ceremony.PEP458 else []
    assert rotation.sign("root-2.pem", *others).count("complete") == len(rotation.files)
    assert rotation.server.client.request("GET", "/api/v1/trust")["root"]["pending"] == 1
    early = rotation.run("keys", "retire", "rotation")
    assert (early.returncode, "still needed" in early.stderr) == (Exit.FAILED, True), early.stderr


def give(rotation: Rotation) -> None:
    """Submit to the server, stop in the middle, and continue."""
    command = [TUFLINE, "keys", "rotate", "rotation", "--url", rotation.server.client.url]
    with subprocess.Popen(command, cwd=rotation.path, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert "submitted" in first.stdout.readline()
        first.kill()
    said = rotation.rotate()
    assert (said.returncode, "no longer signs anything" in said.stdout) == (0, True), said


@pytest.mark.parametrize("mode", [ceremony.PEP458, ceremony.RSTUF])
def test_an_operator_changes_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Called repeatedly, the command introduces a new key; clients refresh continuously, and none fails."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    arguments = ["--bins", "4", "--mode", mode]
    with dev(tmp_path / "data", *arguments) as server:
        add(server, "a", 1)
        old = keyids(server)
        rotation = Rotation(tmp_path, mode, server)
        prepare(rotation)
        with rotation.refreshing() as failures:
            give(rotation)
        assert not failures, failures[:3]
        new = keyids(server)
        assert len(new) == 1
        assert new.isdisjoint(old)
        trust = server.client.request("GET", "/api/v1/trust")
        assert (trust["root"]["current"], trust["bins"][next(iter(new))]) == (2, 4)
        retired = rotation.run("keys", "retire", "rotation")
        assert (retired.returncode, "delete online.pem" in retired.stdout) == (0, True), retired
        (rotation.keys / "online" / "online.pem").unlink()
    with dev(tmp_path / "data", *arguments) as server:
        add(server, "b", 7)
        assert lengths(server, tmp_path / "client", ["a", "b"]) == {"a": 1, "b": 7}
