"""What a topic of the bus is: its partitions, and how long its records stay."""

from dataclasses import dataclass
from enum import Enum


class Cleanup(Enum):
    """When a topic's records go (as Kafka's ``cleanup.policy``)."""

    KEEP = "keep"
    """Never, or when ``trim`` allows it."""
    DELETE = "delete"
    """When they are older than the retention."""
    COMPACT = "compact"
    """When a newer record has the same key, and the compaction lag is over."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the bus.

    Attributes:
        name: without the prefix.
        partitions: how many.
        cleanup: when records go.
        seconds: the retention (``DELETE``) or the compaction lag (``COMPACT``).
    """

    name: str
    partitions: int
    cleanup: Cleanup
    seconds: float = 0.0
