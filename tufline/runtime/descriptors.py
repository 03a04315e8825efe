"""Limits on the files and connections that this process may have open."""

import resource
from typing import Final

MOST: Final = 1_048_576
"""The limit to use if the system has none; it is Linux's default for the highest possible limit."""

RESERVED: Final = 128
"""Descriptors kept for everything except client connections: the log, brokers, Vault, files that are being published, and connections that
were accepted but are not counted yet."""

SERVERS: Final = 2
"""The most HTTP servers in one process: the REST API or the operators' endpoint, and the origin's web server."""

FOR_A_CONNECTION: Final = 2
"""Descriptors per connection: the connection, and the file that is sent over it."""

LEAST_CONNECTIONS: Final = 8
"""The fewest connections that a server allows, however low the limit of open files is."""


def raise_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit; the usual 1,024 is meant for programs that use ``select``.

    Returns:
        The limit that is now in effect.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # on macOS the real limit is lower than the reported one
            return soft
    return limit()


def limit() -> int:
    """Return how many files this process may have open.

    Returns:
        The soft limit.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def connections(wanted: int) -> int:
    """Return how many connections one HTTP server may have, so that descriptors are left for the process's other work.

    Args:
        wanted: the configured limit.

    Returns:
        The configured limit, or fewer if the limit of open files requires that; at least ``LEAST_CONNECTIONS``.
    """
    return min(wanted, max(LEAST_CONNECTIONS, (limit() - RESERVED) // (SERVERS * FOR_A_CONNECTION)))
