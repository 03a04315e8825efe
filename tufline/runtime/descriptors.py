"""How many files and connections this process may have open."""

import resource
from typing import Final

MOST: Final = 1_048_576
"""Linux's own default for the highest limit; where there is none, this is."""

RESERVED: Final = 128
"""Descriptors of everything but clients' connections: the log, brokers, Vault, files that are being published, and connections that were
accepted but are not counted yet."""

SERVERS: Final = 2
"""HTTP servers in one process, at most: the REST API or that for operators, and that of the origin."""

FOR_A_CONNECTION: Final = 2
"""The connection, and the file that is sent over it."""

LEAST_CONNECTIONS: Final = 8
"""Of a server, however low the limit is."""


def raise_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit: the usual 1,024 is for programs that use ``select``.

    Returns:
        The limit that is in force now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower limit than it says
            return soft
    return limit()


def limit() -> int:
    """Say how many files this process may have open.

    Returns:
        The soft limit.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def connections(wanted: int) -> int:
    """Say how many connections one HTTP server may have, so that descriptors are left for the work of the process.

    Args:
        wanted: as configured.

    Returns:
        As many, or as few as the limit of open files allows; at least ``LEAST_CONNECTIONS``.
    """
    return min(wanted, max(LEAST_CONNECTIONS, (limit() - RESERVED) // (SERVERS * FOR_A_CONNECTION)))
