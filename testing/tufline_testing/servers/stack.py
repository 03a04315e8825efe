"""All of Tufline as processes of its own on a real Apache Kafka and a real OpenBao, on loopback.

``make stack`` starts it, ``make stack-down`` stops it. What it keeps is in ``.stack/``: the data of both servers, trial keys, the origin,
each process's log, their process ids, and what administers OpenBao. The online key is in OpenBao, made as an operator makes it, and only
the signer can log in there.
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
        name: of the service.
        url: of its HTTP server: the REST API of ingest, that for operators of the others.
        log: what it says.
        process: while it runs.
        is_told_to_end: whether ``stop`` was called; who ends without has failed.
    """

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]
    is_told_to_end: bool = False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and give its exit code.

        Args:
            number: the signal to end it with.
        """
        self.is_told_to_end = True
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def parts(self) -> dict[str, str]:
        """Ask it for its parts: name to why it is not ready, empty when it is.

        Raises:
            Failure: if it does not answer.
        """
        parts: dict[str, str] = Client(self.url).request("GET", "/readyz", accept_unavailable=True)["parts"]
        return parts

    def problems(self) -> dict[str, str]:
        """Ask it which of its parts are not ready, and why.

        Raises:
            Failure: if it does not answer.
        """
        return {part: reason for part, reason in self.parts().items() if reason}


@dataclass
class Stack:
    """Services on a cluster.

    Attributes:
        directory: of keys, origin and logs.
        cluster: running.
        bins: of the repository.
        settings: more of each process, as ``TUFLINE_*`` variables.
        vault: running, with the online key; None to have that in a file.
        services: those that were started.
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
        """Have no service outlive what follows."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all services."""
        for service in self.services:
            service.process.kill()
            service.process.wait()

    @property
    def keys(self) -> Path:
        """The directory of the trial keys."""
        return self.directory / "keys"

    @property
    def metadata(self) -> str:
        """The URL of the published metadata."""
        return f"http://127.0.0.1:{self.web_port}/metadata/"

    @property
    def api(self) -> Client:
        """The REST API, of the first ingest."""
        return Client(next(service.url for service in self.services if service.name == "ingest"))

    def environment(self, **more: str) -> dict[str, str]:
        """Make the environment of a process.

        Args:
            more: variables beside those of the stack.
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
        """Start the services, and begin the repository.

        Args:
            replicas: service to how many processes of it.
        """
        for name, count in replicas.items():
            for _ in range(count):
                self.start(name)
        self.bootstrap()

    def prepare(self, *, create: bool = True) -> None:
        """Make the topics, and keys for a new repository.

        Args:
            create: whether the key in Vault is to be made; it is there already if not.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run([TUFLINE, "topics", "apply"], env=self.environment(), check=True, stdout=subprocess.DEVNULL)
        if self.vault is not None:
            self.login = self._keys_in_vault(self.vault, create=create)
        elif not self.keys.exists():
            ceremony.write(ceremony.hold(ceremony.Plan(self.bins)), self.keys)

    def _keys_in_vault(self, vault: VaultServer, *, create: bool) -> dict[str, str]:
        admin = {"TUFLINE_VAULT__ADDRESS": vault.url, "TUFLINE_VAULT__AUTH": "token", "TUFLINE_VAULT__TOKEN": vault.root_token}

        def tufline(*arguments: str) -> str:
            return subprocess.run(
                [TUFLINE, *arguments], env=self.environment(**admin), check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        if create:
            tufline("keys", "create", VAULT_KEY)
        role, secret_id = vault.make_role(tufline("keys", "policy", VAULT_KEY))
        tufline("init", "--out", str(self.keys), "--bins", str(self.bins), "--online-key", VAULT_KEY)
        file = self.directory / "secret_id"
        file.touch(mode=0o600)
        file.write_text(secret_id)
        return {"TUFLINE_VAULT__ADDRESS": vault.url, "TUFLINE_VAULT__ROLE": role, "TUFLINE_VAULT__SECRET_ID_FILE": str(file)}

    def start(self, name: str, **settings: str) -> Service:
        """Start one more process of a service; returns when it says that it listens, and so answers.

        Args:
            name: ingest, signer or publisher.
            settings: ``TUFLINE_*`` variables of this process alone.

        Raises:
            RuntimeError: if it ends, or takes too long.
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
        """Begin the repository, and wait until it is published."""
        client = self.api
        if not client.request("GET", "/api/v1/bootstrap/", patient=True)["data"]["bootstrap"]:
            client.request("POST", "/api/v1/bootstrap/", json.loads((self.keys / "bootstrap.json").read_bytes()), patient=True)
        deadline = time.monotonic() + START_SECONDS
        while client.request("GET", "/api/v1/bootstrap/", patient=True)["data"]["state"] != "finished":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the bootstrap is not published: {[service.problems() for service in self.services]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all services."""
        for service in reversed(self.services):
            if service.process.poll() is None:
                service.stop()


def up() -> None:
    """Start the stack, with nothing in it, and say how to use it."""
    if any(identity(pid) == known for pid, known in _started()):
        raise MissingPartError("it runs already: make stack-down stops it")
    shutil.rmtree(STACK, ignore_errors=True)  # what the last one left: a stack begins anew
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
    """Tell a process from all others that had or will have its process id.

    Args:
        pid: process id.

    Returns:
        When it started; empty if there is no such process any more.
    """
    try:
        # The name of the program may have blanks and brackets in it; what counts comes behind.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return ""
        return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    state, start = fields[0], fields[19]
    return "" if state == "Z" else f"{boot} {start}"


def _started() -> list[tuple[int, str]]:
    """Say what the last stack started: process ids, and whose they were."""
    path = STACK / PIDS
    return [(pid, known) for pid, known in json.loads(path.read_text())] if path.exists() else []


def down() -> None:
    """Stop the stack, services first. A process id that is somebody else's by now, as after a restart of the machine, is left alone."""
    for pid, known in _started():
        end(pid, known)
    (STACK / PIDS).unlink(missing_ok=True)


def end(pid: int, known: str) -> None:
    """End a process that was started here: in order, or by force if it takes too long.

    Args:
        pid: process id.
        known: its identity.
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
