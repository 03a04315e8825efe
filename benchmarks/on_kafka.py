"""The services in separate processes on one Apache Kafka broker, all on this machine."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from benchmarks.load import BINS, Load
from benchmarks.profiling import cpu_seconds, peak_mb
from benchmarks.report import Row
from benchmarks.server import MILLION, import_lines
from benchmarks.settle import settled_directory
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Stack
from tufline_testing.servers.vault_server import VaultServer

W = {"W1": (200, 1, None, None), "W2": (50, 50, 1500.0, 700.0), "W3": (20, 500, 1500.0, 700.0)}
"""Number of requests, artifacts per request, and the goals in artifacts/s: for an empty repository, and with a million in place."""

REPEATS = 3
FAILOVERS = 3


@contextmanager
def stack_of(directory: Path, bins: int = BINS, vault: VaultServer | None = None) -> Iterator[Stack]:
    """Run a broker and one process of each service, bootstrapped, with the online key in a file or in Vault."""
    cluster = Cluster(directory / "kafka")
    try:
        cluster.start()
        with Stack(directory / "stack", cluster, bins, vault=vault) as stack:
            stack.prepare()
            stack.begin()
            yield stack
    finally:
        cluster.stop()


@contextmanager
def spending(stack: Stack) -> Iterator[dict[str, float]]:
    """Measure the processor seconds of each service, the broker and OpenBao during the block; the result is complete after it."""
    running = [(service.name, service.process.pid) for service in stack.services if service.process.poll() is None]
    running += [("Kafka", broker.process.pid) for broker in stack.cluster.brokers if broker.process]
    if stack.vault is not None and stack.vault.process is not None:
        running.append(("OpenBao", stack.vault.process.pid))
    before = [cpu_seconds(pid) for _, pid in running]
    spent: dict[str, float] = {}
    yield spent
    for (name, pid), began in zip(running, before, strict=True):
        spent[name] = spent.get(name, 0.0) + cpu_seconds(pid) - began


def said(spent: dict[str, float]) -> str:
    """Describe how processor time was spent."""
    return f"processor time: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in spent.items())}"


def costs(stack: Stack, load: Load, replicas: str) -> Iterator[Row]:
    """Measure the processor time per artifact in each service, for W3."""
    with spending(stack) as spent:
        for _ in range(REPEATS):
            asyncio.run(load.run(20, 500))
    for name, seconds in spent.items():
        yield Row(f"Kafka, W3: processor time of an artifact in {name}, {replicas}", 1_000_000 * seconds / (REPEATS * 10_000), "µs")


def workloads(stack: Stack, load: Load, where: str, *, full: bool) -> Iterator[Row]:
    """Measure the peer's workloads W1, W2 and W3."""
    for label, (requests, artifacts, empty_goal, full_goal) in W.items():
        goal = full_goal if full else empty_goal
        with spending(stack) as spent:
            rates = sorted(requests * artifacts / asyncio.run(load.run(requests, artifacts))[0] for _ in range(REPEATS))
        rate = rates[REPEATS // 2]
        text = f"Kafka, {label}: {requests} requests of {artifacts}, 16 clients, {where}, until all are visible"
        met = rate >= goal if goal else None
        yield Row(text, rate, "artifacts/s", goal=f"≥ {goal:,.0f}" if goal else "", met=met, limits=f"{REPEATS} runs, {said(spent)}")


def steady(stack: Stack, load: Load, name: str) -> Row:
    """Measure the latency of artifacts that arrive at a steady rate."""
    with spending(stack) as spent:
        p99 = quantiles(asyncio.run(load.steady(100, 60)), n=100)[98]
    return Row(name, 1000 * p99, "ms", goal="< 1 s", met=p99 < 1, limits=said(spent))


def failover(stack: Stack, load: Load) -> float:
    """Kill the active signer while another stands by, and return the seconds until new artifacts are live."""
    stack.start("signer")
    working = next(service for service in stack.services if service.name == "signer" and service.process.poll() is None)
    asyncio.run(load.run(5, 1, 1))
    working.stop(signal.SIGKILL)
    began = time.perf_counter()
    asyncio.run(load.run(8, 1))
    return time.perf_counter() - began


def bench_kafka() -> Iterator[Row]:
    """Measure the path through REST, Kafka and three processes."""
    with settled_directory() as directory, stack_of(directory) as stack:
        load = Load(stack.api.url)
        asyncio.run(load.run(5, 1))
        idle: list[float] = []
        with spending(stack) as spent:
            for _ in range(40):
                idle += asyncio.run(load.run(1, 1, 1))[1]
                time.sleep(0.3)
        p50 = 1000 * quantiles(idle, n=100)[49]
        name = "Kafka: one artifact when idle, accept to visible, p50"
        yield Row(name, p50, "ms", goal="< 100 ms", met=p50 < 100, limits=f"40 of them, {said(spent)}")
        yield from workloads(stack, load, f"{BINS:,} bins, empty", full=False)
        yield steady(stack, load, "Kafka: 100 artifacts/s for a minute, accept to visible, p99")
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


def bench_kafka_million(count: int = MILLION, bins: int = BINS) -> Iterator[Row]:
    """Measure an import on Kafka, and the workloads on the result.

    Args:
        count: number of artifacts to import; fewer for a trial.
        bins: number of the repository's bins.
    """
    with settled_directory() as directory, stack_of(directory, bins) as stack:
        with spending(stack) as spent:
            rate = count / import_lines(stack.api.url, directory, 0, count)
        yield Row(f"Kafka: import of {count:,} until published, {bins:,} bins", rate, "artifacts/s", limits=said(spent))
        for service in stack.services:
            yield Row(f"Kafka: peak memory of {service.name}, import of {count:,}", peak_mb(service.process.pid), "MB")
        yield from workloads(stack, Load(stack.api.url, count), f"{bins:,} bins, {count:,} artifacts in place", full=True)
