"""All topics on the bus, and how long each keeps its records."""

from typing import Final

from tufline.bus.topic import Cleanup, Topic
from tufline.clock import DAY_SECONDS

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


COMPACTION_LAG_SECONDS: Final = 3_600.0
"""How long an old version of a role stays on the log after a newer one; a publisher must not lag further behind."""

RECEIPTS_SECONDS: Final = 7 * DAY_SECONDS
"""How long receipts are kept."""


def commit_partition(partitions_of_heads: int) -> int:
    """Return the partition of ``heads`` that the commit worker writes: the last one, after those of the bins' writers.

    Args:
        partitions_of_heads: how many partitions ``heads`` has.

    Returns:
        The partition.
    """
    return partitions_of_heads - 1


def topics(partitions: int) -> dict[str, Topic]:
    """List all topics of a repository.

    Args:
        partitions: how many partitions ``artifacts`` and ``inbox`` have; ``heads`` has one more, for the commit worker.

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
