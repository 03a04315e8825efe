"""Measures the figures in the README and docs/explanation/performance.md, and writes benchmarks/results.json.

``make bench`` runs everything, in about an hour; ``python -m benchmarks.bench NAME …`` runs only some groups (see ``GROUPS``) and replaces
their rows; ``python -m benchmarks.bench page`` only rewrites the page. Every row has a name, a value and a unit. Some also have a baseline
from the same run and the ratio to it, a goal and whether it is met, and the limiting factor. Absolute figures apply to this machine only;
ratios apply to others, too.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable

from benchmarks.core import bench_core
from benchmarks.on_kafka import bench_kafka, bench_kafka_million
from benchmarks.report import ROOT, Row, line, write, write_page
from benchmarks.rotation import bench_rotation
from benchmarks.server import bench_million, bench_scale, bench_way
from benchmarks.vault import bench_vault

GROUPS: dict[str, Callable[[], Iterable[Row]]] = {
    "core": bench_core,
    "way": bench_way,
    "million": bench_million,
    "scale": bench_scale,
    "rotation": bench_rotation,
    "kafka": bench_kafka,
    "kafka-million": bench_kafka_million,
    "vault": bench_vault,
}


def main() -> None:
    """Run the groups named on the command line, or all."""
    if sys.argv[1:] == ["page"]:
        write_page(json.loads((ROOT / "benchmarks" / "results.json").read_text()))
        return
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    for name in sys.argv[1:] or GROUPS:
        rows: list[Row] = []
        for row in GROUPS[name]():
            rows.append(row)
            print(line(row), flush=True)
            if row.limits:
                print(f"{'':>24}{row.limits}", flush=True)
        write(machine, name, rows, list(GROUPS))


if __name__ == "__main__":
    main()
