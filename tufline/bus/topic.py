"""A topic of the bus: its partitions, and how long it keeps its records."""

from dataclasses import dataclass
from enum import Enum


class Cleanup(Enum):
    """When a topic's records are deleted (Kafka's ``cleanup.policy``)."""

    KEEP = "keep"
    """Never, or when ``trim`` allows it."""
    DELETE = "delete"
    """When they are older than the retention time."""
    COMPACT = "compact"
    """When a newer record has the same key, and the compaction lag is over."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the bus.

    Attributes:
        name: without the prefix.
        partitions: how many there are.
        cleanup: when records are deleted.
        seconds: the retention time (``DELETE``) or the compaction lag (``COMPACT``).
    """

    name: str
    partitions: int
    cleanup: Cleanup
    seconds: float = 0.0
