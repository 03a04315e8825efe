"""Measures the cost of a transaction on Kafka, and of a new producer epoch: ``benchmarks/renewal.py`` (docs/adr/0007).

Small transactions, of two records in two partitions, are committed alternately in two ways: under one epoch, as Tufline does while all
requests are answered, and with a new epoch after each, as it does after a failure.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from tufline.bus import Message
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.kafka.writer import KafkaWriter
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.servers.kafka_cluster import Cluster

TOPICS: Final = {name: Topic(name, 1, Cleanup.KEEP) for name in ("metadata", "heads")}
ROUNDS: Final = 20
EACH: Final = 25
WARM_UP: Final = 50


async def measure(servers: str) -> dict[str, list[float]]:
    """Commit transactions of both kinds alternately.

    Args:
        servers: bootstrap servers of an otherwise unused cluster.

    Returns:
        Kind to the duration of each transaction, in milliseconds.
    """
    connection = KafkaConnection(servers, "renewal.", {})
    async with TopicAdmin(connection, TOPICS, 1) as admin:
        await admin.apply()
    bus = await open_kafka(connection, TOPICS, max_pending_bytes=1_000_000)
    try:
        writer = await bus.writer("w")
        for _ in range(WARM_UP):
            await _commit(writer)
        took: dict[str, list[float]] = {"as it is": [], "with a new epoch each": []}
        for _ in range(ROUNDS):
            for kind, times in took.items():
                for _ in range(EACH):
                    times.append(await _commit(writer, is_spent=kind != "as it is"))
        await writer.close()
        return took
    finally:
        await bus.close()


async def _commit(writer: KafkaWriter, *, is_spent: bool = False) -> float:
    began = time.perf_counter()
    writer._epoch._is_unsure = is_spent  # as after a request without an answer
    await writer.commit([Message(topic, "k", b"x" * 1000) for topic in TOPICS])
    return 1000 * (time.perf_counter() - began)


def main() -> int:
    """Start a broker, measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory) / "kafka")
        try:
            cluster.start()
            took = asyncio.run(measure(cluster.bootstrap))
        finally:
            cluster.stop()
    for kind, times in took.items():
        print(f"{kind}: median {median(times):.1f} ms, 95th percentile {quantiles(times, n=20)[-1]:.1f} ms, of {len(times)} transactions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
