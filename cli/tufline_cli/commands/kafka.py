"""``tufline topics``: creates and configures the topics on Kafka."""

import asyncio
from pathlib import Path

import click

from tufline.config.kinds import KAFKA
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.errors import ConfigError
from tufline.records import topics as all_topics
from tufline.records.partitioning import check_partitions
from tufline.runtime.open_bus import connection
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option


@click.group()
def topics() -> None:
    """Create and configure the topics on Kafka."""


@topics.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Only print what differs; the exit code is 1 if anything does.")
def apply(path: Path | None, dry_run: bool) -> None:
    """Create missing topics, correct settings that differ, and print every change.

    A different number of partitions is only reported: changing it would move artifacts to other bins' partitions. For new topics it
    must be a power of two.
    """
    config, _ = load(path)
    if not config.bus.url.startswith(KAFKA):
        raise ConfigError(f"bus.url = {config.bus.url!r} has no topics to create: set it to 'kafka:<host>:<port>,…'")
    left = asyncio.run(_apply(config, dry_run=dry_run))
    if left:
        raise Failure("; ".join(left), "the number of partitions can't be changed: set bus.partitions to it" if not dry_run else "")
    click.echo("all topics are configured correctly")


async def _apply(config: Config, *, dry_run: bool) -> list[str]:
    to_cluster = connection(config.kafka, config.bus.url.removeprefix(KAFKA))
    from tufline.bus.kafka.topic_admin import TopicAdmin  # noqa: PLC0415 (a process without Kafka needs no client for it)

    async with TopicAdmin(to_cluster, all_topics.topics(config.bus.partitions), config.kafka.replicas) as admin:
        if not await admin.partitions(all_topics.ARTIFACTS):
            check_partitions(config.bus.partitions)
        if not dry_run:
            for done in await admin.apply():
                click.echo(done)
        return await admin.differences()
