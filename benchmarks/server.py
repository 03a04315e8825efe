"""Measures a whole server under load through REST, from the first request until a client sees the result."""

import asyncio
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks.load import BINS, Load, write_lines
from benchmarks.profiling import Profile, cpu_seconds, peak_mb, profiled
from benchmarks.report import Row
from benchmarks.settle import settled_directory
from tufline.metadata import envelope
from tufline.metadata.snapshot import read_snapshot
from tufline_testing.server import TUFLINE, Running, dev, start_dev

W = {"W1": (200, 1, 500.0, None), "W2": (50, 50, 3000.0, 1000.0), "W3": (20, 500, 3000.0, 1000.0)}
"""Number of requests, artifacts per request, and the goals in artifacts/s: for an empty repository, and with a million in place."""

REPEATS = 5

PAUSE_SECONDS = 1.0
"""Pause before each run, in seconds, so that the repository is idle; otherwise the result depends on the last commit before it."""

MILLION = 1_000_000
SCALES = [256, 1024, 4096, 16_384]
ARTIFACTS = [0, 250_000, 500_000, 1_000_000, 2_000_000]


@contextmanager
def server_of(bins: int, directory: Path) -> Iterator[Running]:
    """Run a server."""
    directory.mkdir(exist_ok=True)
    with dev(directory / "data", "--bins", str(bins)) as server:
        yield server


