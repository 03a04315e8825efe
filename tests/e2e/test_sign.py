"""``tufline sign --url``: a key holder signs what is pending on a server, or learns why there is nothing to sign."""

import copy
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from tufline.trust import key_files
from tufline.trust.ceremony import make_key, write_private
from tufline_cli.exit_codes import Exit
from tufline_testing.server import TUFLINE, dev, run_tufline, serve, wait_until

pytestmark = pytest.mark.slow


def test_a_key_holder_signs_what_waits(tmp_path: Path) -> None:
    """Each wrong use gets advice, nothing is signed without a yes, and the question lists the changes."""
    offline = tmp_path / "data" / "keys" / "offline"
    with dev(tmp_path / "data", "--bins", "4") as server:
        to_server = ("sign", "--url", server.client.url)

        def refused(*arguments: str | Path) -> tuple[int, str]:
            done = run_tufline(*arguments, cwd=tmp_path)
            return done.returncode, done.stderr

        first, second, foreign = (offline / name for name in ("root-1.pem", "root-2.pem", "targets-1.pem"))
        code, said = refused("sign", "--key", first)
        assert (code, "it is not clear what to sign" in said) == (Exit.USAGE, True), said
        code, said = refused(*to_server, "--yes", "--key", first, "--root", tmp_path / "data" / "keys" / "root.json")
        assert (code, "--root is for files only" in said) == (Exit.USAGE, True), said
        code, said = refused(*to_server, "--yes", "--key", first)
        assert (code, "nothing waits for signatures" in said) == (Exit.FAILED, True), said

        trusted = server.client.request("GET", "/api/v1/trust")["root"]["metadata"]
        root = Metadata[Root].from_dict(copy.deepcopy(trusted))
        root.signed.version = 2
        gone = CryptoSigner(load_pem_private_key((offline / "root-3.pem").read_bytes(), None)).public_key.keyid
        root.signed.revoke_key(gone, "root")
        root.sign(CryptoSigner(load_pem_private_key(first.read_bytes(), None)))
        server.client.request("POST", "/api/v1/metadata/", {"metadata": {"root": root.to_dict()}})

        code, said = refused(*to_server, "--yes", "--key", foreign)
        assert (code, "can't sign the versions that wait there" in said) == (Exit.FAILED, True), said
        asked = subprocess.run(
            [TUFLINE, *to_server, "--key", second], input="n\n", cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert asked.returncode != 0
        assert f"root version 2, valid until {root.signed.expires:%Y-%m-%d}; root loses the key {gone[:12]}" in asked.stdout
        assert server.client.request("GET", "/api/v1/metadata/sign")["data"]["missing"]["root"]
        again = run_tufline(*to_server, "--yes", "--key", first, cwd=tmp_path)
        assert (again.returncode, "root version 2: 1 more of root of root 1" in again.stdout) == (0, True), again
        # The second signature completes it, so the third key has nothing to sign any more.
        third = offline / "root-3.pem"
        done = run_tufline(*to_server, "--yes", "--key", first, "--key", second, "--key", third, cwd=tmp_path)
        assert (done.returncode, "root version 2: complete" in done.stdout) == (0, True), done
        assert "data" not in server.client.request("GET", "/api/v1/metadata/sign")


def test_a_ceremony_goes_on_over_the_server(tmp_path: Path) -> None:
    """A ceremony with one signature is submitted; the server waits, and with the signatures of another person the repository starts."""
    (tmp_path / "answers.yaml").write_text("root_holders: [ada, ben, cy]\nbins: 4\n")
    settings = (
        "[bus]\nurl = 'embedded:log.db'\n[ingest]\nport = 0\n[web]\nport = 0\n[signer]\nkey_dir = '.'\n[publisher]\ndirectory = 'origin'\n"
    )
    (tmp_path / "tufline.toml").write_text(settings)

    def run(*arguments: str | Path) -> str:
        done = run_tufline(*arguments, cwd=tmp_path, env={"TUFLINE_SIGNER__KEY_DIR": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("ceremony", "c", "--answers", "answers.yaml")
    for name in ("ada", "ben", "cy", "online"):
        made = make_key("ed25519")
        write_private(tmp_path / f"{name}.pem", made.pem)
        (tmp_path / "c" / "keys" / f"{name}.pub.json").write_text(key_files.to_json([made.signer.public_key]))
    (tmp_path / "c" / "online" / "all.json").write_text(run("keys", "prove", "fn:online.pem"))
    run("ceremony", "c")
    files = (tmp_path / "c" / "sign" / "root.json", tmp_path / "c" / "sign" / "targets.json")
    run("sign", *files, "--key", "ada.pem", "--signatures", "c/signatures/ada.json")
    with serve(tmp_path) as server:
        said = run("ceremony", "c", "--submit", server.api)
        assert "root: 1 more of ben, cy must sign" in said
        assert "the server waits for more signatures" in said
        assert server.client.request("GET", "/api/v1/bootstrap/")["data"]["state"] == "signing"
        assert run("sign", "--url", server.api, "--yes", "--key", "cy.pem").count("complete") == 2
        wait_until(lambda: server.client.request("GET", "/api/v1/bootstrap/")["data"].get("state") == "finished", "it does not start")
