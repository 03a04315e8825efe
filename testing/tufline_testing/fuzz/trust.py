"""Fuzzes correctly signed bootstraps and updates: ``python -m tufline_testing.fuzz.trust N SEED [--all-clients]``.

The exit code is 1 if there is a fault. Each payload must be refused, or go live and be accepted by python-tuf; with ``--all-clients`` also
by tuf-js and go-tuf, and by the oldest supported version of all three.
"""

import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import structlog

from tufline_testing.clients.running import Client, PythonTuf, all_clients, oldest_clients
from tufline_testing.fuzz.trust_payloads import Fuzz
from tufline_testing.live_repository import served


def main() -> int:
    """Make and check as many payloads as requested: half of them bootstraps, half updates."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.monotonic()
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients: list[Client] = [PythonTuf()]
        if "--all-clients" in sys.argv:
            clients = [*stack.enter_context(all_clients()), *stack.enter_context(oldest_clients())]
        fuzz = Fuzz(path, stack.enter_context(served(path)), clients, seed)
        fuzz.run(count // 2, count - count // 2)
    for fault in fuzz.faults:
        print(fault)
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(fuzz.outcomes.items()))
    names = ", ".join(client.name for client in clients)
    print(f"seed {seed}: {said}; {len(fuzz.faults)} faults; read by {names}; {time.monotonic() - began:.0f} s")
    return 1 if fuzz.faults else 0


if __name__ == "__main__":
    sys.exit(main())
