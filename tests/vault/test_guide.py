"""The guide for operators: every command in docs/how-to/vault.md is run unchanged, on a real OpenBao."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hvac.exceptions import InternalServerError

from tufline_testing.server import TUFLINE, run_tufline, serve
from tufline_testing.servers.openbao import bao
from tufline_testing.servers.vault_server import VaultServer

pytestmark = pytest.mark.slow

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "vault.md").read_text()
EXAMPLE = "https://vault.example.org:8200"


@pytest.fixture
def new_vault(vault_parts: None, tmp_path: Path) -> VaultServer:
    """Make an OpenBao in which nothing is enabled yet."""
    return VaultServer(tmp_path / "vault")


QUICK = {"TUFLINE_SIGNER__RELEASE_DELAY": "0", "TUFLINE_SIGNER__RELEASE_GRACE": "1", "TUFLINE_SIGNER__RENEWAL_CHECK": "0.5"}


def commands(section: str) -> str:
    """Return the commands of a section of the guide."""
    return "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def run_commands(text: str, vault: VaultServer, path: Path, **environment: str) -> None:
    """Run commands as a shell does."""
    programs = f"{bao().parent}:{Path(TUFLINE).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text.replace(EXAMPLE, vault.url)],
        cwd=path,
        env={**os.environ, **environment, "PATH": programs, "BAO_TOKEN": vault.root_token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guide_from_start_to_finish(new_vault: VaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide results in a repository that is signed in Vault, with a token that has only the printed policy."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    try:
        new_vault.start()
        beginning, change = GUIDE.split("## 4. Change the key")
        assert commands(beginning).count("tufline ") >= 3
        run_commands(commands(beginning), new_vault, tmp_path)
        assert (tmp_path / "secret_id").stat().st_mode & 0o077 == 0
        found = re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
        assert found is not None
        toml = found[1].replace(EXAMPLE, new_vault.url).replace("the content of role_id", (tmp_path / "role_id").read_text())
        others = "[bus]\nurl = 'embedded:log.db'\n[ingest]\nport = 0\n[web]\nport = 0\n[publisher]\ndirectory = 'origin'\n"
        (tmp_path / "tufline.toml").write_text(others + toml)
        with serve(tmp_path) as server:
            api, client = server.api, server.client
            payload = json.loads((tmp_path / "ceremony" / "bootstrap.json").read_text())
            answer = client.request("POST", "/api/v1/bootstrap/", payload)
            assert client.wait_for_task(answer["data"]["task_id"], deadline=float("inf"))["status"]
            assert run_tufline("add", "a=tufline.toml", "--url", api, cwd=tmp_path).stdout == "1 live\n"
            old = client.request("GET", "/api/v1/trust")["keyids"]["timestamp"]
            admin = {"ADDRESS": new_vault.url, "AUTH": "token", "TOKEN": new_vault.root_token}
            said = commands(change.partition("## What happens when")[0])
            assert said.count("tufline ") >= 5
            here = re.sub(r"(tufline keys (?:rotate|retire))", rf"\1 --url {api}", said)
            run_commands(here, new_vault, tmp_path, **{f"TUFLINE_VAULT__{name}": value for name, value in admin.items()})
            assert run_tufline("add", "b=tufline.toml", "--url", api, cwd=tmp_path).stdout == "1 live\n"
            assert set(client.request("GET", "/api/v1/trust")["keyids"]["timestamp"]).isdisjoint(old)
        with pytest.raises(InternalServerError, match="minimum"):
            new_vault.admin.secrets.transit.sign_data("tufline", hash_input="aGFzaA==", key_version=1, mount_point="transit")
    finally:
        new_vault.stop()
