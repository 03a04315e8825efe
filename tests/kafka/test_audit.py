"""The audit on a real Apache Kafka: several signers, some of which are killed, and verification while everything runs."""

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tufline_testing.server import artifact, run_tufline, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Service, Stack

pytestmark = pytest.mark.slow

BINS = 8


@pytest.fixture
def stack(kafka: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """Prepare services with their own prefix; a dead signer is noticed quickly."""
    settings = {"TUFLINE_KAFKA__PREFIX": f"a{time.time_ns()}.", "TUFLINE_BUS__PARTITIONS": "4", "TUFLINE_KAFKA__SESSION_TIMEOUT": "2"}
    with Stack(tmp_path, kafka, BINS, settings) as made:
        made.prepare()
        yield made


def start_signer(stack: Stack, file: Path) -> Service:
    """Start a signer with its own file."""
    stack.settings = {**stack.settings, "TUFLINE_SIGNER__AUDIT_FILE": str(file)}
    return stack.start("signer")


def add(stack: Stack, number: int) -> None:
    """Add artifacts and wait until they are live."""
    body = {"artifacts": [artifact(f"p/{one}", number) for one in range(20)]}
    task = stack.api.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]["task_id"]
    stack.api.wait_for_task(task, time.monotonic() + 60)


def test_the_audit_of_signers_that_come_and_go(stack: Stack, tmp_path: Path) -> None:
    """While signers are killed or paused, everything is recorded and verifies; a file that lost a line differs from the topic."""
    files = [tmp_path / f"audit.{number}" for number in range(3)]
    for name in ("ingest", "publisher"):
        stack.start(name)
    first, second = (start_signer(stack, file) for file in files[:2])
    stack.bootstrap()
    numbers = itertools.count(100)

    def both_have_signed() -> bool:
        add(stack, next(numbers))  # a signer that joins late signs later changes
        return all(file.exists() for file in files[:2])

    wait_until(both_have_signed, "both signers have a part of the work")
    environment = stack.environment()

    def verify(*arguments: str | Path) -> tuple[int, str]:
        done = run_tufline("audit", "verify", *arguments, cwd=tmp_path, env=environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    everything = [one for file in files[:2] for one in ("--file", file)] + ["--topic", "--metadata", stack.metadata]
    code, said = verify(*everything)
    assert code == 0, said
    first.stop(signal.SIGKILL)
    third = start_signer(stack, files[2])
    for number in range(5):
        add(stack, 10 + number)
    assert second.stop() == 0
    for number in range(5):
        add(stack, 20 + number)
    everything += ["--file", files[2]]
    code, said = verify(*everything)
    assert code == 0, said
    assert said.count("has no end after number") == 2, "one was killed, one runs"
    assert third.stop() == 0
    lines = files[2].read_bytes().splitlines(keepends=True)
    files[2].write_bytes(b"".join([*lines[:2], *lines[3:]]))
    code, said = verify(*everything)
    assert code == 1
    assert "but not in the file" in said
