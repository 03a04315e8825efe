"""/readyz of a process on Kafka reports whether brokers answer, and whether the process has joined its groups and restored its state."""

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tufline.client.rest import Client
from tufline_testing.server import artifact, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Service, Stack

pytestmark = pytest.mark.slow

SESSION_SECONDS = 6


@pytest.fixture
def stack(kafka_parts: None, tmp_path: Path) -> Iterator[Stack]:
    """Run a separate broker and one process of each service, which own one partition."""
    cluster = Cluster(tmp_path / "kafka")
    settings = {"TUFLINE_BUS__PARTITIONS": "1", "TUFLINE_KAFKA__SESSION_TIMEOUT": str(SESSION_SECONDS)}
    try:
        cluster.start()
        with Stack(tmp_path / "stack", cluster, 4, settings) as made:
            made.prepare()
            made.begin()
            yield made
    finally:
        cluster.stop()


def is_live(stack: Stack, path: str) -> bool:
    task = stack.api.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact(path, 1)]}, patient=True)["data"]["task_id"]
    return bool(stack.api.wait_for_task(task, time.monotonic() + 60)["status"])


def says(service: Service, part: str, text: str) -> bool:
    return text in service.problems().get(part, "")


def test_dead_brokers_are_reported_and_their_return_is_noticed(stack: Stack) -> None:
    """While no broker answers, every process reports that it is not ready; once they are back, all become ready and work continues.

    Meanwhile the published files are served to clients, also by a publisher that is started then.
    """
    (broker,) = stack.cluster.brokers
    wait_until(lambda: not any(service.problems() for service in stack.services), "not all are ready at first")
    broker.kill()
    for service in stack.services:
        wait_until(partial(says, service, "bus", "does not answer"), f"{service.name} does not say that no broker answers")
    publisher = next(service for service in stack.services if service.name == "publisher")
    publisher.stop()
    stack.services.remove(publisher)
    stack.start("publisher")
    assert Client(stack.metadata).request("GET", "/timestamp.json")["signed"]["_type"] == "timestamp"
    broker.start()
    wait_until(lambda: not any(service.problems() for service in stack.services), "not all are ready again", 60)
    assert is_live(stack, "after/it")


def test_joining_is_reported_and_a_standby_is_ready(stack: Stack) -> None:
    """While a dead member blocks a group's partitions, a joining process reports it; a standby without partitions is then ready."""
    first = next(service for service in stack.services if service.name == "signer")
    wait_until(lambda: not first.problems(), "the signer is not ready")
    first.process.send_signal(signal.SIGSTOP)
    second = stack.start("signer")
    wait_until(lambda: says(second, "signer.bins.group", "joining the group signer.bins"), "it does not say that it waits to join")
    wait_until(lambda: not second.problems(), "it does not take the partition over")
    assert "signer.bins.0" in second.parts()
    first.process.send_signal(signal.SIGCONT)

    def one_stands_by() -> bool:
        both = [service.parts() for service in (first, second)]
        return not any(any(parts.values()) for parts in both) and sorted("signer.bins.0" in parts for parts in both) == [False, True]

    wait_until(one_stands_by, "there is not one that works and one that stands by, both ready", 60)
    assert is_live(stack, "after/it")
