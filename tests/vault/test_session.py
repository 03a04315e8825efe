"""The signer's login to a real OpenBao: all login methods, tokens that expire, and the errors."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tufline.config.settings import VaultConfig
from tufline.errors import ConfigError, KeyUnavailableError
from tufline.keys.vault import provision
from tufline.keys.vault.key import open_vault_key
from tufline.keys.vault.session import VaultSession
from tufline.metadata.key_uris import VaultKeyName
from tufline_testing.certificates import make_certificates
from tufline_testing.log import eventually
from tufline_testing.servers.tcp_proxy import proxy
from tufline_testing.servers.vault_server import MOUNT, VaultServer, vault_server
from tufline_testing.vaults import admin_config, make_key, new_name, session, signer_config

pytestmark = pytest.mark.slow


async def can_sign(config: VaultConfig, name: VaultKeyName, public: Any) -> bool:
    """Sign once, in a separate session."""
    async with session(config) as opened:
        return len(await (await open_vault_key(name.uri, public, opened)).sign_many([b"x"])) == 1


async def test_token_from_a_file(vault: VaultServer, tmp_path: Path) -> None:
    """A token from a file is used to log in; when it is revoked, the token that is then in the file is used."""
    name, public = await make_key(vault)
    vault.admin.sys.create_or_update_policy("by-token", provision.policy([name]))

    def write_token() -> str:
        token: str = vault.admin.auth.token.create(policies=["by-token"], ttl="1h")["auth"]["client_token"]
        (tmp_path / "token").write_text(token + "\n")
        return token

    first = write_token()
    config = VaultConfig.model_validate({"address": vault.url, "auth": "token", "token_file": tmp_path / "token", "retry": 10})
    async with session(config) as opened:
        key = await open_vault_key(name.uri, public, opened)
        write_token()
        vault.admin.auth.token.revoke(first)

        async def signs() -> bool:
            try:
                return bool(await key.sign_many([b"x"]))
            except KeyUnavailableError as error:
                assert "does not permit" in str(error)  # noqa: PT017 (until a new login may be tried)
                return False

        await eventually(signs)


async def test_service_account_of_kubernetes(vault: VaultServer, tmp_path: Path) -> None:
    """The token of a Kubernetes service account logs in after Vault had the cluster review it."""
    name, public = await make_key(vault)
    jwt = tmp_path / "jwt"
    jwt.write_text(service_account_token("signer"))
    make_certificates(tmp_path, "cluster")
    with cluster_that_reviews(jwt.read_text()) as url:
        admin = vault.admin
        admin.sys.enable_auth_method("kubernetes", path="k8s/one")
        cluster = {"kubernetes_host": url, "kubernetes_ca_cert": (tmp_path / "ca.pem").read_text(), "disable_local_ca_jwt": True}
        admin.write_data("auth/k8s/one/config", data=cluster)
        admin.sys.create_or_update_policy("by-kubernetes", provision.policy([name]))
        role = {
            "bound_service_account_names": "signer",
            "bound_service_account_namespaces": "tufline",
            "token_policies": "by-kubernetes",
            "audience": "vault",
        }
        admin.write_data("auth/k8s/one/role/tufline", data=role)
        config = {"address": vault.url, "auth": "kubernetes", "auth_mount": "k8s/one", "role": "tufline", "jwt_file": jwt, "retry": 0}
        assert await can_sign(VaultConfig.model_validate(config), name, public)
        jwt.write_text(service_account_token("somebody"))
        with pytest.raises(KeyUnavailableError, match="refuses the login by kubernetes"):
            await can_sign(VaultConfig.model_validate(config), name, public)


def service_account_token(name: str) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    about = {"namespace": "tufline", "serviceaccount": {"name": name, "uid": "u1"}}
    now = int(time.time())
    lives = {"iat": now, "nbf": now, "exp": now + 3600}
    claims = {"aud": ["vault"], **lives, "sub": f"system:serviceaccount:tufline:{name}", "kubernetes.io": about}
    return f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{part(claims)}.{base64.urlsafe_b64encode(b'x' * 64).decode().rstrip('=')}"


@contextmanager
def cluster_that_reviews(token: str) -> Iterator[str]:
    """Run the endpoint of a cluster that Vault asks to review a token."""

    class Reviewer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            user = {"username": "system:serviceaccount:tufline:signer", "uid": "u1", "groups": ["system:serviceaccounts"]}
            status = {"authenticated": asked.get("spec", {}).get("token") == token, "user": user, "audiences": ["vault"]}
            body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reviewer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_namespace(vault: VaultServer) -> None:
    """Login and keys of a namespace are found only in that namespace."""
    vault.admin.write_data("sys/namespaces/team", data={})
    inside = vault.client(vault.root_token)
    inside.adapter.namespace = "team"
    inside.sys.enable_secrets_engine("transit", path=MOUNT)
    name = new_name()
    async with session(admin_config(vault, namespace="team")) as admin:
        public = await provision.create_key(admin, name, "ecdsa-p256")
    assert await can_sign(admin_config(vault, namespace="team"), name, public)
    with pytest.raises(KeyUnavailableError, match="can't read"):
        await can_sign(admin_config(vault), name, public)


async def test_tls_with_an_authority_of_its_own(vault_parts: None, tmp_path: Path) -> None:
    """With the right authority the server is trusted; without it, or with another, no token is sent, and the setting is named."""
    for directory in ("right", "wrong"):
        (tmp_path / directory).mkdir()
        make_certificates(tmp_path / directory, "vault")
    with vault_server(tmp_path / "vault", tmp_path / "right" / "vault.pem", tmp_path / "right" / "ca.pem") as server:
        name, public = await make_key(server)
        assert await can_sign(signer_config(server, name), name, public)
        before = server.audit_log.stat().st_size
        for ca_file in (None, tmp_path / "wrong" / "ca.pem"):
            with pytest.raises(KeyUnavailableError, match=r"not trusted: set vault\.ca_file"):
                await can_sign(admin_config(server, ca_file=ca_file), name, public)
        assert server.audit_log.stat().st_size == before


class Entries:
    """Vault's audit log entries from now on for a role's tokens."""

    def __init__(self, server: VaultServer, role: str) -> None:
        self._log = server.audit_log
        self._role = role
        self._read = self._log.stat().st_size
        self._paths: list[str] = []

    async def counted(self) -> tuple[int, int]:
        """Count the answers to logins and to renewals."""
        await asyncio.to_thread(self._go_on)  # the log has the entries of all tests, and is long: the session's loop must not wait for it
        return self._paths.count("auth/approle/login"), self._paths.count("auth/token/renew-self")

    def _go_on(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._read += len(line)
                entry = json.loads(line)
                if entry["type"] == "response" and not entry.get("error") and self._role in entry["auth"].get("token_policies", []):
                    self._paths.append(entry["request"]["path"])


@pytest.mark.parametrize("skew_seconds", [0, 86_400, -86_400])
async def test_token_is_renewed_ahead_of_its_end(vault: VaultServer, monkeypatch: pytest.MonkeyPatch, skew_seconds: int) -> None:
    """An idle signer's token is renewed repeatedly without another login, even if its clock differs from Vault's by a day."""
    name, public = await make_key(vault)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew_seconds)
    role = f"renewed{skew_seconds}"
    entries = Entries(vault, role)
    # It is renewed two seconds before its end, which is longer than a busy machine stalls.
    role_id, secret_id = vault.make_role(provision.policy([name]), role, "6s")
    async with session(VaultConfig.model_validate({"address": vault.url, "role": role_id, "secret_id": secret_id})) as opened:
        key = await open_vault_key(name.uri, public, opened)

        async def is_renewed() -> bool:
            return (await entries.counted())[1] >= 2

        await eventually(is_renewed)
        assert await key.sign_many([b"x"])
    assert (await entries.counted())[0] == 1


async def test_new_login_where_renewal_ends(vault: VaultServer) -> None:
    """Before a token reaches its maximum lifetime, there is a new login, and no call fails meanwhile."""
    name, public = await make_key(vault)
    entries = Entries(vault, "ends")
    role_id, secret_id = vault.make_role(provision.policy([name]), "ends", "3s", token_max_ttl="6s")
    async with session(VaultConfig.model_validate({"address": vault.url, "role": role_id, "secret_id": secret_id})) as opened:
        key = await open_vault_key(name.uri, public, opened)

        async def signs_after_two_logins() -> bool:
            assert await key.sign_many([b"x"])
            return (await entries.counted())[0] >= 3

        await eventually(signs_after_two_logins, step=0.2)


async def test_a_refusal_is_reported_without_the_secret(vault: VaultServer, tmp_path: Path) -> None:
    """A wrong login, an invalid token, and missing files are each reported in one sentence that shows no secret."""
    name, public = await make_key(vault)
    secret = "f00dbabe-0000-4000-8000-00000000beef"
    right = signer_config(vault, name)
    base: dict[str, Any] = {"address": vault.url, "role": right.role, "retry": 0}
    wrong: dict[str, dict[str, Any]] = {
        "refuses the login by approle": {"secret_id": secret},
        "does not permit to read the key": {"auth": "token", "token": secret},
        "vault.secret_id_file .* can't be read": {"secret_id_file": tmp_path / "nowhere"},
        "vault.jwt_file .* can't be read": {"auth": "kubernetes", "jwt_file": tmp_path / "nowhere"},
    }
    for reason, settings in wrong.items():
        with pytest.raises(KeyUnavailableError, match=reason) as raised:
            await can_sign(VaultConfig.model_validate(base | settings), name, public)
        assert secret not in str(raised.value)
        assert "\n" not in str(raised.value)


INCOMPLETE: dict[str, tuple[dict[str, Any], str]] = {
    "no role": ({"secret_id": "s"}, "vault.auth = approle needs vault.role"),
    "no secret": ({"role": "r"}, "vault.secret_id or vault.secret_id_file"),
    "no token": ({"auth": "token"}, "vault.token or vault.token_file"),
    "no role of kubernetes": ({"auth": "kubernetes"}, "vault.auth = kubernetes needs vault.role"),
    "no such authority": ({"role": "r", "secret_id": "s", "ca_file": "/nowhere/ca.pem"}, "vault.ca_file"),
}


@pytest.mark.parametrize(("settings", "reason"), INCOMPLETE.values(), ids=INCOMPLETE)
async def test_an_incomplete_login_is_reported(settings: dict[str, Any], reason: str) -> None:
    """A login that lacks a setting is refused before any request, and the error names the setting."""
    with pytest.raises(ConfigError, match=reason):
        VaultSession(VaultConfig.model_validate(settings))


async def test_a_server_that_is_not_vault_is_reported(vault: VaultServer) -> None:
    """If no server listens, or a different one, that is reported."""
    name, public = await make_key(vault)
    nobody = VaultConfig.model_validate({"address": "http://127.0.0.1:9", "auth": "token", "token": "t", "retry": 0})
    with pytest.raises(KeyUnavailableError, match="can't be reached"):
        await can_sign(nobody, name, public)
    with cluster_that_reviews("") as url:
        other = VaultConfig.model_validate({"address": url, "role": "r", "secret_id": "s", "retry": 0})
        with pytest.raises(KeyUnavailableError, match="check the address"):
            await can_sign(other, name, public)


async def test_a_call_in_the_middle_of_a_cut_is_made_again(vault: VaultServer) -> None:
    """If a connection is cut while Vault answers, the call is repeated, and the work continues."""
    name, public = await make_key(vault)
    async with proxy(vault.port) as way, session(signer_config(vault, name, address=way.url, retry=20)) as opened:
        key = await open_vault_key(name.uri, public, opened)
        way.answers.clear()
        signing = asyncio.create_task(key.sign_many([b"x"] * 400))
        before = vault.audit_log.stat().st_size
        await eventually(lambda: asyncio.sleep(0, vault.audit_log.stat().st_size > before))
        way.cut()
        way.answers.set()
        way.cuts = False
        assert len(await signing) == 400
