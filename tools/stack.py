"""All of Tufline as processes of its own on a real Apache Kafka, on loopback: ``make stack`` starts it, ``make stack-down`` stops it.

What it keeps is in ``.stack/``: the broker's data, trial keys, the origin, each process's log, and their process ids.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kafka_cluster import START_SECONDS, STOP_SECONDS, Cluster, MissingPartError, free_port
from tufline.cli import ceremony
from tufline.cli.client import Client
from tufline.cli.exits import Failure

HERE: Final = Path(__file__).resolve().parent.parent
STACK: Final = HERE / ".stack"
PIDS: Final = "processes.json"
TUFLINE: Final = str(Path(sys.executable).parent / "tufline")


@dataclass
class Service:
    """One process of a service.

    Attributes:
        name: of the service.
        url: of its HTTP server: the REST API of ingest, that for operators of the others.
        log: what it says.
        process: while it runs.
    """

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and give its exit code.

        Args:
            number: the signal to end it with.
        """
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def problems(self) -> dict[str, str]:
        """Ask it which of its parts are not ready, and why.

        Raises:
            Failure: if it does not answer.
        """
        parts: dict[str, str] = Client(self.url).request("GET", "/readyz", accept_unavailable=True)["parts"]
        return {part: reason for part, reason in parts.items() if reason}


@dataclass
class Stack:
    """Services on a cluster.

    Attributes:
        directory: of keys, origin and logs.
        cluster: running.
        bins: of the repository.
        settings: more of each process, as ``TUFLINE_*`` variables.
        services: those that were started.
    """

    directory: Path
    cluster: Cluster
    bins: int = 1024
    settings: Mapping[str, str] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)
    web_port: int = field(default_factory=free_port)

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

    def prepare(self) -> None:
        """Make the topics, and keys for a new repository."""
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run([TUFLINE, "topics", "apply"], env=self.environment(), check=True, stdout=subprocess.DEVNULL)
        if not self.keys.exists():
            ceremony.write(ceremony.hold(ceremony.Plan(self.bins)), self.keys)

    def start(self, name: str) -> Service:
        """Start one more process of a service; returns when it answers.

        Args:
            name: ingest, signer or publisher.

        Raises:
            RuntimeError: if it ends, or takes too long.
        """
        port = free_port()
        ports = {"TUFLINE_INGEST__PORT": str(port), "TUFLINE_OPS__PORT": str(port), "TUFLINE_WEB__PORT": str(self._next_web_port())}
        log = self.directory / f"{name}.{port}.log"
        with log.open("ab") as output:
            command = [TUFLINE, "run", name]
            process = subprocess.Popen(command, env=self.environment(**ports), stdout=output, stderr=output, start_new_session=True)
        service = Service(name, f"http://127.0.0.1:{port}", log, process)
        self.services.append(service)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError, Failure):
                service.problems()
                return service
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not answer; its log {log} ends with:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)

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
    """Start the stack and say how to use it."""
    cluster = Cluster(STACK / "kafka")
    stack = Stack(STACK, cluster)
    try:
        cluster.start()
        stack.prepare()
        for name in ("ingest", "signer", "publisher"):
            stack.start(name)
        stack.bootstrap()
    except BaseException:
        stack.stop()
        cluster.stop()
        raise
    pids = [service.process.pid for service in stack.services] + [broker.process.pid for broker in cluster.brokers if broker.process]
    (STACK / PIDS).write_text(json.dumps(pids))
    print(f"Kafka       {cluster.bootstrap}")
    for service in stack.services:
        print(f"{service.name:<11} {service.url}")
    print(f"metadata    {stack.metadata}")
    print(f"root.json   {stack.keys / 'root.json'}")
    print(f"ready. Try: tufline add README.md --url {stack.services[0].url}; stop with: make stack-down")


def down() -> None:
    """Stop the stack, services first."""
    path = STACK / PIDS
    pids: list[int] = json.loads(path.read_text()) if path.exists() else []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)


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
