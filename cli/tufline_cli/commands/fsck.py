"""``tufline fsck``: whether the log and the origin say the same."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click

from tufline.checks.fsck import Report, compare
from tufline.config.settings import Config, load
from tufline.errors import ConfigError
from tufline.origin.directory import LocalStore
from tufline.runtime.open_bus import open_bus
from tufline_cli import process
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option, data_option


async def _compare(config: Config) -> Report:
    async with open_bus(config) as bus:
        return await compare(bus, LocalStore(config.publisher.directory), config.publisher.origin)


@click.command()
@data_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fsck(data: Path | None, path: Path | None, as_json: bool) -> None:
    """Compare the log with the origin, and say every difference.

    Every version on the log, what the heads name, and every file of the origin, byte for byte; what a client sees is for tufline verify. On
    Kafka all may run meanwhile; an embedded log needs the server stopped.
    """
    config, _ = load(path, process.kept_in(data) if data is not None else {})
    process.need_log(config)
    if not config.publisher.directory.exists():
        raise ConfigError(f"there is no origin at {config.publisher.directory}: say where it is with --data, or in publisher.directory")
    report = asyncio.run(_compare(config))
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
    else:
        for finding in report.findings:
            click.echo(finding)
        for note in report.notes:
            click.echo(f"note: {note}")
    if report.findings:
        raise Failure(
            f"{len(report.findings)} differences between the log and the origin", "the log is the source of truth: see docs/how-to/fsck.md"
        )
    if not as_json:
        click.echo(f"no difference: {report.versions} versions on the log, {report.files} files, timestamp {report.shown} shown")
