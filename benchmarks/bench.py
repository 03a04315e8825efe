"""Measures what the README and docs/performance.md say, and writes benchmarks/results.json.

``make bench`` runs everything; ``bench.py NAME ...`` only some groups: core, way. Every row has a name, a value, a unit, and where there
is one a baseline measured in the same run, the ratio to it, a goal and whether it is met. Absolute figures are this machine's; ratios
carry over.
"""

import asyncio
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.server import Running, dev  # noqa: E402 (found by the path above)
from tufline import metafile  # noqa: E402
from tufline.bins import Bin  # noqa: E402
from tufline.cli.ceremony import make_key  # noqa: E402
from tufline.keys.local import open_key  # noqa: E402
from tufline.model import Target, encode_entry  # noqa: E402
from tufline.snapshot import Snapshot as SnapshotContent  # noqa: E402

FULL_BIN = 1220
BINS = 16_384
EXPIRES = datetime(2040, 1, 1, tzinfo=UTC)


@dataclass
class Row:
    """A figure."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def timed(work: Callable[[], object], least_seconds: float = 1.0) -> float:
    """Give the median seconds of a piece of work."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < least_seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def target(number: int) -> Target:
    """Make a target as a package index has them."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    path = f"packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/project_{number % 5000}-1.{number // 5000}.0-py3-none-any.whl"
    return Target(path, number, {"sha256": digest})


def bench_bin(scheme: str, goal: float) -> Row:
    """One bin of an index of 20 million files: one target replaced, encoded, signed and verified."""
    made = make_key(scheme)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "k.pem").write_bytes(made.pem)
        key = open_key("fn:k.pem", made.signer.public_key, Path(directory))
    mine, oracle = Bin(), Targets(version=1, expires=EXPIRES)
    for number in range(FULL_BIN):
        one = target(number)
        mine.add(encode_entry(one))
        oracle.targets[one.path] = TargetFile(one.length, dict(one.hashes), one.path)
    content = Metadata(oracle).to_bytes()
    version = 0

    def ours() -> None:
        nonlocal version
        version += 1
        mine.add(encode_entry(Target(target(7).path, version, {"sha256": "0" * 64})))
        signed = mine.encode(version, metafile.format_expires(EXPIRES))
        metafile.assemble(signed, runner.run(key.sign_many([signed])))

    def theirs() -> None:
        loaded = Metadata[Targets].from_bytes(content)
        path = target(7).path
        loaded.signed.targets[path] = TargetFile(1, {"sha256": "0" * 64}, path)
        loaded.signed.version += 1
        signature = loaded.sign(CryptoSigner(made.signer._private_key, made.signer.public_key))
        made.signer.public_key.verify_signature(signature, loaded.signed_bytes)
        loaded.to_bytes()

    with asyncio.Runner() as runner:
        mine_seconds = timed(ours)
    their_seconds = timed(theirs)
    ratio = their_seconds / mine_seconds
    name = f"one bin of {FULL_BIN:,} targets updated and signed, {scheme}"
    return Row(name, 1000 * mine_seconds, "ms", 1000 * their_seconds, ratio, f"≥ {goal:g}x python-tuf", ratio >= goal)


def bench_snapshot() -> Row:
    """A snapshot of all bins, of which a hundred changed."""
    roles = [f"bins-{number:04x}" for number in range(BINS)]
    mine = SnapshotContent(dict.fromkeys(roles, 1))
    oracle = Snapshot(version=1, expires=EXPIRES, meta={f"{role}.json": MetaFile(1) for role in roles})
    version = 1

    def ours() -> None:
        nonlocal version
        version += 1
        for role in roles[:: BINS // 100]:
            mine.set(role, version)
        metafile.assemble(mine.encode(version, metafile.format_expires(EXPIRES)), [])

    def theirs() -> None:
        oracle.version += 1
        for role in roles[:: BINS // 100]:
            oracle.meta[f"{role}.json"].version += 1
        signed = Metadata(oracle)
        signed.signed_bytes  # noqa: B018 (what a signature is made over)
        signed.to_bytes()

    mine_seconds, their_seconds = timed(ours), timed(theirs)
    ratio = their_seconds / mine_seconds
    name = f"snapshot of {BINS:,} bins, 100 changed"
    return Row(name, 1000 * mine_seconds, "ms", 1000 * their_seconds, ratio, "≥ 40x python-tuf", ratio >= 40)


def bench_core() -> list[Row]:
    """Measure the pure core against python-tuf, in the same run."""
    return [bench_bin("ecdsa", 20), bench_bin("ed25519", 10), bench_snapshot()]


def artifact(number: int) -> dict[str, Any]:
    """Make an artifact of a request."""
    one = target(number)
    return {"path": one.path, "info": {"length": one.length, "hashes": one.hashes}}


class Load:
    """Requests of artifacts that were not there before."""

    def __init__(self, server: Running) -> None:
        self._url = f"{server.api}/api/v1"
        self._next = 0

    async def run(self, requests: int, artifacts: int, clients: int = 16) -> tuple[float, list[float]]:
        """Send requests from some clients, and give the seconds until all are visible, and for each from acceptance to visible."""
        bodies = []
        for _ in range(requests):
            some = [artifact(number) for number in range(self._next, self._next + artifacts)]
            bodies.append(json.dumps({"artifacts": some}).encode())
            self._next += artifacts
        latencies: list[float] = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def follow(task: str, accepted: float) -> None:
                while True:
                    async with session.get(f"{self._url}/task/", params={"task_id": task}) as response:
                        if (await response.json())["data"]["state"] == "SUCCESS":
                            latencies.append(time.perf_counter() - accepted)
                            return

            async def client(following: asyncio.TaskGroup) -> None:
                while bodies:
                    async with session.post(f"{self._url}/artifacts/", data=bodies.pop()) as response:
                        if response.status != 202:
                            raise RuntimeError(await response.text())
                        task = (await response.json())["data"]["task_id"]
                    following.create_task(follow(task, time.perf_counter()))

            began = time.perf_counter()
            async with asyncio.TaskGroup() as following, asyncio.TaskGroup() as sending:
                for _ in range(clients):
                    sending.create_task(client(following))
            return time.perf_counter() - began, latencies


W = {"W1": (200, 1, 500.0), "W2": (50, 50, 3000.0), "W3": (20, 500, 3000.0)}
"""Requests, artifacts in each, and the goal in artifacts/s."""

REPEATS = 3


def bench_way() -> list[Row]:
    """Measure the whole way over REST, from an empty repository of all bins."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        with dev(Path(directory) / "data", "--bins", str(BINS)) as server:
            seconds = time.perf_counter() - began
            name = f"bootstrap with {BINS:,} bins, from starting the process to published"
            rows.append(Row(name, seconds, "s", goal="< 5 s", met=seconds < 5))
            load = Load(server)
            asyncio.run(load.run(5, 1))
            idle = []
            for _ in range(40):
                idle += asyncio.run(load.run(1, 1, 1))[1]
                time.sleep(0.3)
            p50, p95 = (1000 * quantiles(idle, n=100)[part] for part in (49, 94))
            rows.append(Row("one artifact when idle, accept to visible, p50", p50, "ms", goal="< 50 ms", met=p50 < 50))
            rows.append(Row("the same, p95", p95, "ms"))
            for name, (requests, artifacts, goal) in W.items():
                rates = sorted(requests * artifacts / asyncio.run(load.run(requests, artifacts))[0] for _ in range(REPEATS))
                rate = rates[REPEATS // 2]
                label = f"{name}: {requests} requests of {artifacts}, 16 clients, {BINS:,} bins, until all are visible"
                rows.append(Row(label, rate, "artifacts/s", goal=f"≥ {goal:,.0f}", met=rate >= goal))
            status = Path(f"/proc/{server.process.pid}/status")
            if status.exists():
                peak = int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1000
                rows.append(Row("peak memory of the process, all of the above", peak, "MB", goal="< 400 MB", met=peak < 400))
    return rows


GROUPS: dict[str, Callable[[], list[Row]]] = {"core": bench_core, "way": bench_way}


def shown(number: float | None) -> str:
    """Write a number with as many digits as it deserves."""
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:,.1f}" if number >= 10 else f"{number:,.2f}"


def write_page(results: dict[str, Any]) -> None:
    """Write docs/performance.md."""
    lines = [
        "# Performance",
        "",
        "Generated by `make bench`; do not edit. The machine: " + results["machine"] + ".",
        "",
        "The baseline of the core is python-tuf's Metadata API, measured in the same run; the other figures are of this machine alone.",
        "",
        "| what | value | baseline | ratio | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        ratio = f"{shown(row['ratio'])}x" if row["ratio"] else ""
        cells = (row["name"], f"{shown(row['value'])} {row['unit']}", shown(row["baseline"]), ratio, row["goal"], met)
        lines.append(f"| {' | '.join(cells)} |")
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the groups that the command line asks for, or all."""
    rows: list[Row] = []
    for name in sys.argv[1:] or GROUPS:
        for row in GROUPS[name]():
            rows.append(row)
            ratio = f"{shown(row.ratio)}x" if row.ratio else ""
            print(f"{shown(row.value):>9} {row.unit:<12} {ratio:>9}  {row.goal:<18} {row.name}", flush=True)
    if not sys.argv[1:]:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        results = {"machine": machine, "rows": [asdict(row) for row in rows]}
        (ROOT / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        write_page(results)


if __name__ == "__main__":
    main()
