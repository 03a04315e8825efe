"""``tufline fsck``: compares the log with the origin."""

import asyncio
from pathlib import Path

import click

from tufline.checks.fsck import FsckReport, compare
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.origin.opening import open_store
from tufline.runtime.open_bus import open_bus
from tufline_cli import process, reports
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option, data_option


async def _compare(config: Config) -> FsckReport:
    async with open_bus(config) as bus:
        return await compare(bus, open_store(config), config.publisher.origin)


@click.command()
@data_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fsck(data: Path | None, path: Path | None, as_json: bool) -> None:
    """Compare the log with the origin, and report every difference.

    This compares every version on the log, the heads, and every file of the origin, byte by byte. To check what a client sees, use tufline
    verify. On Kafka, services may keep running; with an embedded log, stop the server first.
    """
    config, _ = load(path, process.settings_of_data(data) if data is not None else {})
    process.need_log(config)
    process.need_origin(config)
    report = asyncio.run(_compare(config))
    reports.show(report, as_json=as_json)
    if report.findings:
        raise Failure(
            f"{len(report.findings)} differences between the log and the origin", "the log is the source of truth: see docs/how-to/fsck.md"
        )
    if not as_json:
        click.echo(
            f"no difference: {report.versions} versions on the log, {report.files} files, timestamp {report.timestamp_version} published"
        )
