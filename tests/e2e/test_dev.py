"""``tufline dev`` while its bootstrap is not published."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tufline.client.rest import Client
from tufline.trust import ceremony
from tufline.trust.ceremony import Ceremony, Plan
from tufline_testing.server import TUFLINE, dev, run_tufline, wait_until

pytestmark = pytest.mark.slow


@contextmanager
def started(data: Path, log: Path) -> Iterator[tuple[str, str]]:
    """Run ``tufline dev``; provide the URL of its REST API, and its first output. At the end it must still run, and stop properly."""
    with log.open("wb") as output:
        process = subprocess.Popen([TUFLINE, "dev", "--data", data, "--port", "0", "--web-port", "0"], stdout=output, stderr=output)
    try:
        wait_until(lambda: "stop with Ctrl-C" in log.read_text() or process.poll() is not None, "it does not start")
        assert process.poll() is None, log.read_text()
        yield json.loads((data / "ready.json").read_text())["api"], log.read_text()
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def state(api: str) -> Any:
    """Return the state of the bootstrap."""
    return Client(api).request("GET", "/api/v1/bootstrap/")["data"].get("state")


def test_ready_means_that_changes_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the first publication is, ``ready.json`` comes after it: the next command adds a file at once."""
    monkeypatch.setenv("TUFLINE_SIGNER__COMMIT_DELAY", "3")
    with dev(tmp_path / "data", "--bins", "4") as server:
        assert state(server.api) == "finished"


def write_unfinished(held: Ceremony, data: Path) -> None:
    """Write the keys of a repository, and a bootstrap to which one signature of each offline role is missing."""
    ceremony.write(held, data / "keys", None)
    file = data / "keys" / "bootstrap.json"
    payload = json.loads(file.read_text())
    for metadata in payload["metadata"].values():
        del metadata["signatures"][1:]
    file.write_text(json.dumps(payload))


def test_a_bootstrap_that_waits_for_signatures(tmp_path: Path) -> None:
    """It keeps running, also when started again, and names the keys and the command, until the last signature starts the repository."""
    data = tmp_path / "data"
    held = ceremony.hold(Plan(4))
    write_unfinished(held, data)
    keyids = {role: [key.signer.public_key.keyid for key in keys] for role, keys in (("root", held.root), ("targets", held.targets))}
    for number in range(2):
        with started(data, tmp_path / f"{number}.log") as (api, said):
            for role, of_role in keyids.items():
                assert f"{role}: 1 more of {', '.join(sorted(keyid[:12] for keyid in of_role[1:]))}\n" in said
            assert f"tufline sign --url {api} --key KEY" in said
            assert state(api) == "signing"
    with started(data, tmp_path / "last.log") as (api, _):
        keys = [part for role in keyids for part in ("--key", data / "keys" / "offline" / f"{role}-2.pem")]
        signed = run_tufline("sign", "--url", api, "--yes", *keys, cwd=tmp_path)
        assert signed.returncode == 0, signed.stderr
        wait_until(lambda: state(api) == "finished", "the bootstrap is not published")
    with started(data, tmp_path / "again.log") as (api, said):
        assert "ready; stop with Ctrl-C" in said
        assert "waits for signatures" not in said
