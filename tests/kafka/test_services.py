"""The services in separate processes on a real Apache Kafka."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tufline.records import topics
from tufline_cli.exit_codes import Exit
from tufline_testing.server import TUFLINE, Running, artifact, lengths, run_tufline, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Stack

pytestmark = pytest.mark.slow

BINS = 8
RUN_SIGNER = [TUFLINE, "run", "signer"]


@pytest.fixture
def stack(kafka: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """Prepare services with their own prefix; the test starts them."""
    prefix = f"s{time.time_ns()}."
    with Stack(tmp_path, kafka, BINS, {"TUFLINE_KAFKA__PREFIX": prefix, "TUFLINE_BUS__PARTITIONS": "2"}) as made:
        made.prepare()
        yield made


def client_of(stack: Stack) -> Running:
    """Return a TUF client's view of a stack."""
    ingest = next(service for service in stack.services if service.name == "ingest")
    return Running(ingest.process, ingest.url, stack.metadata, "", stack.keys / "root.json", ingest.log)


def add(stack: Stack, numbers: dict[str, int]) -> None:
    """Add artifacts and wait until they are live."""
    body = {"artifacts": [artifact(path, number) for path, number in numbers.items()]}
    task = stack.api.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]["task_id"]
    result = stack.api.wait_for_task(task, time.monotonic() + 60)
    assert result["status"], result


def test_the_way_of_an_artifact(stack: Stack, tmp_path: Path) -> None:
    """An unmodified TUF client sees what is announced over REST; log and origin agree, all services are ready, and exit properly."""
    stack.begin()
    add(stack, {f"p/{number}": number for number in range(50)})
    for number in range(20):
        stack.api.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact("q", number)]}, patient=True)
    checked = run_tufline("fsck", cwd=tmp_path, env=stack.environment())
    assert checked.returncode == 0, checked.stdout + checked.stderr
    add(stack, {"p/7": 1007})
    seen = lengths(client_of(stack), tmp_path / "client", ["p/0", "p/7", "p/49", "p/50"])
    assert seen == {"p/0": 0, "p/7": 1007, "p/49": 49}
    wait_until(lambda: not any(service.problems() for service in stack.services), "not all parts are ready")
    assert [service.stop() for service in reversed(stack.services)] == [0, 0, 0]


def test_a_killed_signer_is_replaced(stack: Stack, tmp_path: Path) -> None:
    """When the active signer is killed, a standby takes over, and nothing is lost or reverted."""
    stack = replace(stack, settings={**stack.settings, "TUFLINE_KAFKA__SESSION_TIMEOUT": "2"})
    stack.begin()
    expected: dict[str, int] = {}
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    chance = random.Random(seed)
    for life in range(3):
        standby = stack.start("signer")
        tasks = []
        for number in range(20):
            path, length = f"p/{chance.randrange(30)}", 1000 * life + number
            expected[path] = length
            body = {"artifacts": [artifact(path, length)]}
            tasks.append(stack.api.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]["task_id"])
            if number == 10:
                working = next(service for service in stack.services if service.name == "signer" and service.process.poll() is None)
                assert working is not standby
                time.sleep(chance.random())
                working.stop(signal.SIGKILL)
        for task in tasks:
            stack.api.wait_for_task(task, time.monotonic() + 60)
    assert lengths(client_of(stack), tmp_path / "client", sorted(expected)) == expected


def test_new_topics_need_a_power_of_two(stack: Stack, tmp_path: Path) -> None:
    """With an unsupported number of partitions no topic is created, and the message tells which numbers are valid."""
    environment = stack.environment(TUFLINE_KAFKA__PREFIX=f"n{time.time_ns()}.", TUFLINE_BUS__PARTITIONS="3")
    for options in ((), ("--dry-run",)):
        refused = run_tufline("topics", "apply", *options, cwd=tmp_path, env=environment)
        assert refused.returncode == Exit.CONFIGURATION, refused.stderr
        assert "bus.partitions = 2 or 4" in refused.stderr
    dry = run_tufline("topics", "apply", "--dry-run", cwd=tmp_path, env=environment | {"TUFLINE_BUS__PARTITIONS": "2"})
    assert dry.stderr.count("does not exist") == len(topics.topics(2)), dry.stderr


def test_a_wrong_topic_is_refused(stack: Stack, tmp_path: Path) -> None:
    """A service does not start with a wrongly configured topic, and names the setting; applying the topics fixes it."""
    environment = stack.environment(TUFLINE_OPS__PORT="0")
    other = {**environment, "TUFLINE_BUS__PARTITIONS": "3"}
    refused = subprocess.run(RUN_SIGNER, env=other, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == Exit.CONFIGURATION, refused.stderr
    assert "artifacts has 2 partitions, but must have 3 (bus.partitions)" in refused.stderr
    dry = run_tufline("topics", "apply", "--dry-run", cwd=tmp_path, env=environment)
    assert (dry.returncode, dry.stdout) == (0, "all topics are configured correctly\n"), dry.stderr
    prefix = stack.settings["TUFLINE_KAFKA__PREFIX"]
    alter = ["--alter", "--entity-type", "topics", "--entity-name", f"{prefix}artifacts", "--add-config", "retention.ms=1000"]
    stack.cluster.tool("kafka.admin.ConfigCommand", "--bootstrap-server", stack.cluster.bootstrap, *alter)
    refused = subprocess.run(RUN_SIGNER, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == Exit.CONFIGURATION, refused.stderr
    assert "artifacts has retention.ms=1000, but must have -1" in refused.stderr
    mended = run_tufline("topics", "apply", cwd=tmp_path, env=environment)
    assert f"set retention.ms=-1 on the topic {prefix}artifacts" in mended.stdout
