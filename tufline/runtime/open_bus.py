"""Opening the configured bus: for a service, which refuses topics with wrong settings, or for a client, which does not check them.

In: the configuration. Out: a ``Bus`` of the configured implementation.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tufline.bus import Bus
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import since_boot
from tufline.config.kinds import EMBEDDED, KAFKA, check_bus_url
from tufline.config.settings import Config, KafkaConfig
from tufline.errors import ConfigError
from tufline.records import topics
from tufline.records.partitioning import check_partitions

if TYPE_CHECKING:
    from tufline.bus.kafka.client import KafkaConnection


@asynccontextmanager
async def open_bus(config: Config, *, as_client: bool = False) -> AsyncIterator[Bus]:
    """Open the configured bus.

    Args:
        config: the process's configuration.
        as_client: open it for a producer of events: on Kafka the number of partitions is read from the cluster, and the settings of the
            topics are not checked.

    Yields:
        The bus.

    Raises:
        ConfigError: if the bus does not exist, or its topics are missing or have wrong settings.
        BusError: if the bus can't be reached.
    """
    bus = await _open(config, as_client=as_client)
    try:
        yield bus
    finally:
        await bus.close()


async def _open(config: Config, *, as_client: bool) -> Bus:
    url = check_bus_url(config.bus.url)  # a URL passed to a client has not been checked before
    if url.startswith(KAFKA):
        return await _open_kafka(config, url.removeprefix(KAFKA), as_client=as_client)
    file = Path(url.removeprefix(EMBEDDED))
    _check_if_new(file, config.bus.partitions)
    return await open_embedded(
        file, topics.topics(config.bus.partitions), monotonic=since_boot, max_pending_bytes=config.bus.max_pending_bytes
    )


def _check_if_new(log: Path, partitions: int) -> None:
    # An existing log keeps the number of partitions that it was created with.
    if not log.exists():
        check_partitions(partitions)


async def _open_kafka(config: Config, servers: str, *, as_client: bool) -> Bus:
    to_cluster = connection(config.kafka, servers)
    from tufline.bus.kafka.bus import open_kafka  # noqa: PLC0415 (as in connection)
    from tufline.bus.kafka.topic_admin import check, find_partitions  # noqa: PLC0415 (as in connection)

    if as_client:
        all_topics = topics.topics(await find_partitions(to_cluster, topics.INBOX))
    else:
        all_topics = topics.topics(config.bus.partitions)
        await check(to_cluster, all_topics, config.kafka.replicas)
    return await open_kafka(
        to_cluster,
        all_topics,
        max_pending_bytes=config.bus.max_pending_bytes,
        session_seconds=config.kafka.session_timeout,
        instance_id=config.kafka.instance_id,
    )


def connection(config: KafkaConfig, servers: str) -> "KafkaConnection":
    """Make the configured connection to Kafka.

    Args:
        config: the section ``kafka``.
        servers: host:port of some brokers, comma-separated.

    Returns:
        The connection.

    Raises:
        ConfigError: if aiokafka is not installed, or a setting that the login needs is missing.
    """
    try:
        from tufline.bus.kafka.client import KafkaConnection, TokenFile  # noqa: PLC0415 (without Kafka its client need not be installed)
    except ImportError as error:
        missing = f"bus.url names Kafka, but the client for Kafka is not installed ({error.name})"
        raise ConfigError(f"{missing}: in a clone of Tufline, pip install '.[kafka]'") from error
    security: dict[str, Any] = {"security_protocol": config.security_protocol}
    if config.security_protocol.endswith("SSL"):
        security["ssl_context"] = _tls(config)
    if config.security_protocol.startswith("SASL"):
        security["sasl_mechanism"] = config.sasl_mechanism
        if config.sasl_mechanism == "OAUTHBEARER":
            if config.token_file is None:
                raise ConfigError("kafka.sasl_mechanism = OAUTHBEARER needs kafka.token_file")
            security["sasl_oauth_token_provider"] = TokenFile(config.token_file)
        elif not config.username:
            raise ConfigError(f"kafka.sasl_mechanism = {config.sasl_mechanism} needs kafka.username and kafka.password")
        else:
            security["sasl_plain_username"] = config.username
            security["sasl_plain_password"] = config.password.get_secret_value()
    return KafkaConnection(servers, config.prefix, security)


def _tls(config: KafkaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file is not None:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"kafka.ca_file, kafka.certificate_file or kafka.key_file can't be used: {error}") from error
    return context
