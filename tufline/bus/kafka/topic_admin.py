"""The topics on Apache Kafka: the settings that each must have, creating topics, and reporting differences.

With a wrong setting, such as a compacted ``artifacts`` or a short retention, Kafka would silently delete data. So a service that finds a
wrong setting refuses to start.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from tufline.bus.kafka.client import STOP_SECONDS, KafkaConnection, finish_start, stop_client, translate_errors
from tufline.bus.kafka.writer import MAX_RECORD_BYTES
from tufline.bus.topic import Cleanup, Topic
from tufline.clock import DAY_SECONDS, in_milliseconds
from tufline.errors import BusError, ConfigError

MAX_BATCH_BYTES: Final = MAX_RECORD_BYTES + 100_000
SEGMENT_BYTES: Final = 128 * 1024 * 1024

NO_LIMIT: Final = "-1"

SETTLE_SECONDS: Final = 10.0

DYNAMIC_TOPIC_CONFIG: Final = 1
"""The source that Kafka's DescribeConfigs reports for a topic's own setting."""


def settings_of(topic: Topic, replicas: int) -> dict[str, str]:
    """Return the settings that a topic must have.

    Args:
        topic: a topic of Tufline.
        replicas: the topic's replication factor.

    Returns:
        Name to value, in Kafka's notation.
    """
    every = {
        "max.message.bytes": str(MAX_BATCH_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(1, replicas - 1)),
        "unclean.leader.election.enable": "false",
    }
    match topic.cleanup:
        case Cleanup.KEEP:
            return {**every, "cleanup.policy": "delete", "retention.ms": NO_LIMIT, "retention.bytes": NO_LIMIT}
        case Cleanup.DELETE:
            return {**every, "cleanup.policy": "delete", "retention.ms": _ms(topic.seconds), "retention.bytes": NO_LIMIT}
        case Cleanup.COMPACT:
            # Without a maximum lag a quiet topic would never be compacted, and a takeover would read the partition's whole history.
            return {
                **every,
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": _ms(topic.seconds),
                "max.compaction.lag.ms": _ms(max(DAY_SECONDS, 2 * topic.seconds)),
                "segment.bytes": str(SEGMENT_BYTES),
            }


def _ms(seconds: float) -> str:
    return str(in_milliseconds(seconds))


class TopicAdmin:
    """Inspects and creates the topics of a cluster."""

    def __init__(self, connection: KafkaConnection, topics: Mapping[str, Topic], replicas: int) -> None:
        """Start unconnected; use it as an async context manager.

        Args:
            connection: how to reach the cluster.
            topics: all topics that must exist, by name.
            replicas: the replication factor of each.
        """
        self._connection = connection
        self._topics = topics
        self._replicas = replicas
        self._admin = AIOKafkaAdminClient(**connection.arguments)

    async def __aenter__(self) -> Self:
        """Connect."""
        with translate_errors("reach the Kafka cluster"):
            await finish_start(self._admin.start)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await stop_client(self._admin.close(), seconds=STOP_SECONDS)

    async def differences(self) -> list[str]:
        """List how the topics differ from what they must be.

        Returns:
            One sentence for each difference; empty if there is none.

        Raises:
            BusError: if the cluster can't be reached or does not answer.
        """
        with translate_errors("inspect the topics on Kafka"):
            found = await self._describe()
            settings = await self._settings([name for name in found if found[name]])
        problems = []
        for topic in self._topics.values():
            name = self._name(topic)
            partitions = found[name]
            if not partitions:
                problems.append(f"the topic {name} does not exist")
                continue
            if partitions != topic.partitions:
                problems.append(f"the topic {name} has {partitions} partitions, but must have {topic.partitions} (bus.partitions)")
            for setting, wanted in settings_of(topic, self._replicas).items():
                value = settings[name].get(setting)
                if value != wanted:
                    problems.append(f"the topic {name} has {setting}={value}, but must have {wanted}")
        return problems

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic.

        Args:
            topic: without the prefix.

        Returns:
            The number; 0 if the topic does not exist.

        Raises:
            BusError: if the cluster can't be reached or does not answer.
        """
        with translate_errors("inspect the topics on Kafka"):
            return (await self._describe())[self._name(self._topics[topic])]

    async def apply(self) -> list[str]:
        """Create missing topics, and correct settings that differ.

        Returns:
            One sentence for each change.

        Raises:
            BusError: if the cluster refuses, or can't be reached.
        """
        done = []
        with translate_errors("inspect the topics on Kafka"):
            found = await self._describe()
        for topic in self._topics.values():
            name, wanted = self._name(topic), settings_of(topic, self._replicas)
            if not found[name]:
                with translate_errors(f"create the topic {name}"):
                    await self._create(NewTopic(name, topic.partitions, self._replicas, topic_configs=wanted))
                done.append(f"created the topic {name} with {topic.partitions} partitions")
                continue
            with translate_errors(f"configure the topic {name}"):
                own, now = await self._own_settings(name)
                differing = {setting: value for setting, value in wanted.items() if now.get(setting) != value}
                if differing:
                    # Kafka's call replaces all settings of a topic, so settings that somebody else made must be sent again.
                    await self._alter(name, {**own, **wanted})
            done += [f"set {setting}={value} on the topic {name}" for setting, value in differing.items()]
        if done:
            await self._settle()
        return done

    async def _settle(self) -> None:
        # The other brokers learn of a change a moment later; until then they may not know a new topic.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while loop.time() < deadline:
            with suppress(BusError):
                if not await self.differences():
                    return
            await asyncio.sleep(SETTLE_SECONDS / 100)

    async def set(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change some settings of a topic, and keep the others.

        Args:
            topic: without the prefix.
            settings: name to value, in Kafka's notation.

        Raises:
            BusError: if the cluster refuses, or can't be reached.
        """
        name = self._name(self._topics[topic])
        with translate_errors(f"configure the topic {name}"):
            own, _ = await self._own_settings(name)
            await self._alter(name, {**own, **settings})

    def _name(self, topic: Topic) -> str:
        return f"{self._connection.prefix}{topic.name}"

    async def _describe(self) -> dict[str, int]:
        names = [self._name(topic) for topic in self._topics.values()]
        described = await self._admin.describe_topics(names)
        return dict.fromkeys(names, 0) | {one["topic"]: len(one["partitions"]) for one in described if one["error_code"] == 0}

    async def _settings(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        return {name: (await self._own_settings(name))[1] for name in names}

    async def _own_settings(self, name: str) -> tuple[dict[str, str], dict[str, str]]:
        (answer,) = await self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        own, every = {}, {}
        for code, message, _, _, entries in answer.resources:
            if code:
                raise BusError(f"Kafka refused to describe the settings of {name}: {for_code(code).__name__} {message or ''}")
            for setting, value, _, source, *_ in entries:
                every[setting] = value
                if source == DYNAMIC_TOPIC_CONFIG:
                    own[setting] = value
        return own, every

    async def _create(self, topic: NewTopic) -> None:
        answer = await self._admin.create_topics([topic])
        for name, code, *message in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise BusError(f"Kafka refused to create the topic {name}: {for_code(code).__name__} {' '.join(map(str, message))}")

    async def _alter(self, name: str, settings: dict[str, str]) -> None:
        answer: Any = await self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
        for response in answer if isinstance(answer, list) else [answer]:
            for code, message, *_ in response.resources:
                if code:
                    raise BusError(f"Kafka refused to configure the topic {name}: {for_code(code).__name__} {message or ''}")


async def check(connection: KafkaConnection, topics: Mapping[str, Topic], replicas: int) -> None:
    """Raise an error if any topic is missing or has wrong settings.

    Args:
        connection: how to reach the cluster.
        topics: all topics that must exist, by name.
        replicas: the replication factor of each.

    Raises:
        ConfigError: with every difference.
        BusError: if the cluster can't be reached or does not answer.
    """
    async with TopicAdmin(connection, topics, replicas) as admin:
        if differences := await admin.differences():
            raise ConfigError(f"{'; '.join(differences)}: run tufline topics apply, or restore the previous configuration")


async def find_partitions(connection: KafkaConnection, topic: str) -> int:
    """Ask the cluster how many partitions a topic has.

    Args:
        connection: how to reach the cluster.
        topic: without the prefix.

    Returns:
        The number of partitions, at least 1.

    Raises:
        ConfigError: if the topic does not exist.
        BusError: if the cluster can't be reached or does not answer.
    """
    async with TopicAdmin(connection, {topic: Topic(topic, 1, Cleanup.KEEP)}, 1) as admin:
        partitions = await admin.partitions(topic)
    if not partitions:
        name = f"{connection.prefix}{topic}"
        raise ConfigError(f"the topic {name} does not exist: check kafka.prefix, or create the topics with tufline topics apply")
    return partitions
