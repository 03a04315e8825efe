"""A real OpenBao on loopback: for ``make stack`` and for tests.

It runs as in production: storage on disk (raft), initialised and unsealed, with an audit device. It speaks HashiCorp Vault's API.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hvac
import requests

from tufline_testing.servers.kafka_cluster import START_SECONDS, end
from tufline_testing.servers.openbao import bao
from tufline_testing.servers.ports import free_port

MOUNT: Final = "transit"
APPROLE: Final = "signer"

CONFIG: Final = """
disable_mlock = true
api_addr = "{scheme}://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
storage "raft" {{
  path = "{directory}/data"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  {tls}
}}
audit "file" "main" {{
  options {{
    file_path = "{directory}/audit.log"
  }}
}}
"""


@dataclass
class VaultServer:
    """An OpenBao server.

    Attributes:
        directory: directory of its data, configuration, log and audit log.
        certificate: PEM file with its certificate and private key; None for plain HTTP.
        ca_file: the CA file with which clients verify the certificate.
        port: the port that it listens on.
        process: the server's process while it runs.
        root_token: a token without restrictions.
    """

    directory: Path
    certificate: Path | None = None
    ca_file: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    root_token: str = ""
    unseal_key: str = ""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file with the server's output."""
        return self.directory / "server.log"

    @property
    def audit_log(self) -> Path:
        """The file with the server's audit log."""
        return self.directory / "audit.log"

    @property
    def admin_env(self) -> Path:
        """A shell file with address, root token and unseal key, readable only by its owner."""
        return self.directory / "admin.env"

    @property
    def admin(self) -> Any:
        """A client without restrictions."""
        return self.client(self.root_token)

    def client(self, token: str) -> Any:
        """Make a client.

        Args:
            token: the client's token.

        Returns:
            An ``hvac.Client``.
        """
        return hvac.Client(self.url, token=token, verify=str(self.ca_file) if self.ca_file else True, timeout=10)

    def start(self) -> None:
        """Start the server, for the first time or again, and return when it is unsealed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "data").mkdir(exist_ok=True)
        config = self.directory / "server.hcl"
        tls = f'tls_cert_file = "{self.certificate}"\n  tls_key_file = "{self.certificate}"' if self.certificate else "tls_disable = true"
        scheme = "https" if self.certificate else "http"
        config.write_text(
            CONFIG.format(scheme=scheme, port=self.port, cluster_port=free_port(), directory=self.directory.resolve(), tls=tls)
        )
        with self.log.open("ab") as output:
            command = [str(bao()), "server", "-config", str(config), "-log-level", "warn"]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        self._wait(lambda: bool(self.client("").sys.read_health_status(standby_ok=True) is not None))
        if not self.root_token:
            made = self.client("").sys.initialize(secret_shares=1, secret_threshold=1)
            self.root_token, self.unseal_key = made["root_token"], made["keys"][0]
            self._write_admin_env()
        self.unseal()

    def _write_admin_env(self) -> None:
        settings = {
            "BAO_ADDR": self.url,
            "BAO_TOKEN": self.root_token,
            "BAO_UNSEAL_KEY": self.unseal_key,
            "TUFLINE_VAULT__ADDRESS": self.url,
            "TUFLINE_VAULT__AUTH": "token",
            "TUFLINE_VAULT__TOKEN": self.root_token,
        }
        self.admin_env.touch(mode=0o600)
        self.admin_env.write_text("".join(f"export {name}={value}\n" for name, value in settings.items()))

    def seal(self) -> None:
        """Seal the server: it then answers everything with 503."""
        self.admin.sys.seal()

    def unseal(self) -> None:
        """Unseal the server, and return when it works."""
        self.client("").sys.submit_unseal_key(self.unseal_key)
        self._wait(lambda: bool(self.admin.sys.list_mounted_secrets_engines()))

    def _wait(self, condition: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if condition():
                    return
            except (requests.RequestException, hvac.exceptions.VaultError):
                pass
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"OpenBao does not work; its log {self.log} ends with:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the server; its data stays.

        Args:
            number: the signal to send.
        """
        if self.process is not None:
            end(self.process, number)
            self.process = None

    def stop(self) -> None:
        """End the server by SIGTERM."""
        self.kill(signal.SIGTERM)

    def enable(self) -> None:
        """Enable what Tufline needs: the Transit engine, and login by AppRole."""
        self.admin.sys.enable_secrets_engine("transit", path=MOUNT)
        self.admin.sys.enable_auth_method("approle")

    def make_role(self, policy: str, name: str = APPROLE, ttl: str = "1h", **settings: Any) -> tuple[str, str]:
        """Make an AppRole.

        Args:
            policy: the policy of the role, in HCL.
            name: name of role and policy.
            ttl: lifetime of the role's tokens.
            settings: additional settings of the role.

        Returns:
            RoleID and SecretID.
        """
        admin = self.admin
        admin.sys.create_or_update_policy(name, policy)
        admin.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl=ttl, **settings)
        role = admin.auth.approle.read_role_id(name)["data"]["role_id"]
        return role, admin.auth.approle.generate_secret_id(name)["data"]["secret_id"]


@contextmanager
def vault_server(directory: Path, certificate: Path | None = None, ca_file: Path | None = None) -> Iterator[VaultServer]:
    """Run a server during the block, with everything enabled that Tufline needs.

    Args:
        directory: see ``VaultServer``.
        certificate: see ``VaultServer``.
        ca_file: see ``VaultServer``.

    Yields:
        The server.
    """
    server = VaultServer(directory, certificate, ca_file)
    try:
        server.start()
        server.enable()
        yield server
    finally:
        server.stop()
