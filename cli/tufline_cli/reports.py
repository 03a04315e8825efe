"""Shows the report of a check."""

import json
from dataclasses import asdict

import click

from tufline.checks import fsck
from tufline.checks.audit import checks


def show(report: fsck.FsckReport | checks.AuditReport, *, as_json: bool) -> None:
    """Print a report: a line for each finding and each note, or all of it as JSON.

    Args:
        report: the report of a check.
        as_json: whether to print JSON.
    """
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
        return
    for finding in report.findings:
        click.echo(finding)
    for note in report.notes:
        click.echo(f"note: {note}")
