"""Real Apache Kafka on loopback, from its Maven artifacts: for ``make stack`` and for tests.

``jars`` fetches, ``classes`` prepares, ``Cluster`` runs. No container and no installation: brokers (KRaft) are plain ``java`` processes
on free ports, with their data in the caller's directory.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.servers.jdk import java
from tufline_testing.servers.parts import MissingPartError, kept
from tufline_testing.servers.ports import free_port

POM: Final = ROOT / "deploy" / "kafka" / "pom.xml"

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 30.0

SETTINGS: Final = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A writer that died must not block readers longer than its own timeout: by default the broker checks every ten seconds.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
    # Not 0: a broker looks for files to delete that often, and with 0 it keeps a twentieth of a core busy all the time.
    "log.segment.delete.delay.ms": "100",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "controlled.shutdown.enable": "true",
}
"""Settings of every broker: Kafka's defaults, with shorter intervals than in production."""

CLASSES: Final = "kafka.jsa"

LOGGING: Final = """
Configuration:
  status: error
  Appenders: {Console: {name: out, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: out}}}
"""


def jars() -> Path:
    """Fetch Kafka's jars, once for each version of the pom.

    Returns:
        The directory with the jars.

    Raises:
        MissingPartError: if Maven is not installed, or can't fetch the jars.
    """
    maven = shutil.which("mvn")

    def make(directory: Path) -> None:
        if maven is None:
            raise MissingPartError("no Maven, which fetches Apache Kafka: apt-get install maven")
        command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={directory}"]
        env = {**os.environ, "JAVA_HOME": str(java().resolve().parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise MissingPartError(f"Maven can't get Apache Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    return kept("kafka", [POM], make)


def classes() -> Path:
    """Load and verify Kafka's classes, once for each version of Kafka and of Java: each start takes a third less CPU time afterwards.

    Returns:
        The archive of classes; a Java that comes without an archive of its own classes makes none.

    Raises:
        MissingPartError: see ``jars``.
    """

    def make(directory: Path) -> None:
        # Each program of Java writes the archive when it ends; the broker, which loads the most classes, ends last.
        cluster = Cluster(directory / "cluster", archive=f"-XX:ArchiveClassesAtExit={directory / CLASSES}")
        try:
            cluster.start()
        finally:
            cluster.stop()
        shutil.rmtree(cluster.directory)

    return kept("kafka-classes", [POM, java().resolve().parents[1] / "release"], make) / CLASSES


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process listens.

    Args:
        port: port on loopback.
        process: the process that should listen.
        log: file with the process's output.

    Raises:
        RuntimeError: if the process ends, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it does not listen on port {port}; its log {log} ends with:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """End a process.

    Args:
        process: the process.
        number: the signal to send; if the process does not end in time, it is killed.
    """
    process.send_signal(number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Broker:
    """One broker, which is also a controller.

    Attributes:
        number: the node id.
        directory: directory of its data, configuration and log.
        port: port of the listener for clients.
        options: options of Java.
        process: the broker's process while it runs.
    """

    number: int
    directory: Path
    port: int
    controller_port: int
    options: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file with the broker's output."""
        return self.directory / "broker.log"

    def start(self) -> None:
        """Start the formatted broker, and return when it listens."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the formatted broker. It listens once a majority of the cluster's controllers runs."""
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log.yaml'}"
        options = ["-Xms128m", "-Xmx512m", *self.options, logging]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(java()), *options, "-cp", f"{jars()}/*", "kafka.Kafka", str(self.directory / "server.properties")],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until the broker listens."""
        assert self.process is not None
        wait_for(self.port, self.process, self.log)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the broker.

        Args:
            number: the signal to send.
        """
        if self.process is not None:
            end(self.process, number)
            self.process = None


@dataclass
class Cluster:
    """A cluster of brokers.

    Attributes:
        directory: directory of all data.
        size: number of brokers.
        settings: settings of each broker in addition to ``SETTINGS``; ``{port}`` in a value is replaced by the broker's port.
        protocol: protocol of the listener for clients, ``PLAINTEXT`` or ``SASL_SSL``.
        archive: the option of Java about an archive of classes; by default it uses that of ``classes``.
    """

    directory: Path
    size: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "PLAINTEXT"
    archive: str = ""
    brokers: list[Broker] = field(default_factory=list)

    @property
    def _options(self) -> Sequence[str]:
        # A runtime for short lives: its compiler optimizes little.
        archive = self.archive or (f"-XX:SharedArchiveFile={made}" if (made := classes()).exists() else "-Xshare:auto")
        return [archive, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

    @property
    def bootstrap(self) -> str:
        """The bootstrap servers: host:port of all brokers."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def start(self, formatting: Sequence[str] = ()) -> None:
        """Format the disks and start all brokers.

        Args:
            formatting: additional arguments for Kafka's storage tool, such as the first SCRAM users.
        """
        for number in range(1, self.size + 1):
            self.brokers.append(Broker(number, self.directory / f"broker{number}", free_port(), free_port(), self._options))
        voters = ",".join(f"{broker.number}@127.0.0.1:{broker.controller_port}" for broker in self.brokers)
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        replicas, in_sync = str(self.size), str(max(1, self.size - 1))
        for broker in self.brokers:
            broker.directory.mkdir(parents=True)
            listen = f"{self.protocol}://127.0.0.1:{broker.port}"
            settings = {
                **SETTINGS,
                "node.id": str(broker.number),
                "log.dirs": str(broker.directory / "data"),
                "listeners": f"{listen},CONTROLLER://127.0.0.1:{broker.controller_port}",
                "advertised.listeners": listen,
                "inter.broker.listener.name": self.protocol,
                "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{self.protocol}:{self.protocol}",
                "controller.quorum.voters": voters,
                "offsets.topic.replication.factor": replicas,
                "transaction.state.log.replication.factor": replicas,
                "transaction.state.log.min.isr": in_sync,
                **self.settings,
            }
            (broker.directory / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            (broker.directory / "log.yaml").write_text(LOGGING)
            # With "=", because an id may start with a dash.
            what = [f"--cluster-id={cluster_id}", "-c", str(broker.directory / "server.properties")]
            self.tool("kafka.tools.StorageTool", "format", *what, *formatting)
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait()

    def tool(self, program: str, *arguments: str) -> str:
        """Run one of Kafka's own tools.

        Args:
            program: the tool's Java class.
            arguments: command line arguments.

        Returns:
            The tool's output.

        Raises:
            RuntimeError: if the tool fails.
        """
        command = [str(java()), *self._options, "-cp", f"{jars()}/*", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def stop(self) -> None:
        """End all brokers."""
        for broker in self.brokers:
            broker.kill(signal.SIGTERM if self.size == 1 else signal.SIGKILL)
