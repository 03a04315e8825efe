"""The audit of a real server: running, killed, stopped properly, and with a key that somebody else has, too."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Timestamp

from tufline_cli.exit_codes import Exit
from tufline_testing.server import artifact, dev, run_tufline, start_dev

pytestmark = pytest.mark.slow


def test_the_audit_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running server is verified by its file and published metadata, a stopped one by its log; both find a planted timestamp."""
    data, file = tmp_path / "data", tmp_path / "audit.log"
    monkeypatch.setenv("TUFLINE_SIGNER__AUDIT_FILE", str(file))
    first = start_dev(data, "--bins", "4")
    first.kill()
    with dev(data, "--bins", "4") as server:
        task = server.client.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a", 1)]})["data"]["task_id"]
        server.client.wait_for_task(task, time.monotonic() + 60)
        running = run_tufline("audit", "verify", "--file", file, "--metadata", server.metadata, cwd=tmp_path)
        assert running.returncode == 0, running.stdout + running.stderr
        assert "no finding: " in running.stdout
        assert running.stdout.count("has no end after number") == 2
        busy = run_tufline("audit", "verify", "--data", data, cwd=tmp_path)
        assert (busy.returncode, "open in another process" in busy.stderr) == (Exit.CONFIGURATION, True)
        plant(data)
        alarmed = run_tufline("audit", "verify", "--file", file, "--metadata", server.metadata, cwd=tmp_path)
        assert (alarmed.returncode, alarmed.stdout.count("ALARM: timestamp version ")) == (Exit.FAILED, 1), alarmed.stdout
        assert "the files of all signers, from the start" in alarmed.stderr
        assert server.stop() == 0
    stopped = run_tufline("audit", "verify", "--data", data, "--file", file, "--topic", "--json", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stdout
    report = json.loads(stopped.stdout)
    assert report["findings"] == []
    assert sum("has no end after number" in note for note in report["notes"]) == 1, "the killed one has no end, the other has"
    directory = run_tufline("audit", "verify", "--data", data, "--metadata", data / "origin" / "metadata", cwd=tmp_path)
    assert (directory.returncode, directory.stdout.count("ALARM: ")) == (Exit.FAILED, 1), directory.stdout
    assert "hint: somebody else may use the online key" in directory.stderr


def plant(data: Path) -> None:
    """Publish a timestamp signed by an attacker who has a copy of the online key."""
    path = data / "origin" / "metadata" / "timestamp.json"
    root = Metadata[Root].from_bytes((data / "keys" / "root.json").read_bytes()).signed
    (keyid,) = root.roles[Timestamp.type].keyids
    pem = (data / "keys" / "online" / "online.pem").read_bytes()
    forged = Metadata[Timestamp].from_bytes(path.read_bytes())
    forged.signed.version += 1000
    forged.sign(CryptoSigner(load_pem_private_key(pem, None), root.keys[keyid]))  # type: ignore[arg-type]
    temporary = path.with_suffix(".planted")
    temporary.write_bytes(forged.to_bytes())
    temporary.rename(path)


def test_standard_output_may_be_the_copy(tmp_path: Path) -> None:
    """With '-' the records are lines on standard output, among the server's own few lines; an interrupt, too, ends the chain properly."""
    data, out = tmp_path / "data", tmp_path / "data.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUFLINE_SIGNER__AUDIT_FILE", "-")
        server = start_dev(data, "--bins", "4")
    try:
        os.kill(server.process.pid, signal.SIGINT)
        assert server.process.wait(20) == 0
    finally:
        server.process.kill()
        server.process.wait()
    lines = [line for line in out.read_bytes().splitlines() if b'"chain":' in line]
    (tmp_path / "audit.log").write_bytes(b"".join(line + b"\n" for line in lines))
    verified = run_tufline("audit", "verify", "--data", data, "--file", "audit.log", "--topic", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout
    assert "note: " not in verified.stdout
