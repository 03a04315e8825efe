"""Plays schedules of the simulation: ``python -m tufline_testing.simulation N SEED [--mutation NAME]``.

It prints each seed that fails, and the exit code is 1 if one does. ``make simulate N=10000 SEED=7`` plays long runs. A mutation breaks the
product on purpose, to show that the simulation detects it: one failing schedule is enough. Each schedule is played in a separate process,
because code that dies in it leaves its files open.
"""

import faulthandler
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tufline_testing.simulation import mistakes, schedule

MEMORY = Path("/dev/shm")

SCHEDULE_SECONDS = 300
"""The time limit of a schedule, in seconds. A normal one takes a second or two, even if it waits for weeks of virtual time."""


def play_apart(seed: int, path: Path) -> str | None:
    """Play one schedule in a separate process. It ends without finalizers, so that code that died in it never runs again.

    Args:
        seed: seed of the schedule.
        path: an empty directory.

    Returns:
        The failure; None if there was none.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def play() -> None:
        faulthandler.dump_traceback_later(SCHEDULE_SECONDS, exit=True)
        sender.send(schedule.play(seed, path))
        os._exit(0)

    process = fork.Process(target=play)
    process.start()
    sender.close()
    try:
        finding: str | None = receiver.recv()
    except EOFError:
        finding = "the schedule's process died, or did not end; its traceback is above"
    process.join()
    process.close()
    receiver.close()
    return finding


def main() -> None:
    """Play the schedules requested on the command line."""
    count, first = int(sys.argv[1]), int(sys.argv[2])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    is_mutated = "--mutation" in sys.argv
    if is_mutated:
        mistakes.MUTATIONS[sys.argv[sys.argv.index("--mutation") + 1]]()
    began = time.monotonic()
    wrong = 0
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        for seed in range(first, first + count):
            path = Path(directory) / str(seed)
            path.mkdir()
            if finding := play_apart(seed, path):
                wrong += 1
                print(f"seed {seed}: {finding}", flush=True)
            shutil.rmtree(path)
            if wrong and is_mutated:
                break
    print(f"{seed - first + 1} schedules from seed {first}, {wrong} went wrong, {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
