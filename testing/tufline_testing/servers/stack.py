"""All of Tufline in separate processes on a real Apache Kafka and a real OpenBao, on loopback.

``make stack`` starts it, ``make stack-down`` stops it. Its state is in ``.stack/``: the data of both servers, test keys, the origin, the
logs and ids of all processes, and the credentials to administer OpenBao. The online key is in OpenBao, created as an operator would, and
only the signer can log in there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tufline.client.rest import Client
from tufline.trust import ceremony
from tufline_testing.checkout import ROOT
from tufline_testing.servers.kafka_cluster import START_SECONDS, STOP_SECONDS, Cluster
from tufline_testing.servers.parts import MissingPartError
from tufline_testing.servers.ports import free_port
from tufline_testing.servers.vault_server import MOUNT, VaultServer

STACK: Final = ROOT / ".stack"
PIDS: Final = "processes.json"
TUFLINE: Final = str(Path(sys.executable).parent / "tufline")
VAULT_KEY: Final = f"vault:{MOUNT}/tufline#1"
SIGNER: Final = "signer"
ONE_OF_EACH: Final = {"ingest": 1, SIGNER: 1, "publisher": 1}


@dataclass
class Service:
    """One process of a service.

    Attributes:
        name: name of the service.
        url: URL of its HTTP server: the REST API of ingest, or the other services' server for operators.
        log: file with its output.
        process: its process while it runs.
        is_told_to_end: whether ``stop`` was called; a service that ends before that has failed.
    """

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]
    is_told_to_end: bool = False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the service, and return its exit code.

        Args:
            number: the signal to send.
        """
        self.is_told_to_end = True
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def parts(self) -> dict[str, str]:
        """Ask for the parts of the service: name to the reason why the part is not ready, or an empty text.

        Raises:
            Failure: if it does not answer.
        """
        parts: dict[str, str] = Client(self.url).request("GET", "/readyz", accept_unavailable=True)["parts"]
        return parts

    def problems(self) -> dict[str, str]:
        """Ask for the parts that are not ready, and the reasons.

        Raises:
            Failure: if it does not answer.
        """
        return {part: reason for part, reason in self.parts().items() if reason}


@dataclass
class Stack:
    """Services on a cluster.

    Attributes:
        directory: directory of keys, origin and logs.
        cluster: the running cluster.
        bins: number of the repository's bins.
        settings: additional ``TUFLINE_*`` variables of each process.
        vault: the running server for the online key; None to keep the key in a file.
        services: the services started so far.
    """

    directory: Path
    cluster: Cluster
    bins: int = 1024
    settings: Mapping[str, str] = field(default_factory=dict)
    vault: VaultServer | None = None
    login: Mapping[str, str] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)
    web_port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        """Ensure that no service outlives the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all services."""
        for service in self.services:
            service.process.kill()
            service.process.wait()

    @property
    def keys(self) -> Path:
        """The directory of the test keys."""
        return self.directory / "keys"

    @property
    def metadata(self) -> str:
        """The URL of the published metadata."""
        return f"http://127.0.0.1:{self.web_port}/metadata/"

    @property
    def api(self) -> Client:
        """A client for the REST API of the first ingest."""
        return Client(next(service.url for service in self.services if service.name == "ingest"))

    def environment(self, **more: str) -> dict[str, str]:
        """Make the environment of a process.

        Args:
            more: variables in addition to those of the stack.
        """
        return {
            **os.environ,
            "TUFLINE_BUS__URL": f"kafka:{self.cluster.bootstrap}",
            "TUFLINE_KAFKA__REPLICAS": str(self.cluster.size),
            "TUFLINE_SIGNER__KEY_DIR": str(self.keys / "online"),
            "TUFLINE_PUBLISHER__DIRECTORY": str(self.directory / "origin" / "metadata"),
            **self.settings,
            **more,
        }

    def begin(self, replicas: Mapping[str, int] = ONE_OF_EACH) -> None:
        """Start the services, and bootstrap the repository.

        Args:
            replicas: service name to number of processes.
        """
        for name, count in replicas.items():
            for _ in range(count):
                self.start(name)
        self.bootstrap()

    def prepare(self, *, create: bool = True) -> None:
        """Create the topics, and keys for a new repository.

        Args:
            create: whether to create the key in Vault; otherwise it exists already.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run([TUFLINE, "topics", "apply"], env=self.environment(), check=True, stdout=subprocess.DEVNULL)
        if self.vault is not None:
            self.login = self._keys_in_vault(self.vault, create=create)
        elif not self.keys.exists():
            ceremony.write(ceremony.hold(ceremony.Plan(self.bins)), self.keys, None)

    def _keys_in_vault(self, vault: VaultServer, *, create: bool) -> dict[str, str]:
        admin = {"TUFLINE_VAULT__ADDRESS": vault.url, "TUFLINE_VAULT__AUTH": "token", "TUFLINE_VAULT__TOKEN": vault.root_token}

        def tufline(*arguments: str) -> str:
            return subprocess.run(
                [TUFLINE, *arguments], env=self.environment(**admin), check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        if create:
            tufline("keys", "create", VAULT_KEY)
        role, secret_id = vault.make_role(tufline("keys", "policy", VAULT_KEY))
        tufline("init", "--out", str(self.keys), "--bins", str(self.bins), "--online-key", VAULT_KEY, "--unencrypted")
        file = self.directory / "secret_id"
        file.touch(mode=0o600)
        file.write_text(secret_id)
        return {"TUFLINE_VAULT__ADDRESS": vault.url, "TUFLINE_VAULT__ROLE": role, "TUFLINE_VAULT__SECRET_ID_FILE": str(file)}

    def start(self, name: str, **settings: str) -> Service:
        """Start one more process of a service, and return when it listens.

        Args:
            name: ingest, signer or publisher.
            settings: additional ``TUFLINE_*`` variables of this process.

        Raises:
            RuntimeError: if the process ends, or takes too long.
        """
        port = free_port()
        ports = {"TUFLINE_INGEST__PORT": str(port), "TUFLINE_OPS__PORT": str(port), "TUFLINE_WEB__PORT": str(self._next_web_port())}
        log = self.directory / f"{name}.{port}.log"
        with log.open("ab") as output:
            command = [TUFLINE, "run", name]
            login = self.login if name == SIGNER else {}
            process = subprocess.Popen(
                command, env=self.environment(**ports, **login, **settings), stdout=output, stderr=output, start_new_session=True
            )
        service = Service(name, f"http://127.0.0.1:{port}", log, process)
        self.services.append(service)
        deadline = time.monotonic() + START_SECONDS
        said = f"{name} {service.url}".encode()
        while said not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not listen; its log {log} ends with:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        return service

    def _next_web_port(self) -> int:
        taken = any(service.name == "publisher" and service.process.poll() is None for service in self.services)
        return 0 if taken else self.web_port

    def bootstrap(self) -> None:
        """Bootstrap the repository, and wait until it is published."""
        client = self.api
        if not client.request("GET", "/api/v1/bootstrap/", patient=True)["data"]["bootstrap"]:
            client.request("POST", "/api/v1/bootstrap/", json.loads((self.keys / "bootstrap.json").read_bytes()), patient=True)
        deadline = time.monotonic() + START_SECONDS
        while client.request("GET", "/api/v1/bootstrap/", patient=True)["data"].get("state") != "finished":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the bootstrap is not published: {[service.problems() for service in self.services]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all services."""
        for service in reversed(self.services):
            if service.process.poll() is None:
                service.stop()