def import_lines(api: str, directory: Path, first: int, count: int) -> float:
    """Import artifacts with the command line, and return the seconds until all are live."""
    source = directory / "artifacts.ndjson"
    write_lines(source, first, count)
    command = [TUFLINE, "import", str(source), "--url", api, "--journal", str(directory / "journal"), "--timeout", "3600"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def workloads(server: Running, load: Load, where: str, *, full: bool) -> Iterator[Row]:
    """Measure the peer's workloads W1, W2 and W3."""
    for name, (requests, artifacts, empty_goal, full_goal) in W.items():
        goal = full_goal if full else empty_goal
        rates = []
        for _ in range(REPEATS):
            time.sleep(PAUSE_SECONDS)
            rates.append(requests * artifacts / asyncio.run(load.run(requests, artifacts))[0])
        rate = median(rates)
        with profiled(server.process.pid) as profile:  # from an additional run, because profiling slows a short run noticeably
            asyncio.run(load.run(requests, artifacts))
        label = f"{name}: {requests} requests of {artifacts}, 16 clients, {BINS:,} bins, {where}, until all are visible"
        yield Row(
            label, rate, "artifacts/s", goal=f"≥ {goal:,.0f}" if goal else "", met=rate >= goal if goal else None, limits=profile.limits
        )


def bench_way() -> Iterator[Row]:
    """Measure the whole path through REST, starting from an empty repository with all bins."""
    with settled_directory() as directory:
        began = time.perf_counter()
        with server_of(BINS, directory) as server:
            seconds = time.perf_counter() - began
            name = f"bootstrap with {BINS:,} bins, from starting the process to published"
            limits = f"{cpu_seconds(server.process.pid):.1f} s of processor time: {BINS:,} signatures made and verified, and as many files"
            yield Row(name, seconds, "s", goal="< 5 s", met=seconds < 5, limits=limits)
            load = Load(server.api)
            asyncio.run(load.run(5, 1))
            idle = []
            with profiled(server.process.pid) as profile:
                for _ in range(40):
                    idle += asyncio.run(load.run(1, 1, 1))[1]
                    time.sleep(0.3)
            p50, p95 = (1000 * quantiles(idle, n=100)[part] for part in (49, 94))
            yield Row("one artifact when idle, accept to visible, p50", p50, "ms", goal="< 50 ms", met=p50 < 50, limits=profile.limits)
            yield Row("the same, p95", p95, "ms")
            yield from workloads(server, load, "empty", full=False)
            yield Row("peak memory of the process, all of the above", peak_mb(server.process.pid), "MB")


def versions(metadata: str) -> dict[str, int]:
    """Return the versions that a client sees at a URL."""

    def get(name: str) -> bytes:
        with urllib.request.urlopen(metadata + name) as response:
            content: bytes = response.read()
        return content

    named = json.loads(get("timestamp.json"))["signed"]["meta"]["snapshot.json"]["version"]
    return read_snapshot(envelope.disassemble(get(f"{named}.snapshot.json")).signed)


def bench_million() -> Iterator[Row]:
    """Measure an import of a million artifacts, and the workloads on the result."""
    with settled_directory() as directory:
        # An import is profiled in a separate run: profiling takes a tenth of the server's capacity.
        with server_of(BINS, directory / "profiled") as server, profiled(server.process.pid) as profile:
            import_lines(server.api, directory / "profiled", 0, MILLION)
        os.sync()
        with server_of(BINS, directory) as server:
            seconds = import_lines(server.api, directory, 0, MILLION)
            rate = MILLION / seconds
            label = f"import of a million until published, {BINS:,} bins"
            yield Row(label, rate, "artifacts/s", goal="≥ 50,000", met=rate >= 50_000, limits=profile.limits)
            yield Row("20 million at that pace (extrapolated)", 20 * seconds / 60, "min")
            peak = peak_mb(server.process.pid)
            yield Row("peak memory of the process, import of a million, bin budget 128 MB", peak, "MB", goal="< 400 MB", met=peak < 400)
            load = Load(server.api, MILLION)
            yield from workloads(server, load, "a million in place", full=True)
            os.sync()  # otherwise pending writes of the import would delay every sync of the first seconds
            with profiled(server.process.pid) as profile:
                p99 = 1000 * quantiles(asyncio.run(load.steady(100, 120)), n=100)[98]
            label = "100 artifacts/s for two minutes, a million in place, accept to visible, p99"
            yield Row(label, p99, "ms", goal="< 500 ms", met=p99 < 500, limits=profile.limits)
            assert server.stop() == 0
        yield from renewal(directory)
    with settled_directory() as directory, server_of(2048, directory) as server:
        with profiled(server.process.pid) as profile:
            rate = 200_000 / import_lines(server.api, directory, 0, 200_000)
        yield Row("import of 200,000 until published, 2,048 bins (RSTUF: 542)", rate, "artifacts/s", limits=profile.limits)


def renewal(directory: Path) -> Iterator[Row]:
    """Measure how long it takes to renew all bins, and how long new artifacts wait meanwhile."""
    # With this setting, bins with a lifetime of a week are due after a minute. A renewed bin is not due for at least half a minute.
    os.environ["TUFLINE_SIGNER__RENEW_FRACTION"] = "0.9999"
    time.sleep(65)
    try:
        server = start_dev(directory / "data", "--bins", str(BINS))
        try:
            load, before, latencies = Load(server.api, 3 * MILLION), versions(server.metadata), list[float]()
            began = time.perf_counter()
            with profiled(server.process.pid) as profile:
                while any(version == before[role] for role, version in versions(server.metadata).items() if role.startswith("bins-")):
                    latencies += asyncio.run(load.run(1, 1, 1))[1]
            seconds = time.perf_counter() - began
        finally:
            server.process.kill()
            server.process.wait()
    finally:
        del os.environ["TUFLINE_SIGNER__RENEW_FRACTION"]
    label = f"renewal of all {BINS:,} bins, a million artifacts in place"
    yield Row(label, seconds, "s", goal="< 60 s", met=seconds < 60, limits=profile.limits)
    yield Row("longest wait of a new artifact meanwhile, accept to visible", 1000 * max(latencies), "ms")


def cost_of_one(server: Running, first: int) -> tuple[float, Profile]:
    """Measure the processor time of one artifact on an idle server, in ms."""
    load = Load(server.api, first)
    asyncio.run(load.run(20, 1, 1))
    before = cpu_seconds(server.process.pid)
    with profiled(server.process.pid) as profile:
        asyncio.run(load.run(150, 1, 1))
    return 1000 * (cpu_seconds(server.process.pid) - before) / 150, profile


def bench_scale() -> Iterator[Row]:
    """Measure the cost of one artifact as a function of the number of bins, and of the number of artifacts."""
    by_bins, by_artifacts = [], []
    for bins in SCALES:
        with settled_directory() as directory, server_of(bins, directory) as server:
            by_bins.append((bins, cost_of_one(server, 0)[0]))
    with settled_directory() as directory, server_of(BINS, directory) as server:
        done = 0
        for count in ARTIFACTS:
            if count > done:
                import_lines(server.api, directory, done, count - done)
                done = count
            cost, profile = cost_of_one(server, 10 * MILLION + count)
            by_artifacts.append((count, cost))
    label = "processor time of one artifact on an idle server, with one commit each, against the number of"
    yield Row(f"{label} bins (none in place)", by_bins[-1][1], "ms", points=by_bins, limits="the snapshot, which names every bin")
    yield Row(f"{label} artifacts ({BINS:,} bins)", by_artifacts[-1][1], "ms", points=by_artifacts, limits=profile.limits)
