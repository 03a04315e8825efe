"""README, tutorial and guides: every command in them is run unchanged, except for the ports."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from tufline_testing import doc_blocks
from tufline_testing.checkout import ROOT
from tufline_testing.doc_blocks import blocks, programs
from tufline_testing.server import TUFLINE, Running, dev, serve, wait_until
from tufline_testing.servers.ports import free_port

pytestmark = pytest.mark.slow

DOCS = ROOT / "docs"
API, ORIGIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
TALKS_TO_A_SERVER = re.compile(
    r"(tufline (?:add|import|remove|status|publish|freeze|thaw|delegations (?:add|list|update|delete)|"
    r"keys rotate|root renew|root keys|targets renew|submit))"
)
QUICK = {"TUFLINE_SIGNER__RELEASE_DELAY": "0", "TUFLINE_SIGNER__RELEASE_GRACE": "1", "TUFLINE_SIGNER__RENEWAL_CHECK": "0.5"}


def run(text: str, server: Running | None, directory: Path) -> str:
    """Run commands like a shell, and return their output."""
    if server is not None:
        text = TALKS_TO_A_SERVER.sub(rf"\1 --url {server.api}", text)
        text = text.replace(API, server.api).replace(ORIGIN, server.metadata.removesuffix("/metadata/"))
    return doc_blocks.run(text, directory)


def run_python(text: str, server: Running, directory: Path) -> str:
    """Run a program, and return its output."""
    text = text.replace(API, server.api).replace(ORIGIN, server.metadata.removesuffix("/metadata/"))
    command = [sys.executable, "-W", "error", "-c", text]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme(tmp_path: Path) -> None:
    """The commands of README.md, pasted as they are, print what it shows; afterwards no server runs."""
    port, web_port = str(free_port()), str(free_port())
    text = "".join(programs(ROOT / "README.md")).replace("--targets files", f"--targets files --port {port} --web-port {web_port}")
    text = text.replace("8081", web_port).replace("tufline add", f"tufline add --url http://127.0.0.1:{port}")
    env = {**os.environ, "TMPDIR": str(tmp_path), "PATH": f"{Path(TUFLINE).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", f"exec 2>&1\n{text}wait"]
    shell = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, _ = shell.communicate(timeout=180)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert said == "".join(block.text for block in blocks(ROOT / "README.md") if block.language == "text")


def test_the_tutorial(tmp_path: Path) -> None:
    """The tutorial results in an index that refuses a changed file, accepts a new version, and is verified by a client."""
    make, start, tell, download, attack, publish, client, start_client, verify = programs(DOCS / "tutorials" / "first-repository.md")
    run(make, None, tmp_path)
    assert start == "tufline dev --targets index\n"
    with dev(tmp_path / "tufline-data", "--targets", tmp_path / "index") as server:
        assert "2 live, 0 refused" in run(tell, server, tmp_path)
        assert "downloads/hello-1.0.tar.gz" in run(download, server, tmp_path)
        refused = run(attack, server, tmp_path)
        assert "is not what the repository vouches for" in refused
        assert "refused\n" in refused
        assert not (tmp_path / "downloads" / "hello-1.0.tar.gz").exists()
        assert "no longer listed" in run(publish, server, tmp_path)
        assert (tmp_path / "downloads" / "hello-1.1.tar.gz").exists()
        (tmp_path / "client.py").write_text(client.replace(ORIGIN, server.metadata.removesuffix("/metadata/")))
        assert "verified: downloads/greet-1.0.tar.gz" in run(start_client, server, tmp_path)
        assert "verified: 2 targets" in run(verify, server, tmp_path)


def ceremony_of_three(directory: Path) -> tuple[str, list[str]]:
    """Run the tutorial of three key holders up to the start of the server, and return the rest of its commands."""
    decide, make, prove, prepare, sign, configure, start, *rest = programs(DOCS / "tutorials" / "three-key-holders.md")
    assert run(decide, None, directory).count("tufline keys generate") == 3
    for text in (make, prove):
        run(text, None, directory)
    assert "root: 2 more of ada, ben, cy must sign" in run(prepare, None, directory)
    said = run(sign, None, directory)
    assert "enough people signed" in said
    assert said.count("2 of ") == 4, "each of two people is shown who may sign what"
    run(configure, None, directory)
    assert start == "tufline serve\n"
    config = directory / "server" / "tufline.toml"
    config.write_text(re.sub(r"port = \d+", "port = 0", config.read_text()))
    return said, rest


def test_the_tutorial_of_three_key_holders(tmp_path: Path) -> None:
    """Three people on three machines start an index, from which a client downloads a verified file; private keys stay where they are."""
    _, (submit, verify, renew) = ceremony_of_three(tmp_path)
    for name in ("ada", "ben", "cy"):
        assert {file.name for file in tmp_path.rglob("*.pem") if b"ENCRYPTED" in file.read_bytes() and file.parent.name == name} == {
            f"{name}.pem"
        }
    assert not any(b"PRIVATE" in file.read_bytes() for file in (tmp_path / "ceremony").rglob("*") if file.is_file())
    with serve(tmp_path / "server") as server:
        assert "1 live, 0 refused" in run(submit, server, tmp_path)
        said = run(verify, server, tmp_path)
        assert "downloads/hello-1.0.tar.gz" in said
        assert "verified: 1 targets in 16 bins" in said
        said = run(renew, server, tmp_path)
        assert "root version 2 waits for signatures: 1 more of" in said
        assert "root version 2: complete" in said


def replace_offline_keys(commands: list[str], server: Running, directory: Path) -> None:
    """Run the last part of the guide to keys: published roots list the new keys in place of the old ones, targets are renewed."""
    make, name, replace, renew, files, check = commands
    offline = directory / "ceremony" / "offline"
    before = {role: keyid_of(offline / f"{role}-3.pem") for role in ("root", "targets")}
    for text in (make, name):
        run(text, server, directory)
    said = run(replace, server, directory)
    assert "root version 3 waits for signatures" in said
    assert f"targets loses the key {before['targets'][:12]}" in said
    assert "root version 3: complete" in said
    assert "targets version 3: complete" in run(renew, server, directory)
    published(server, root=3, targets=3)
    said = run(files, server, directory)
    assert "root version 4 is accepted" in said
    published(server, root=4, targets=3)
    trusted = server.client.request("GET", "/api/v1/trust")["root"]["metadata"]["signed"]["roles"]
    after = {role: keyid_of(offline / f"{role}-4.pem") for role in ("root", "targets")}
    for role, keys in {role: trusted[role]["keyids"] for role in before}.items():
        assert len(keys) == 3
        assert after[role] in keys
        assert before[role] not in keys
    assert "verified: 2 targets in 16 bins" in run(check, server, directory)


def published(server: Running, **versions: int) -> None:
    """Wait until versions of root and targets are published."""

    def there() -> bool:
        trust = server.client.request("GET", "/api/v1/trust")
        return {role: trust[role]["current"] for role in versions} == versions

    wait_until(there, f"{versions} are not published")


def sign_together(server: Running, directory: Path) -> None:
    """Run the guide to signatures from several machines: the second signature completes the version, and it is published."""
    submit, sign, ask = programs(DOCS / "how-to" / "sign-together.md")
    run(submit, server, directory)
    assert '"missing"' in run(ask, server, directory)
    said = run(sign, server, directory)
    assert re.search(r"root version 5, valid until [0-9-]+\nroot version 5: complete", said), said
    assert "No metadata pending signing available" in run(ask, server, directory)
    published(server, root=5)


def keyid_of(file: Path) -> str:
    """Return the keyid of an offline key."""
    passphrase = (file.parents[2] / "passphrase").read_bytes().strip()
    private = load_pem_private_key(file.read_bytes(), passphrase)
    return CryptoSigner(private).public_key.keyid


def test_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guides result in a repository with its own keys that verifies, a rotated online key, other offline keys, and a working backup."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    page = DOCS / "how-to" / "one-machine.md"
    make, begin, sign, finish, forget, *replace = programs(DOCS / "how-to" / "keys.md")
    backup, restore = programs(DOCS / "how-to" / "backup.md")
    ceremony, settings, start, bootstrap, check, fsck = programs(page)
    run(ceremony, None, tmp_path)
    assert {path.name for path in (tmp_path / "ceremony").iterdir()} == {"offline", "online", "root.json", "bootstrap.json"}
    (toml,) = [block.text for block in blocks(page) if block.language == "toml"]
    (tmp_path / "tufline.toml").write_text(re.sub(r"port = \d+", "port = 0", toml))
    assert "tufline.toml" in run(settings, None, tmp_path)
    assert start == "tufline serve\n"
    with serve(tmp_path) as server:
        run(bootstrap, server, tmp_path)
        said = run(check, server, tmp_path)
        assert "1 live" in said
        assert "verified: 1 targets in 16 bins" in said
        old = server.client.request("GET", "/api/v1/trust")["keyids"]["timestamp"]
        run(make, None, tmp_path)
        run(begin, server, tmp_path)
        assert run(sign, None, tmp_path).count("complete") == 2
        assert "no longer signs anything" in run(finish, server, tmp_path)
        run(forget, server, tmp_path)
        run("tufline add second.json", server, tmp_path)
        assert set(server.client.request("GET", "/api/v1/trust")["keyids"]["timestamp"]).isdisjoint(old)
        replace_offline_keys(replace, server, tmp_path)
        sign_together(server, tmp_path)
    run(fsck, None, tmp_path)
    run(backup, None, tmp_path)
    run(restore, None, tmp_path)
    shutil.rmtree(tmp_path / "origin")
    with serve(tmp_path) as server:
        run("tufline add tufline.toml=second.json", server, tmp_path)
        assert "verified: 2 targets in 16 bins" in run(check, server, tmp_path)


def test_integration_over_rest(tmp_path: Path) -> None:
    """The guide's programs find the example's file and remove it, import others, change lifetimes, and renew what the signer signs."""
    ask, remove, many, change, renew = programs(DOCS / "how-to" / "rest.md")
    file = tmp_path / "index" / "docs" / "hello.txt"
    file.parent.mkdir(parents=True)
    file.write_text("hello")
    with dev(tmp_path / "data", "--bins", "4") as server:
        example = ROOT / "examples" / "rest_client.py"
        assert run(f"python '{example}' {API} index", server, tmp_path) == "live: docs/hello.txt\n"
        assert "2cf24dba" in run_python(ask, server, tmp_path)
        run_python(remove, server, tmp_path)
        assert "2 live, 0 refused" in run(many, server, tmp_path)
        assert run_python(change, server, tmp_path) == "10\n"
        renewed = run_python(renew, server, tmp_path)
        assert all(role in renewed for role in ("timestamp", "snapshot", "bins"))


def test_custom_roles(tmp_path: Path) -> None:
    """The guide's commands make a role in which a client finds the artifact, and take it away again."""
    add, artifact, show, update, delete = programs(DOCS / "how-to" / "delegations.md")[0].splitlines()
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / "demo-2.0.tar.gz").write_text("nightly")
    path = "nightly/demo-2.0.tar.gz"
    with dev(tmp_path / "data", "--bins", "4", "--mode", "rstuf") as server:
        assert "nightly is published" in run(add, server, tmp_path)
        assert "1 live" in run(artifact, server, tmp_path)
        assert "nightly/*/*" in run(show, server, tmp_path)
        assert server.client.request("GET", f"/api/v1/artifacts/{path}")["role"] == "nightly"
        assert server.updater(tmp_path / "first").get_targetinfo(path) is not None
        assert "nightly is published" in run(update, server, tmp_path)
        assert server.updater(tmp_path / "second").get_targetinfo(path) is not None
        assert "nightly: deleted" in run(delete, server, tmp_path)
        assert server.updater(tmp_path / "third").get_targetinfo(path) is None


def test_hold_publish_and_freeze(tmp_path: Path) -> None:
    """The guide's commands publish a release with all its files, and stop changes for a while."""
    hold, stop = programs(DOCS / "how-to" / "hold.md")
    (tmp_path / "dist").mkdir()
    for name in ("demo-1.0.tar.gz", "demo-2.0.tar.gz", "demo-2.0-py3-none-any.whl"):
        (tmp_path / "dist" / name).write_text(name)
    with dev(tmp_path / "data", "--bins", "4") as server:
        run("tufline add dist/demo-1.0.tar.gz", server, tmp_path)
        said = run(hold, server, tmp_path)
        assert said.count("1 held until tufline publish") == 2
        assert "published; " in said
        updater = server.updater(tmp_path / "client")
        assert updater.get_targetinfo("dist/demo-2.0.tar.gz") is not None
        assert updater.get_targetinfo("dist/demo-1.0.tar.gz") is None
        stopped = run(stop, server, tmp_path)
        assert "frozen since" in stopped
        assert "thawed" in stopped
