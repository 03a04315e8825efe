"""``tufline topics``: the topics on Kafka, as they must be."""

import asyncio
from pathlib import Path

import click

from tufline.config.kinds import KAFKA
from tufline.config.settings import Config, load
from tufline.errors import ConfigError
from tufline.records import topics as all_topics
from tufline.records.partitioning import check_partitions
from tufline.runtime.open_bus import connection
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option


@click.group()
def topics() -> None:
    """The topics on Kafka."""


@topics.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Say what differs, and change nothing; exit code 1 if anything does.")
def apply(path: Path | None, dry_run: bool) -> None:
    """Make the topics that are missing, set what differs, and say so.

    A number of partitions that differs is only said: to change it would put artifacts into other bins' partitions. For new topics it must
    be a power of two.
    """
    config, _ = load(path)
    if not config.bus.url.startswith(KAFKA):
        raise ConfigError(f"bus.url = {config.bus.url!r} has no topics to make: it is not 'kafka:<host>:<port>,…'")
    left = asyncio.run(_apply(config, dry_run=dry_run))
    if left:
        raise Failure("; ".join(left), "a number of partitions stays as it was made: set bus.partitions to it" if not dry_run else "")
    click.echo("all topics are as they must be")


async def _apply(config: Config, *, dry_run: bool) -> list[str]:
    to_cluster = connection(config.kafka, config.bus.url.removeprefix(KAFKA))
    from tufline.bus.kafka.topic_admin import TopicAdmin  # noqa: PLC0415 (one process without Kafka needs no client of it)

    async with TopicAdmin(to_cluster, all_topics.topics(config.bus.partitions), config.kafka.replicas) as admin:
        if not await admin.partitions(all_topics.ARTIFACTS):
            check_partitions(config.bus.partitions)
        if not dry_run:
            for done in await admin.apply():
                click.echo(done)
        return await admin.differences()
