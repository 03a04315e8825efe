"""Shows on a real broker why Faust must not process data that may not be lost: ``make faust-evidence``. See docs/adr/0003.

faust-streaming is installed from its own lock file into a separate environment. A worker consumes 20,000 events in batches of a thousand,
and records each batch in a file. In the middle of the fifth batch it gets SIGTERM, or raises. Then it, or another worker, continues to the
end. Events that are not recorded by then are lost, because the group's committed offset says that they have been processed.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tufline_testing.checkout import ROOT
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.parts import MissingPartError, environment

LOCK: Final = ROOT / "requirements" / "faust.lock"
WORKER: Final = ROOT / "evidence" / "faust_worker.py"
EVENTS: Final = 20_000
FAULTS: Final = {"sigterm": "SIGTERM in the middle of a batch, and a new worker", "exception": "an exception in the middle of a batch"}

DEADLINE_SECONDS: Final = 120.0
QUIET_SECONDS: Final = 15.0
"""How long no event may arrive before the run counts as finished, in seconds, if nothing is left to consume."""


async def produce(servers: str, topic: str) -> None:
    """Write the numbers of all events to a topic of one partition.

    Args:
        servers: the cluster's bootstrap servers.
        topic: name of the topic, which is created.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
    await producer.start()
    for number in range(EVENTS):
        await producer.send(topic, str(number).encode())
    await producer.stop()


def take(python: Path, servers: str, fault: str, directory: Path) -> Counter[int]:
    """Let workers consume all events, with a fault.

    Args:
        python: a Python that has faust-streaming.
        servers: the cluster's bootstrap servers.
        fault: a key of ``FAULTS``.
        directory: directory of this run.

    Returns:
        How often each event was recorded.

    Raises:
        TimeoutError: if the worker does not reach its fifth batch or the end in time.
    """
    directory.mkdir()
    out, marker, log = directory / "out", directory / "marker", directory / "worker.log"
    env = {
        **os.environ,
        "EVIDENCE_BROKER": servers,
        "EVIDENCE_TOPIC": fault,
        "EVIDENCE_FAULT": fault,
        "EVIDENCE_OUT": str(out),
        "EVIDENCE_MARKER": str(marker),
    }

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            command = [str(python), str(WORKER), "worker", "--without-web", "-l", "warn"]
            return subprocess.Popen(command, env=env, stdout=output, stderr=output, cwd=directory)

    worker = start()
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not marker.exists():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the worker does not reach its fifth batch:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        if fault == "sigterm":
            worker.send_signal(signal.SIGTERM)
            worker.wait(DEADLINE_SECONDS)
            worker = start()
        size, since = -1, time.monotonic()
        while time.monotonic() < since + QUIET_SECONDS or str(EVENTS - 1).encode() not in out.read_bytes().split():
            if time.monotonic() > deadline + DEADLINE_SECONDS:
                raise TimeoutError(f"the worker does not reach the end:\n{log.read_text()[-3000:]}")
            if out.stat().st_size != size:
                size, since = out.stat().st_size, time.monotonic()
            time.sleep(0.5)
        return Counter(int(line) for line in out.read_bytes().split())
    finally:
        worker.kill()
        worker.wait()


def main() -> int:
    """Print how many events are lost. The exit code is 1 if none is, because then the decision is no longer justified."""
    lost_any = False
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name) / "kafka")
        try:
            python = environment("faust", LOCK)
            cluster.start()
            for fault, said in FAULTS.items():
                asyncio.run(produce(cluster.bootstrap, fault))
                written = take(python, cluster.bootstrap, fault, Path(name) / fault)
                lost, doubled = EVENTS - len(written), written.total() - len(written)
                print(f"{said}: {lost:,} of {EVENTS:,} events lost, {doubled:,} doubled", flush=True)
                lost_any |= lost > 0
        except MissingPartError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()
    return 0 if lost_any else 1


if __name__ == "__main__":
    sys.exit(main())
