"""Simulated faults in large numbers: the real services are broken hundreds of times, and a client always succeeds.

``make nightly`` plays thirty times as many schedules.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tufline_testing.simulation import mistakes

pytestmark = pytest.mark.slow

SCHEDULES_AT_ONCE = 30
SECONDS = 1800

SCHEDULES_UNTIL_FOUND = 400
"""The rarest mistake, progress outside its transaction, shows in about one of twenty-five schedules."""

FIRST_SEEDS = {
    "first_lifetimes": 6,
    "no_fence_at_the_origin": 57,
    "no_fencing": 7,
    "removed_from_one_role": 26,
    "renewal_by_the_wall_clock": 464,
    "renewal_covered_too_early": 18,
    "replaced_after_it_began": 94,
    "signed_for_the_new_root_only": 32,
    "signing_by_the_wall_clock": 6,
}
"""Where to start instead of at 1, for a mistake that does not show at once: a search takes up to minutes. If the services' order of work
changes, the search goes on from there, and the seed that it prints belongs here."""


def simulate(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Play schedules in a separate process, so that nothing that dies in them runs again."""
    command = [sys.executable, "-m", "tufline_testing.simulation", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("part", range(4))
def test_schedules(part: int) -> None:
    """In 120 schedules nothing accepted is lost, repeated or reverted, versions are consecutive, and clients always succeed."""
    done = simulate(SCHEDULES_AT_ONCE, 1 + part * SCHEDULES_AT_ONCE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("mistake", sorted(mistakes.MUTATIONS))
def test_simulation_catches_the_classic_mistakes(mistake: str) -> None:
    """Each classic mistake, made on purpose, is found before long: the simulation is not blind."""
    done = simulate(SCHEDULES_UNTIL_FOUND, FIRST_SEEDS.get(mistake, 1), "--mutation", mistake)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "seed" in done.stdout


REPLAY = """
import hashlib, os, pathlib, sqlite3, sys
from tufline_testing.simulation import schedule
path = pathlib.Path(sys.argv[2])
schedule.play(int(sys.argv[1]), path)
records = [*sqlite3.connect(path / "log.db").execute("SELECT * FROM records ORDER BY rowid")]
print("log", hashlib.sha256(repr(records).encode()).hexdigest(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("seed", [5, 7, 10, 12])
def test_a_schedule_can_be_replayed(tmp_path: Path, seed: int) -> None:
    """A seed determines every byte of the log, whatever the hashes of strings and the addresses of objects are."""
    logs = []
    for hash_seed in "12":
        path = tmp_path / hash_seed
        path.mkdir()
        command = [sys.executable, "-c", REPLAY, str(seed), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        logs.append(next(line for line in done.stdout.splitlines() if line.startswith("log ")))
    assert logs[0] == logs[1]
