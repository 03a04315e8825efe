"""A repository's log on either bus, which a test opens again after a restart."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from tufline.bus import Bus
from tufline.bus.embedded.bus import open_embedded
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Topic
from tufline.records import topics

LOG_PARTITIONS: Final = 4

PENDING_BYTES: Final = 64 * 1024 * 1024
"""How much may wait for the cluster, in bytes."""

SESSION_SECONDS: Final = 2.0
"""When Kafka gives the partitions of a process that ended to the next one, in seconds."""


class Log(Protocol):
    """A log that outlives the processes which open it, one after the other."""

    async def open(self) -> Bus:
        """Open the log. Close the bus."""
        ...


class EmbeddedLog:
    """A log in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> Bus:
        return await open_embedded(self._path, topics.topics(LOG_PARTITIONS))


class KafkaLog:
    """A log on a cluster, in topics of its own, which the first ``open`` creates."""

    def __init__(self, servers: str) -> None:
        self._connection = KafkaConnection(servers, f"log{time.time_ns()}.", {})
        self._topics: Mapping[str, Topic] = {}

    async def open(self) -> Bus:
        if not self._topics:
            self._topics = topics.topics(LOG_PARTITIONS)
            async with TopicAdmin(self._connection, self._topics, 1) as admin:
                await admin.apply()
        return await open_kafka(self._connection, self._topics, max_pending_bytes=PENDING_BYTES, session_seconds=SESSION_SECONDS)
