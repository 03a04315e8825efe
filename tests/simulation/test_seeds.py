"""A schedule of the simulation is a function of its seed, so that what a seed found can be played again."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tufline.bus.embedded.bus import open_embedded
from tufline.records import topics
from tufline_testing.log import read_all
from tufline_testing.simulation.schedule import Schedule

pytestmark = pytest.mark.slow

PLAY = """
import sys
from pathlib import Path
from tufline_testing.simulation.schedule import play

sys.exit(play(int(sys.argv[1]), Path(sys.argv[2])) or 0)
"""


def played(seed: int, path: Path, hash_seed: int) -> list[str]:
    """Play a schedule in a process of its own, and return a line for each record, except for audit records, which name the process."""
    path.mkdir()
    command = [sys.executable, "-c", PLAY, str(seed), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": str(hash_seed)}, check=False)
    assert done.returncode == 0, done.stderr

    async def read() -> list[str]:
        every = topics.topics(Schedule(seed, path / "another").partitions)
        bus = await open_embedded(path / "log.db", every)
        return [
            f"{topic} {partition} {one.offset} {one.key} {one.time} {dict(one.headers)} {hashlib.sha256(one.value).hexdigest()}"
            for topic in sorted(every)
            if topic != topics.AUDIT
            for partition in range(bus.partitions(topic))
            for one in await read_all(bus, topic, partition)
        ]

    return asyncio.run(read())


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_seed_determines_the_log(seed: int, tmp_path: Path) -> None:
    """A schedule that is played again, with another order of sets, writes the same records at the same times."""
    first, again = (played(seed, tmp_path / str(hash_seed), hash_seed) for hash_seed in (1, 2))
    assert len(first) > 20
    assert first == again, f"{sum((Counter(first) - Counter(again)).values())} of {len(first)} records differ"


def test_another_seed_gives_another_log(tmp_path: Path) -> None:
    """Two seeds give two logs: the comparison is not blind."""
    assert played(1, tmp_path / "1", 1) != played(3, tmp_path / "3", 1)
