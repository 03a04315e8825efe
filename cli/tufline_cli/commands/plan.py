"""``tufline plan``: what a number of bins costs clients and the server, for a repository's files and changes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml

from tufline.client.rest import Client
from tufline.config.loading import load as load_settings
from tufline.metadata.bins import MAX_BINS, MIN_BINS
from tufline.trust import ceremony_answers, plan
from tufline.trust.ceremony import DEFAULT_DAYS
from tufline.trust.plan import Load, Sizes, Timing, Work
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option

NEIGHBOURS = (1 / 4, 1 / 2, 1, 2, 4)
"""The numbers of bins to compare, as multiples of the chosen one."""

FILES = click.IntRange(0, 10**10)


def _timing(path: Path | None, days: dict[str, int]) -> Timing:
    settings = load_settings(path)[0]
    config = settings.signer
    return Timing(config.commit_interval, config.commit_delay, config.renew_fraction, config.renewal_check, settings.bus.partitions, days)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo(
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
        )


def _show(load: Load, sizes: Sizes, done: Work) -> None:
    click.echo(f"{_number(load.files)} files in {_number(load.bins)} bins, {_number(load.changes)} changes a day\n")
    rows = [["bytes", "raw", "gzip"], *([name, _number(size.raw), _number(size.gzip)] for name, size in sizes.files.items())]
    for name, size in (("new client, first file", sizes.new_client), ("returning client, a file", sizes.returning_client)):
        rows.append([name, _number(size.raw), _number(size.gzip)])
    _table(rows)
    click.echo("")
    _table(
        [
            ["a day", "signatures", "bytes written"],
            ["bins, changed", _number(done.changed), _number(done.changed * sizes.files["bin"].raw)],
            ["bins, renewed", _number(done.renewed), _number(done.renewed * sizes.average_bin.raw)],
            ["snapshots", _number(done.snapshots), _number(done.snapshots * sizes.files["snapshot"].raw)],
            ["timestamps", _number(done.timestamps), _number(done.timestamps * sizes.files["timestamp"].raw)],
            ["all", _number(done.signatures), _number(sizes.written(done))],
        ]
    )
    if sizes.is_too_large:
        click.echo("note: a bin would be too large: choose more bins")


def _compare(load: Load, timing: Timing) -> None:
    click.echo("")
    rows = [["bins", "new client, gzip", "returning, gzip", "signatures a day", "bytes written a day"]]
    for bins in sorted({int(load.bins * factor) for factor in NEIGHBOURS}):
        if MIN_BINS <= bins <= MAX_BINS:
            other = Load(load.files, bins, load.changes, load.per_request, load.path_bytes)
            sizes, done = plan.sizes(other), plan.work(other, timing)
            clients = (_number(size.gzip) for size in (sizes.new_client, sizes.returning_client))
            rows.append([_number(bins), *clients, _number(done.signatures), _number(sizes.written(done))])
    _table(rows)


def _decided(path: Path) -> ceremony_answers.Answers:
    try:
        return ceremony_answers.read(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise Failure(f"{path} has no answers of a ceremony: {error}", code=Exit.USAGE) from error


@click.command("plan")
@click.option("--files", type=FILES, required=True, help="How many files the repository has, or will have.")
@click.option("--bins", type=int, help="Number of bins; by default the one of --answers or --url, or one that suits the number of files.")
@click.option("--changes", type=click.FloatRange(0.001, 10**9), default=1000, show_default=True, help="Files added or removed a day.")
@click.option(
    "--per-request", type=click.FloatRange(1, 10**6), default=1, show_default=True, help="How many of them arrive at the same time."
)
@click.option("--path-bytes", type=click.IntRange(1, 1000), default=60, show_default=True, help="Length of a target path, on average.")
@click.option(
    "--answers", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Answers of a ceremony, for bins and lifetimes."
)
@click.option("--url", help="URL of a server, for its number of bins and its lifetimes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, without the comparison.")
@header_option
@config_option
def plan_(
    files: int,
    bins: int | None,
    changes: float,
    per_request: float,
    path_bytes: int,
    answers: Path | None,
    url: str | None,
    as_json: bool,
    header: tuple[str, ...],
    path: Path | None,
) -> None:
    """Estimate what a repository costs: bytes for a client, signatures and bytes for the server, for a rate of changes.

    It compares several numbers of bins. The signer's settings come from the configuration. The formulas are in docs/explanation/plan.md.
    """
    days = dict(DEFAULT_DAYS)
    if answers is not None:
        decided = _decided(answers)
        bins, days = bins or decided.bins, dict(decided.plan.days)
    elif url is not None:
        settings = Client(url, header).request("GET", "/api/v1/config/")["data"]
        bins, days = bins or settings["number_of_delegated_bins"], {role: settings[f"{role}_expiration"] for role in days}
    bins = bins or ceremony_answers.suggested_bins(files)
    load, timing = Load(files, bins, changes, per_request, path_bytes), _timing(path, days)
    try:
        sizes, done = plan.sizes(load), plan.work(load, timing)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from error
    if as_json:
        click.echo(json.dumps(_as_json(load, sizes, done), indent=1))
        return
    _show(load, sizes, done)
    _compare(load, timing)


def _as_json(load: Load, sizes: Sizes, done: Work) -> dict[str, Any]:
    clients = {"new_client": asdict(sizes.new_client), "returning_client": asdict(sizes.returning_client)}
    sums = {"signatures": done.signatures, "bytes": sizes.written(done)}
    return {
        "load": asdict(load),
        "sizes": {name: asdict(size) for name, size in sizes.files.items()},
        **clients,
        "day": asdict(done) | sums,
    }
