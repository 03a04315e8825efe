"""``tufline rejected``: lists the records that ingest rejected from the inbox, and replays them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click

from tufline.bus import Bus
from tufline.bus.headers import ESCAPE
from tufline.clock import moment_of
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.records import rejected as topic
from tufline.records import topics
from tufline.records.rejected import Rejected
from tufline.runtime.open_bus import open_bus
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option

SHOWN_KEY_LENGTH = 60


@click.group()
def rejected() -> None:
    """List and replay rejected records of the inbox."""


async def _waiting(bus: Bus) -> AsyncIterator[Rejected]:
    for partition in range(bus.partitions(topics.REJECTED)):
        async for one in topic.waiting(bus, partition):
            yield one


@rejected.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one record per line, with its value.")
def list_(path: Path | None, as_json: bool) -> None:
    """List the rejected records that are still kept and were not replayed, with the reasons."""
    config, _ = load(path)
    asyncio.run(_list(config, as_json=as_json))


async def _list(config: Config, *, as_json: bool) -> None:
    async with open_bus(config) as bus:
        async for one in _waiting(bus):
            click.echo(json.dumps(_as_json(one)) if as_json else _as_line(one))


def _time(one: Rejected) -> str:
    return moment_of(one.record.time).isoformat(timespec="seconds").replace("+00:00", "Z")


def _as_line(one: Rejected) -> str:
    record = one.record
    cut = " (only its beginning is kept)" if one.is_cut else ""
    return f"{record.partition}/{record.offset} {_time(one)} key {record.key[:SHOWN_KEY_LENGTH]!a}{cut}: {ascii(one.reason)[1:-1]}"


def _as_json(one: Rejected) -> dict[str, Any]:
    record = one.record
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": _time(one),
        "reason": one.reason,
        "inbox": {"partition": one.partition, "offset": one.offset},
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in one.own_headers],
        "value": _text(record.value.decode(errors=ESCAPE)),
        "is_cut": one.is_cut,
    }


def _text(escaped: str) -> str | dict[str, str]:
    try:
        escaped.encode()
    except UnicodeEncodeError:
        return {"base64": base64.b64encode(escaped.encode(errors=ESCAPE)).decode()}
    return escaped


@rejected.command()
@config_option
@click.option("--partition", type=click.IntRange(min=0), help="Partition of the record, as listed.")
@click.option("--offset", type=click.IntRange(min=0), help="Offset of the record, as listed.")
@click.option("--all", "is_all", is_flag=True, help="Replay all listed records that were kept whole.")
def replay(path: Path | None, partition: int | None, offset: int | None, is_all: bool) -> None:
    """Append rejected records to the inbox again, unchanged.

    They are no longer listed; if a record is rejected again, that is a new entry.
    """
    one = (partition, offset) if partition is not None and offset is not None else None
    if is_all == (one is not None) or (one is None and (partition, offset) != (None, None)):
        raise Failure("it is not clear which record to replay", "pass --partition and --offset, or --all", Exit.USAGE)
    config, _ = load(path)
    asyncio.run(_replay(config, one))


async def _replay(config: Config, wanted: tuple[int, int] | None) -> None:
    replayed, cut = 1, 0
    async with open_bus(config) as bus:
        if wanted is not None:
            await topic.replay(bus, *wanted)
        else:
            replayed, cut = await topic.replay_all(bus)
    click.echo(f"{replayed} records are in the inbox again")
    if cut:
        raise Failure(f"of {cut} records only the beginning was kept", "their producers have to send them again")
