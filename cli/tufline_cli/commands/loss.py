"""``tufline accept-loss``: continues after records were lost from the log before they were applied."""

import asyncio
from pathlib import Path

import click

from tufline import records
from tufline.bus import Message
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.errors import InputLostError
from tufline.records import ACCEPTED_LOSS_KEY, AcceptedLoss, topics
from tufline.runtime.open_bus import open_bus
from tufline.views import lost_input
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option


@click.command("accept-loss")
@click.argument("topic", type=click.Choice(lost_input.ACCEPTABLE))
@click.argument("partition", type=click.IntRange(min=0))
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept_loss(topic: str, partition: int, path: Path | None, yes: bool) -> None:
    """Accept that records of a partition were lost from the log before they were applied.

    The signer (for artifacts) or ingest (for inbox) has stopped there, and its health reports it. The changes in the lost records do not
    become live: their senders have to send them again. See docs/how-to/lost-input.md.
    """
    config, _ = load(path)
    asyncio.run(_accept(config, topic, partition, is_sure=yes))


async def _accept(config: Config, topic: str, partition: int, *, is_sure: bool) -> None:
    async with open_bus(config) as bus:
        if partition >= bus.partitions(topic):
            raise Failure(f"{topic} has no partition {partition}", f"it has partitions 0 to {bus.partitions(topic) - 1}", Exit.USAGE)
        lost = await lost_input.find_loss(bus, topic, partition, await lost_input.progress_of(bus, topic, partition))
        if lost is None:
            raise Failure(f"no record of {topic} {partition} is lost", "tufline status and /readyz show what is wrong")
        click.echo(_describe(lost))
        if not is_sure:
            click.confirm("Accept the loss?", abort=True)
        accepted = AcceptedLoss(topic=topic, partition=partition, below=lost.below)  # type: ignore[arg-type]  # one of ACCEPTABLE
        await bus.append([Message(topics.ADMIN, ACCEPTED_LOSS_KEY, records.encode(accepted))])
    click.echo("accepted; the records after the lost ones are applied now")


def _describe(lost: InputLostError) -> str:
    return f"In {lost.topic} {lost.partition} the records from offset {lost.first} to {lost.below - 1} are gone, and were not applied."
