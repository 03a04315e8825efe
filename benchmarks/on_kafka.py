"""The services as processes of their own on one broker of Apache Kafka, all on this machine."""

import asyncio
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from load import BINS, Load
from profiling import cpu_seconds, peak_mb
from report import Row

from kafka_cluster import Cluster
from stack import Stack

W = {"W1": (200, 1, None), "W2": (50, 50, 1500.0), "W3": (20, 500, 1500.0)}
"""Requests, artifacts in each, and the goal in artifacts/s."""

REPEATS = 3
FAILOVERS = 3


@contextmanager
def stack_of(directory: Path) -> Iterator[Stack]:
    """Run a broker and one process of each service, bootstrapped."""
    cluster = Cluster(directory / "kafka")
    stack = Stack(directory / "stack", cluster, BINS)
    try:
        cluster.start()
        stack.prepare()
        for name in ("ingest", "signer", "publisher"):
            stack.start(name)
        stack.bootstrap()
        yield stack
    finally:
        for service in stack.services:
            service.process.kill()
            service.process.wait()
        cluster.stop()


def costs(stack: Stack, load: Load, replicas: str) -> Iterator[Row]:
    """Measure the processor time of an artifact in each service, at W3."""
    services = [service for service in stack.services if service.process.poll() is None]
    before = [cpu_seconds(service.process.pid) for service in services]
    for _ in range(REPEATS):
        asyncio.run(load.run(20, 500))
    spent: dict[str, float] = {}
    for service, began in zip(services, before, strict=True):
        spent[service.name] = spent.get(service.name, 0.0) + cpu_seconds(service.process.pid) - began
    for name, seconds in spent.items():
        yield Row(f"Kafka, W3: processor time of an artifact in {name}, {replicas}", 1_000_000 * seconds / (REPEATS * 10_000), "µs")


def failover(stack: Stack, load: Load) -> float:
    """Kill the signer that works, with one standing by, and give the seconds until what comes then is live."""
    stack.start("signer")
    working = next(service for service in stack.services if service.name == "signer" and service.process.poll() is None)
    asyncio.run(load.run(5, 1, 1))
    working.stop(signal.SIGKILL)
    began = time.perf_counter()
    asyncio.run(load.run(8, 1))
    return time.perf_counter() - began


def bench_kafka() -> Iterator[Row]:
    """Measure the way over REST, Kafka and three processes."""
    with tempfile.TemporaryDirectory() as name, stack_of(Path(name)) as stack:
        load = Load(stack.api.url)
        asyncio.run(load.run(5, 1))
        idle: list[float] = []
        for _ in range(40):
            idle += asyncio.run(load.run(1, 1, 1))[1]
            time.sleep(0.3)
        p50 = 1000 * quantiles(idle, n=100)[49]
        yield Row("Kafka: one artifact when idle, accept to visible, p50", p50, "ms", goal="< 100 ms", met=p50 < 100)
        for label, (requests, artifacts, goal) in W.items():
            rates = sorted(requests * artifacts / asyncio.run(load.run(requests, artifacts))[0] for _ in range(REPEATS))
            rate = rates[REPEATS // 2]
            text = f"Kafka, {label}: {requests} requests of {artifacts}, 16 clients, {BINS:,} bins, empty, until all are visible"
            yield Row(text, rate, "artifacts/s", goal=f"≥ {goal:,.0f}" if goal else "", met=rate >= goal if goal else None)
        p99 = quantiles(asyncio.run(load.steady(100, 60)), n=100)[98]
        yield Row("Kafka: 100 artifacts/s for a minute, accept to visible, p99", 1000 * p99, "ms", goal="< 1 s", met=p99 < 1)
        yield from costs(stack, load, "1 signer")
        for service in stack.services:
            yield Row(f"Kafka: peak memory of {service.name}", peak_mb(service.process.pid), "MB")
        seconds = max(failover(stack, load) for _ in range(FAILOVERS))
        yield Row(
            "Kafka: kill -9 of the signer with another standing by, until new artifacts are live, worst of 3",
            seconds,
            "s",
            goal="< 10 s",
            met=seconds < 10,
            limits="the session timeout of 6 s",
        )
        stack.start("signer")
        time.sleep(10)
        yield from costs(stack, load, "2 signers")
