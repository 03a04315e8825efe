"""``tufline audit``: checks that every use of an online key is recorded, and that the records are unchanged."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
import urllib3
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.checks.audit.checks import AuditReport
from tufline.checks.audit.verify import MetadataFile
from tufline.checks.audit.verify import verify as verify_audit
from tufline.checks.repository_walk import FETCHES
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.errors import InvalidInputError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.snapshot import read_snapshot, read_timestamp
from tufline.runtime.open_bus import open_bus
from tufline_cli import process, reports
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, data_option

INCOMPLETE: Final = (
    "pass the files of all signers, from the start: a signature that is in none of them raises an alarm. If you have passed all files, "
    "somebody else may use the online key: see docs/how-to/audit.md immediately"
)


@click.group()
def audit() -> None:
    """Verify the audit trail of online keys."""


@audit.command()
@data_option
@config_option
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="File of records to read instead of the topic: all files of all signers, each signer's oldest first.",
)
@click.option("--topic", "with_topic", is_flag=True, help="With --file: also read the topic, and compare both.")
@click.option("--metadata", "places", multiple=True, metavar="URL|DIR", help="Published metadata to compare with the records.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(data: Path | None, path: Path | None, files: tuple[Path, ...], with_topic: bool, places: tuple[str, ...], as_json: bool) -> None:
    """Find every change, gap, reordering and fork in the audit trail, and every online signature that it does not record.

    This reads the topic 'audit' and the metadata on the log. On Kafka, services may keep running. With an embedded log, stop the server
    first, or pass the file that the server writes with --file.
    """
    if with_topic and not files:
        raise Failure(
            "--topic compares the topic with files, but there is no --file",
            "add --file, or omit --topic to read only the topic",
            Exit.USAGE,
        )
    config, _ = load(path, process.settings_of_data(data) if data is not None else {})
    if not files or with_topic:
        process.need_log(config)
        report = asyncio.run(_with_topic(config, files, _published(places)))
    else:
        report = asyncio.run(verify_audit(None, files, _published(places)))
    _show(report, as_json, is_complete=not files or with_topic)


async def _with_topic(config: Config, files: Sequence[Path], metadata: Iterable[MetadataFile]) -> AuditReport:
    async with open_bus(config) as bus:
        return await verify_audit(bus, files, metadata)


def _show(report: AuditReport, as_json: bool, *, is_complete: bool) -> None:
    reports.show(report, as_json=as_json)
    counts = f"{report.records} records in {report.chains} chains, {report.compared} online signatures compared"
    if alarms := sum(finding.kind == "alarm" for finding in report.findings):
        raise Failure(
            f"{alarms} online signatures without a record, {len(report.findings)} findings; {counts}",
            "somebody else may use the online key: see docs/how-to/audit.md immediately" if is_complete else INCOMPLETE,
        )
    if report.findings:
        raise Failure(f"{len(report.findings)} findings; {counts}", "docs/how-to/audit.md explains each")
    if not as_json:
        click.echo(f"no finding: {counts}")


def _published(places: Sequence[str]) -> Iterator[MetadataFile]:
    for place in places:
        yield from _of_url(place.rstrip("/")) if place.startswith(("http://", "https://")) else _of_directory(Path(place))


def _of_directory(directory: Path) -> Iterator[MetadataFile]:
    if not directory.is_dir():
        raise InvalidInputError(f"{directory} is not a directory: pass --metadata the URL or the directory that has timestamp.json")
    first = {Root.type: 0, Targets.type: 1}
    files = [(_role(path.stem), path) for path in sorted(directory.glob("[!.]*.json"))]
    for role, path in sorted(files, key=lambda one: first.get(one[0], len(first))):
        try:
            yield role, path.read_bytes(), str(path)
        except OSError as error:
            raise InvalidInputError(f"{path} can't be read: {error.strerror}") from error


def _role(stem: str) -> str:
    version, _, role = stem.partition(".")
    return role if version.isdecimal() and role else stem


def _of_url(url: str) -> Iterator[MetadataFile]:
    """Fetch what clients see: every root, the timestamp, and all files that its snapshot names."""
    pool = urllib3.PoolManager(maxsize=FETCHES, retries=urllib3.Retry(3, backoff_factor=0.1))

    def fetch(name: str) -> bytes | None:
        try:
            response = pool.request("GET", f"{url}/{name}")
        except urllib3.exceptions.HTTPError as error:
            raise Failure(f"{url}/{name} can't be fetched: {error}", code=Exit.UNREACHABLE) from error
        if response.status == 404:  # noqa: PLR2004 (HTTP's Not Found)
            return None
        if response.status != 200:  # noqa: PLR2004 (HTTP's OK)
            raise Failure(f"{url}/{name}: HTTP {response.status}", code=Exit.UNREACHABLE)
        return response.data

    def needed(role: str, version: int = 0) -> MetadataFile:
        name = envelope.file_name(role, version)
        content = fetch(name)
        if content is None:
            raise Failure(f"{url}/{name} does not exist", "pass the URL of the directory that has timestamp.json", Exit.UNREACHABLE)
        return role, content, f"{url}/{name}"

    version = 1
    while (root := fetch(envelope.file_name(Root.type, version))) is not None:
        yield Root.type, root, f"{url}/{envelope.file_name(Root.type, version)}"
        version += 1
    timestamp = needed(Timestamp.type)
    try:
        snapshot = needed(Snapshot.type, read_timestamp(envelope.disassemble(timestamp[1]).signed).version)
        named = read_snapshot(envelope.disassemble(snapshot[1]).signed)
    except MetadataError as error:
        raise Failure(f"{url} is not a valid TUF repository: {error}", "pass the URL of the directory that has timestamp.json") from error
    if Targets.type in named:
        yield needed(Targets.type, named.pop(Targets.type))
    yield snapshot
    yield timestamp
    with ThreadPoolExecutor(FETCHES) as threads:
        yield from threads.map(lambda one: needed(*one), sorted(named.items()))
