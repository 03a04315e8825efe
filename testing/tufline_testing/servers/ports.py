"""Ports of loopback for servers that are to be told theirs."""

import itertools
import random
import socket
from contextlib import suppress
from typing import Final

PORTS: Final = range(10_000, 32_000)
"""Below those that Linux gives to who asks for any."""


# Processes that look at the same time begin at different places, also where a test runner has given all of them one seed.
_start: Final = random.SystemRandom().randrange(len(PORTS))
_untried: Final = itertools.chain(PORTS[_start:], itertools.cycle(PORTS))


def free_port() -> int:
    """Find a port of loopback that nobody listens on, and that this process was not given lately.

    Who asked for it binds it seconds later: one that the kernel chooses may be somebody else's by then, who asked for any.

    Returns:
        The port.

    Raises:
        RuntimeError: if none is free.
    """
    for port, _ in zip(_untried, PORTS, strict=False):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port of {PORTS} is free")
