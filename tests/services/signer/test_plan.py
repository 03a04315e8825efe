"""The formulas of ``tufline plan``, compared with what a signer counts in some days of virtual time."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tufline.metadata import envelope
from tufline.records import Add
from tufline.trust import plan
from tufline.trust.plan import DAY_SECONDS, Load, Timing
from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.signing import PARTITIONS, BootstrappedLog, on_a_bootstrapped_log

ALLOWED = 0.05
"""By which fraction a count may differ from its formula."""

BINS, FILES, PATH_BYTES = 64, 1_000, 60
SETTINGS = {"commit_delay": 0.01, "renew_fraction": 0.5, "renewal_check": 120.0}
COUNTERS = {
    "bins": ("tufline_signer_bins_total", {}),
    "renewed": ("tufline_signer_renewals_total", {}),
    "snapshots": ("tufline_signer_commits_total", {"kind": "snapshot"}),
    "timestamps alone": ("tufline_signer_commits_total", {"kind": "timestamp"}),
    "bytes of bins": ("tufline_signer_bin_bytes_total", {}),
}


def counts() -> dict[str, float]:
    """Read the signer's counters."""
    return {name: REGISTRY.get_sample_value(counter, labels) or 0.0 for name, (counter, labels) in COUNTERS.items()}


def path(number: int) -> str:
    return f"packages/{number:051d}"


BURST_INTERVAL = 300.0
"""A commit interval so long that several requests share a commit, in seconds."""

WORKLOADS: dict[str, tuple[Load, int, float]] = {
    "changes and renewals": (Load(FILES, BINS, 60, path_bytes=PATH_BYTES), 1, 0.25),
    "nearly nothing": (Load(FILES, BINS, 2, path_bytes=PATH_BYTES), 1, 0.25),
    "many files a request": (Load(FILES, BINS, 400, 40, PATH_BYTES), 30, 0.25),
    "bursts": (Load(FILES, BINS, 300, path_bytes=PATH_BYTES), 30, BURST_INTERVAL),
}
"""A load, the lifetime of bins in days, and the commit interval. Where bins live long, so many changes leave next to nothing to renew:
otherwise the renewals of a few days would be as random as the changes."""


@pytest.mark.parametrize("name", WORKLOADS)
def test_counts_are_as_computed(tmp_path: Path, name: str) -> None:
    """Bins signed for changes and for renewal, snapshots, timestamps and their bytes are within 5 % of the formulas."""
    (load, bins_days, interval), chance = WORKLOADS[name], random.Random(1)
    settings: dict[str, Any] = SETTINGS | {"commit_interval": interval}
    days, expirations = 2.0, DEFAULT_DAYS | {"bins": bins_days}
    found: dict[str, float] = {}

    async def story(log: BootstrappedLog) -> None:
        clock = asyncio.get_running_loop().time

        def changed() -> Add:
            number = chance.randrange(FILES)
            return Add(path(number), chance.randrange(10_000, 100_000), {"sha256": f"{chance.getrandbits(256):064x}"})

        async def change(seconds: float) -> None:
            began, requests = clock(), round(load.changes / load.per_request * seconds / DAY_SECONDS)
            for at in sorted(chance.uniform(0, seconds) for _ in range(requests)):
                await asyncio.sleep(max(0.0, began + at - clock()))
                await log.announce(*(changed() for _ in range(round(load.per_request))), request=f"r{chance.getrandbits(64)}")
            await asyncio.sleep(max(0.0, began + seconds - clock()))

        async with log.signer(**settings):
            for first in range(0, FILES, 500):
                await log.announce(*(Add(path(number), 10_000, {"sha256": f"{number:064x}"}) for number in range(first, first + 500)))
            # All bins are of the same age at first; after a day and a half, three of the longest times, they are mixed.
            await change(1.5 * DAY_SECONDS)
            before = counts()
            await change(days * DAY_SECONDS)
            found.update({name: (count - before[name]) / days for name, count in counts().items()})

    on_a_bootstrapped_log(tmp_path, story, bins=BINS, days=expirations)
    timing = Timing(interval, 0.01, 0.5, 120.0, PARTITIONS, expirations)
    done, sizes = plan.work(load, timing), plan.sizes(load)
    computed = {
        "bins": done.changed + done.renewed,
        "renewed": done.renewed,
        "snapshots": done.snapshots,
        "timestamps alone": done.timestamps - done.snapshots,
        "bytes of bins": done.changed * sizes.files["bin"].raw + done.renewed * sizes.average_bin.raw,
    }
    for what, count in computed.items():
        # Fewer than some tens a day are as random as the changes are.
        assert found[what] == pytest.approx(count, rel=ALLOWED, abs=3), f"{what}: {found} {computed}"


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    """Each file that a repository publishes has the size that is computed, within 5 %."""
    sizes: dict[str, int] = {}

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(*(Add(path(number), 10_000 + number, {"sha256": envelope.sha256(b"%d" % number)}) for number in range(800)))
            published = await log.settled()
        for name, content in sorted(published.files.items(), key=lambda item: int(item[0].partition(".")[0])):
            sizes[name.split(".")[1]] = len(content)  # the newest version of each role is the last
        sizes["timestamp"] = len(published.timestamp)

    on_a_bootstrapped_log(tmp_path, story, bins=4)
    computed = plan.sizes(Load(800, 4, 1, path_bytes=PATH_BYTES))
    bins = [size for role, size in sizes.items() if role.startswith("bins-")]
    assert sum(bins) / len(bins) == pytest.approx(computed.average_bin.raw, rel=ALLOWED)
    for role in ("root", "targets", "timestamp"):
        assert sizes[role] == pytest.approx(computed.files[role].raw, rel=ALLOWED)
