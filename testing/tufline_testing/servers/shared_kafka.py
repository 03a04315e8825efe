"""One broker of Apache Kafka for all workers of a test run, started by the first that needs it.

A small process of its own, the keeper, runs the broker until no worker uses it any more. The kernel counts the users: each holds a shared
lock on one file, which it loses when it ends for any reason, and the keeper waits for the exclusive lock. So the broker stops after its
last user, also if users were killed. A user that comes later starts another broker.

A user must not end or pause the broker; a test that does so runs a ``Cluster`` of its own.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from tufline_testing.servers.kafka_cluster import START_SECONDS, STOP_SECONDS, Broker, Cluster

STATE: Final = "broker.json"
"""The file that tells where the broker runs; it exists while the broker may be used."""

_USERS: Final = "users"
"""The file that users lock."""

_STARTING: Final = "starting"
"""The file that a user locks while it looks for the broker, so that two of them don't start one."""

_keepers: Final[list[subprocess.Popen[bytes]]] = []
"""The keepers that this process started: they may outlive it."""


@contextlib.contextmanager
def shared_broker(directory: Path) -> Iterator[Cluster]:
    """Use the broker of a directory during the block; start it if nobody uses it.

    Args:
        directory: the directory that all workers of the run share.

    Yields:
        The cluster of one broker. Its process belongs to the keeper, so ``process`` of its broker is None.

    Raises:
        RuntimeError: if the broker does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _USERS).open("wb") as users:
        with (directory / _STARTING).open("wb") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)  # waits until a broker that is being stopped has ended
            if not (directory / STATE).exists():
                _start_keeper(directory)
        content = (directory / STATE).read_bytes()
        state = json.loads(content)
        broker = Broker(1, Path(state["directory"]), state["port"], state["controller_port"], [])
        try:
            yield Cluster(broker.directory.parent, brokers=[broker])
        finally:
            _leave(directory, users, content)


def _start_keeper(directory: Path) -> None:
    log = directory / "keeper.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", "tufline_testing.servers.shared_kafka", str(directory)]
        keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    _keepers.append(keeper)
    deadline = time.monotonic() + START_SECONDS
    while not (directory / STATE).exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the shared broker does not start; the log {log} ends with:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def _leave(directory: Path, users: IO[bytes], used: bytes) -> None:
    """Stop using the broker; the last user returns after the broker has stopped."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # others use it
    finally:
        fcntl.flock(users, fcntl.LOCK_UN)
    deadline = time.monotonic() + 2 * STOP_SECONDS
    while _state(directory) == used and time.monotonic() < deadline:
        time.sleep(0.05)
    for keeper in _keepers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(1)


def _state(directory: Path) -> bytes:
    try:
        return (directory / STATE).read_bytes()
    except FileNotFoundError:
        return b""


def keep(directory: Path) -> None:
    """Run a broker until nobody uses it.

    Args:
        directory: the directory that its users share.
    """
    state = directory / STATE
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="kafka", dir=directory)))
    try:
        cluster.start()
        (broker,) = cluster.brokers
        complete = directory / f"{STATE}.{os.getpid()}"
        complete.write_text(
            json.dumps({"directory": str(broker.directory), "port": broker.port, "controller_port": broker.controller_port})
        )
        complete.rename(state)
        with (directory / _USERS).open("wb") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            # Users that come now wait for the lock: it is released when this process ends.
            cluster.stop()
            state.unlink()
    finally:
        cluster.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
