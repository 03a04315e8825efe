"""``tufline origin``: shows or changes which log may publish to an origin."""

import asyncio
import json
from pathlib import Path

import click

from tufline.clock import utc_now
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.errors import ForeignOriginError
from tufline.origin import provenance
from tufline.origin.opening import open_store
from tufline.origin.owner import Owner, claim, read_owner
from tufline.origin.store import OWNER
from tufline.runtime.open_bus import open_bus
from tufline_cli import process
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option, data_option


@click.group()
def origin() -> None:
    """Show or change which log may publish to the origin."""


def _config(data: Path | None, path: Path | None) -> Config:
    config, _ = load(path, process.settings_of_data(data) if data is not None else {})
    process.need_origin(config)
    return config


@origin.command()
@data_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(data: Path | None, path: Path | None, as_json: bool) -> None:
    """Print which log may publish to the origin, and since when. This does not open the log."""
    owner = asyncio.run(read_owner(open_store(_config(data, path))))
    if as_json:
        click.echo(json.dumps(None if owner is None else {"log": owner.log, "claimed": owner.claimed}))
    elif owner is None:
        click.echo("no log has claimed this origin: the first publisher that is allowed to will claim it")
    else:
        click.echo(f"log {owner.log} since {owner.claimed}")


async def _adopt(config: Config) -> tuple[str, Owner | None]:
    store = open_store(config)
    content = await store.get(OWNER)
    try:
        before = await read_owner(store)
    except ForeignOriginError:
        before = None  # damaged: this command fixes it
    async with open_bus(config) as bus:
        published = await provenance.examine(bus, store)
        if published.damage and not published.has_root:
            raise ForeignOriginError(
                f"the origin's timestamp does not belong to this log ({published.damage}): clients would refuse this log's metadata"
            )
        if before is None or before.log != bus.log_id:
            await claim(store, bus.log_id, utc_now(), expected=content)
        return bus.log_id, before


@origin.command()
@data_option
@config_option
def adopt(data: Path | None, path: Path | None) -> None:
    """Let this log publish to the origin, instead of the current one.

    Use this for a log that replaces another one of the same repository, with the same root. Stop the other log's publisher first. The
    published metadata must verify under a root of this log and must not be newer than it, so that no client is rolled back; otherwise
    nothing is changed. On Kafka, services may keep running; with an embedded log, stop the server first.
    """
    config = _config(data, path)
    process.need_log(config)
    try:
        log, before = asyncio.run(_adopt(config))
    except ForeignOriginError as error:
        raise Failure(f"this log can't take over the origin {config.publisher.directory}: {error}", "nothing was changed") from error
    instead = "" if before is None or before.log == log else f", instead of the log {before.log}"
    click.echo(f"the log {log} may publish to {config.publisher.directory}{instead} ({OWNER})")
