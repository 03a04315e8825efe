"""The topics on Apache Kafka: what settings each must have, making them, and saying what differs.

A wrong setting loses data quietly (a compacted ``artifacts``, a short retention), so a service that finds one refuses to start.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from tufline.bus.kafka.client import Connection, said_as_ours
from tufline.bus.kafka.writer import MAX_RECORD_BYTES
from tufline.bus.topic import Cleanup, Topic
from tufline.clock import DAY_SECONDS
from tufline.errors import BusError, ConfigError

MAX_BATCH_BYTES: Final = MAX_RECORD_BYTES + 100_000
SEGMENT_BYTES: Final = 128 * 1024 * 1024

EVER: Final = "-1"

SETTLE_SECONDS: Final = 10.0

DYNAMIC_TOPIC_CONFIG: Final = 1
"""The source of a setting that is the topic's own, in Kafka's DescribeConfigs."""


def settings_of(topic: Topic, replicas: int) -> dict[str, str]:
    """Say which settings a topic must have.

    Args:
        topic: which.
        replicas: how many copies of it there are.

    Returns:
        Name to value, as Kafka writes them.
    """
    every = {
        "max.message.bytes": str(MAX_BATCH_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(1, replicas - 1)),
        "unclean.leader.election.enable": "false",
    }
    match topic.cleanup:
        case Cleanup.KEEP:
            return {**every, "cleanup.policy": "delete", "retention.ms": EVER, "retention.bytes": EVER}
        case Cleanup.DELETE:
            return {**every, "cleanup.policy": "delete", "retention.ms": _ms(topic.seconds), "retention.bytes": EVER}
        case Cleanup.COMPACT:
            # Without a largest lag a quiet topic would never be compacted, and taking a partition over would read all its history.
            return {
                **every,
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": _ms(topic.seconds),
                "max.compaction.lag.ms": _ms(max(DAY_SECONDS, 2 * topic.seconds)),
                "segment.bytes": str(SEGMENT_BYTES),
            }


def _ms(seconds: float) -> str:
    return str(int(1000 * seconds))


class TopicAdmin:
    """Looks at the topics of a cluster, and makes them."""

    def __init__(self, connection: Connection, topics: Mapping[str, Topic], replicas: int) -> None:
        """Be unconnected; used as an async context manager.

        Args:
            connection: to the cluster.
            topics: all that there are to be.
            replicas: how many copies of each.
        """
        self._connection = connection
        self._topics = topics
        self._replicas = replicas
        self._admin = AIOKafkaAdminClient(**connection.arguments)

    async def __aenter__(self) -> Self:
        """Connect."""
        with said_as_ours("reach the cluster"):
            await self._admin.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self._admin.close()

    async def differences(self) -> list[str]:
        """Say what is not as it must be.

        Returns:
            One sentence for each difference; none if all is well.

        Raises:
            BusError: if the cluster does not say.
        """
        with said_as_ours("look at the topics"):
            found = await self._describe()
            settings = await self._settings([name for name in found if found[name]])
        said = []
        for topic in self._topics.values():
            name = self._name(topic)
            partitions = found[name]
            if not partitions:
                said.append(f"the topic {name} does not exist")
                continue
            if partitions != topic.partitions:
                said.append(f"the topic {name} has {partitions} partitions, and must have {topic.partitions} (bus.partitions)")
            for setting, wanted in settings_of(topic, self._replicas).items():
                value = settings[name].get(setting)
                if value != wanted:
                    said.append(f"the topic {name} has {setting}={value}, and must have {wanted}")
        return said

    async def partitions(self, topic: str) -> int:
        """Say how many partitions a topic has.

        Args:
            topic: without the prefix.

        Returns:
            How many; 0 if there is no such topic.

        Raises:
            BusError: if the cluster does not say.
        """
        with said_as_ours("look at the topics"):
            return (await self._describe())[self._name(self._topics[topic])]

    async def apply(self) -> list[str]:
        """Make the topics that are missing, and set what differs.

        Returns:
            What was done, one sentence each.

        Raises:
            BusError: if the cluster refuses.
        """
        done = []
        with said_as_ours("look at the topics"):
            found = await self._describe()
        for topic in self._topics.values():
            name, wanted = self._name(topic), settings_of(topic, self._replicas)
            if not found[name]:
                with said_as_ours(f"make the topic {name}"):
                    await self._create(NewTopic(name, topic.partitions, self._replicas, topic_configs=wanted))
                done.append(f"made the topic {name} with {topic.partitions} partitions")
                continue
            with said_as_ours(f"set the topic {name}"):
                own, now = await self._own_settings(name)
                differing = {setting: value for setting, value in wanted.items() if now.get(setting) != value}
                if differing:
                    # Kafka's call replaces all settings of a topic: those that are somebody else's go with it.
                    await self._alter(name, {**own, **wanted})
            done += [f"set {setting}={value} of the topic {name}" for setting, value in differing.items()]
        if done:
            await self._settle()
        return done

    async def _settle(self) -> None:
        # What one broker has done the others learn a moment later; until then they may not know a topic.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while loop.time() < deadline:
            with suppress(BusError):
                if not await self.differences():
                    return
            await asyncio.sleep(SETTLE_SECONDS / 100)

    async def set(self, topic: str, settings: Mapping[str, str]) -> None:
        """Give a topic settings beside those that it must have.

        Args:
            topic: without the prefix.
            settings: name to value.

        Raises:
            BusError: if the cluster refuses.
        """
        name = self._name(self._topics[topic])
        with said_as_ours(f"set the topic {name}"):
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
                raise BusError(f"Kafka does not show the settings of {name}: {for_code(code).__name__} {message or ''}")
            for setting, value, _, source, *_ in entries:
                every[setting] = value
                if source == DYNAMIC_TOPIC_CONFIG:
                    own[setting] = value
        return own, every

    async def _create(self, topic: NewTopic) -> None:
        answer = await self._admin.create_topics([topic])
        for name, code, *message in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise BusError(f"Kafka does not make the topic {name}: {for_code(code).__name__} {' '.join(map(str, message))}")

    async def _alter(self, name: str, settings: dict[str, str]) -> None:
        answer: Any = await self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
        for response in answer if isinstance(answer, list) else [answer]:
            for code, message, *_ in response.resources:
                if code:
                    raise BusError(f"Kafka does not set the topic {name}: {for_code(code).__name__} {message or ''}")


async def check(connection: Connection, topics: Mapping[str, Topic], replicas: int) -> None:
    """Refuse topics that are not as they must be.

    Args:
        connection: to the cluster.
        topics: all that there are to be.
        replicas: how many copies of each.

    Raises:
        ConfigError: with every difference.
        BusError: if the cluster does not say.
    """
    async with TopicAdmin(connection, topics, replicas) as admin:
        if differences := await admin.differences():
            raise ConfigError(f"{'; '.join(differences)}: run tufline topics apply, or set it as it was")


async def find_partitions(connection: Connection, topic: str) -> int:
    """Ask how many partitions a topic has.

    Args:
        connection: to the cluster.
        topic: without the prefix.

    Returns:
        How many.

    Raises:
        ConfigError: if there is no such topic.
        BusError: if the cluster does not say.
    """
    async with TopicAdmin(connection, {topic: Topic(topic, 1, Cleanup.KEEP)}, 1) as admin:
        partitions = await admin.partitions(topic)
    if not partitions:
        name = f"{connection.prefix}{topic}"
        raise ConfigError(f"the topic {name} does not exist: is kafka.prefix right? tufline topics apply makes the topics")
    return partitions
