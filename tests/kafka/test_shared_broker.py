"""The workers of a test run share one broker, which does not outlive them."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

USER = """
import sys
from pathlib import Path
from tufline_testing.servers.shared_kafka import shared_broker

with shared_broker(Path(sys.argv[1])) as cluster:
    print(cluster.bootstrap, flush=True)
    sys.stdin.read()
"""

STOP_SECONDS = 60.0


@pytest.fixture
def start_user(kafka_parts: None, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Provide a function that starts a process which uses the broker until its input is closed."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", USER, str(tmp_path)]
            user = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(user.kill)
            return user

        yield start


def address(user: subprocess.Popen[bytes]) -> tuple[str, int]:
    """Wait until a user has a broker, and return where the broker listens."""
    assert user.stdout is not None
    host, _, port = user.stdout.readline().decode().strip().rpartition(":")
    return host, int(port)


def listens(broker: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(broker) == 0


def test_a_shared_broker_stops_after_its_last_user(start_user: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Users that start together get one broker; it survives the death of either one, not of both; the next user gets another one."""
    users = [start_user(), start_user()]
    first, second = map(address, users)
    assert first == second
    for user in users:
        assert listens(first)
        user.kill()
        user.wait()
    deadline = time.monotonic() + STOP_SECONDS
    while listens(first):
        assert time.monotonic() < deadline, "nobody uses the broker, and it still runs"
        time.sleep(0.1)

    later = start_user()
    another = address(later)
    assert listens(another)
    later.communicate()
    assert later.returncode == 0
    assert not listens(another)
