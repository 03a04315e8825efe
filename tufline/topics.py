"""The topics: what there is on the bus, and how long it stays."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

INBOX: Final = "inbox"
INBOX_PROGRESS: Final = "inbox-progress"
REJECTED: Final = "rejected"
ARTIFACTS: Final = "artifacts"
METADATA: Final = "metadata"
HEADS: Final = "heads"
PUBLISHED: Final = "published"
RECEIPTS: Final = "receipts"
ADMIN: Final = "admin"
AUDIT: Final = "audit"

DAY_SECONDS: Final = 86_400.0

COMPACTION_LAG_SECONDS: Final = 3_600.0
"""How long an old version of a role stays on the log after a newer one: longer than any publisher may lag behind."""

RECEIPTS_SECONDS: Final = 7 * DAY_SECONDS
"""How long receipts are kept."""


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


def topics(partitions: int) -> dict[str, Topic]:
    """List all topics of a repository.

    Args:
        partitions: of ``artifacts`` and ``inbox``; ``heads`` has one more, for trust and snapshot.

    Returns:
        Topic name to topic.
    """
    every = (
        Topic(ARTIFACTS, partitions, Cleanup.KEEP),
        Topic(METADATA, 1, Cleanup.COMPACT, COMPACTION_LAG_SECONDS),
        Topic(HEADS, partitions + 1, Cleanup.COMPACT),
        Topic(PUBLISHED, 1, Cleanup.DELETE, 30 * DAY_SECONDS),
        Topic(RECEIPTS, partitions, Cleanup.DELETE, RECEIPTS_SECONDS),
        Topic(ADMIN, 1, Cleanup.KEEP),
        Topic(AUDIT, 1, Cleanup.KEEP),
        Topic(INBOX, partitions, Cleanup.KEEP),
        Topic(INBOX_PROGRESS, partitions, Cleanup.COMPACT),
        Topic(REJECTED, partitions, Cleanup.DELETE, 30 * DAY_SECONDS),
    )
    return {topic.name: topic for topic in every}
