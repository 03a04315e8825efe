"""Kafka as it is configured: its connection, its bus, and ``tufline topics``."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tufline import topics as all_topics
from tufline.bus import Bus
from tufline.cli.exits import Failure
from tufline.cli.options import config_option
from tufline.config import Config, KafkaConfig, load
from tufline.errors import ConfigError
from tufline.topics import Topic

if TYPE_CHECKING:
    from tufline.bus._kafka_client import Connection

SCHEME = "kafka:"


def connection(config: KafkaConfig, servers: str) -> "Connection":
    """Make the connection that is configured.

    Args:
        config: section ``kafka``.
        servers: host:port of some brokers.

    Returns:
        The connection.

    Raises:
        ConfigError: if aiokafka is not installed, or what is configured does not fit together.
    """
    try:
        from tufline.bus._kafka_client import Connection, TokenFile  # noqa: PLC0415 (one process without Kafka needs no client of it)
    except ImportError as error:
        raise ConfigError(f"bus.url names Kafka, whose client is not installed ({error.name}): pip install 'tufline[kafka]'") from error
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
    return Connection(servers, config.prefix, security)


def _tls(config: KafkaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file is not None:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"kafka.ca_file, kafka.certificate_file or kafka.key_file can't be used: {error}") from error
    return context


async def open_checked(config: Config, servers: str, topics: Mapping[str, Topic]) -> Bus:
    """Connect to the configured cluster, and refuse topics that are not as they must be.

    Args:
        config: of the process.
        servers: host:port of some brokers.
        topics: all that there are to be.

    Returns:
        The bus.

    Raises:
        ConfigError: with every difference.
        BusError: if the cluster can't be reached.
    """
    to_cluster = connection(config.kafka, servers)
    from tufline.bus.kafka import open_kafka  # noqa: PLC0415 (as above)
    from tufline.bus.kafka_topics import check  # noqa: PLC0415 (as above)

    await check(to_cluster, topics, config.kafka.replicas)
    return await open_kafka(
        to_cluster,
        topics,
        max_pending_bytes=config.bus.max_pending_bytes,
        session_seconds=config.kafka.session_timeout,
        instance_id=config.kafka.instance_id,
    )


@click.group()
def topics() -> None:
    """The topics on Kafka."""


@topics.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Say what differs, and change nothing; exit code 1 if anything does.")
def apply(path: Path | None, dry_run: bool) -> None:
    """Make the topics that are missing, set what differs, and say so.

    A number of partitions that differs is only said: to change it would put artifacts into other bins' partitions.
    """
    config, _ = load(path)
    if not config.bus.url.startswith(SCHEME):
        raise ConfigError(f"bus.url = {config.bus.url!r} has no topics to make: it is not 'kafka:<host>:<port>,…'")
    left = asyncio.run(_apply(config, dry_run=dry_run))
    if left:
        raise Failure("; ".join(left), "a number of partitions stays as it was made: set bus.partitions to it" if not dry_run else "")
    click.echo("all topics are as they must be")


async def _apply(config: Config, *, dry_run: bool) -> list[str]:
    to_cluster = connection(config.kafka, config.bus.url.removeprefix(SCHEME))
    from tufline.bus.kafka_topics import TopicAdmin  # noqa: PLC0415 (as above)

    async with TopicAdmin(to_cluster, all_topics.topics(config.bus.partitions), config.kafka.replicas) as admin:
        if not dry_run:
            for done in await admin.apply():
                click.echo(done)
        return await admin.differences()
