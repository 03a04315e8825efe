"""Finds free ports on loopback, for servers that need a fixed port."""

import itertools
import random
import socket
from contextlib import suppress
from typing import Final

PORTS: Final = range(10_000, 32_000)
"""Below the range from which Linux assigns ports."""


# Processes that search at the same time start at different ports, even if a test runner has given all of them the same seed.
_start: Final = random.SystemRandom().randrange(len(PORTS))
_untried: Final = itertools.chain(PORTS[_start:], itertools.cycle(PORTS))


def free_port() -> int:
    """Find a port on loopback that is not in use, and that this function has not returned recently.

    The caller binds the port seconds later. By then, the kernel could assign a port from its own range to another process.

    Returns:
        The port.

    Raises:
        RuntimeError: if no port is free.
    """
    for port, _ in zip(_untried, PORTS, strict=False):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port of {PORTS} is free")