def up() -> None:
    """Start an empty stack, and print how to use it."""
    if any(identity(pid) == known for pid, known in _started()):
        raise MissingPartError("the stack is already running: stop it with make stack-down")
    shutil.rmtree(STACK, ignore_errors=True)  # the last stack's data: every stack starts empty
    cluster, vault = Cluster(STACK / "kafka"), VaultServer(STACK / "vault")
    stack = Stack(STACK, cluster, vault=vault)
    try:
        vault.start()
        vault.enable()
        cluster.start()
        stack.prepare()
        stack.begin()
    except BaseException:
        stack.stop()
        cluster.stop()
        vault.stop()
        raise
    servers = [*(broker.process for broker in cluster.brokers), vault.process]
    pids = [service.process.pid for service in stack.services] + [process.pid for process in servers if process]
    (STACK / PIDS).write_text(json.dumps([(pid, identity(pid)) for pid in pids]))
    print(f"Kafka       {cluster.bootstrap}")
    print(f"OpenBao     {vault.url}, audit log {vault.audit_log}")
    print(f"            for bao and tufline keys: . {vault.admin_env}; unseal it with: bao operator unseal $BAO_UNSEAL_KEY")
    for service in stack.services:
        print(f"{service.name:<11} {service.url}")
    print(f"metadata    {stack.metadata}")
    print(f"root.json   {stack.keys / 'root.json'}")
    print(f"ready. Try: {os.path.relpath(TUFLINE, ROOT)} add README.md --url {stack.services[0].url}; stop with: make stack-down")


def identity(pid: int) -> str:
    """Identify a process among all those that have the same process id at some time.

    Args:
        pid: process id.

    Returns:
        The boot id and the process's start time; empty if the process no longer exists.
    """
    try:
        # The program's name may contain blanks and brackets; the fields that are needed come after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return ""
        return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    state, start = fields[0], fields[19]
    return "" if state == "Z" else f"{boot} {start}"


def _started() -> list[tuple[int, str]]:
    """Return the processes that the last stack started: process ids and identities."""
    path = STACK / PIDS
    return [(pid, known) for pid, known in json.loads(path.read_text())] if path.exists() else []


def down() -> None:
    """Stop the stack, services first. Another process that now has one of the ids, for example after a reboot, is left alone."""
    for pid, known in _started():
        end(pid, known)
    (STACK / PIDS).unlink(missing_ok=True)


def end(pid: int, known: str) -> None:
    """End a process that the stack started, and kill it if that takes too long.

    Args:
        pid: process id.
        known: the identity that the process must have.
    """
    with suppress(ProcessLookupError):
        deadline = time.monotonic() + STOP_SECONDS
        if known and identity(pid) == known:
            os.kill(pid, signal.SIGTERM)
        while known and identity(pid) == known:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def main(arguments: list[str]) -> int:
    """Start or stop the stack.

    Args:
        arguments: ``up`` or ``down``.

    Returns:
        The exit code.
    """
    actions: dict[str, Any] = {"up": up, "down": down}
    try:
        actions[arguments[0]]()
    except MissingPartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
