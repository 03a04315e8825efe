"""``tufline download`` and ``tufline verify``: read a repository with python-tuf's own client.

``verify`` continues where a client would stop: it fetches every role and reports everything that is wrong with it.
"""

import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urljoin

import click
import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets
from tuf.ngclient import Updater, UpdaterConfig

from tufline.checks.repository_walk import FETCHES, Fetch, RepositoryWalk, check_signature_entries
from tufline.client.rest import check_url, reason_of
from tufline.errors import MetadataError
from tufline.runtime import terminal_text
from tufline.trust.delegated import read_delegated
from tufline_cli.commands.artifacts import progress
from tufline_cli.exit_codes import Exit, Failure

SHOWN_FINDINGS: Final = 100

REFUSALS: Final = (RepositoryError, DownloadLengthMismatchError)
"""Errors of refused content: it does not verify, or is longer than in the metadata, which python-tuf reports as a failed download."""

UNFETCHED: Final = (DownloadError, urllib3.exceptions.HTTPError)
"""Errors of fetching: python-tuf does not wrap the errors of urllib3 that occur in the middle of a file."""

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The root.json that you trust, from a safe source.",
)


def _unfetched(what: str, error: Exception, hint: str) -> Failure:
    if not isinstance(error, DownloadHTTPError):
        hint = "check that the server is running and that the URL is right"
    return Failure(f"{what} can't be fetched: {reason_of(error)}", hint, Exit.UNREACHABLE)


def _refresh(url: str, root: Path, directory: Path, **options: Any) -> Updater:
    config = UpdaterConfig(prefix_targets_with_hash=options.pop("prefix", False))
    base = f"{check_url(url)}/"
    try:
        updater = Updater(str(directory), base, bootstrap=root.read_bytes(), config=config, **options)
    except RepositoryError as error:
        raise Failure(f"{root} is not a root.json: {error}", "use the root.json that tufline init made, from a safe source") from error
    try:
        updater.refresh()
    except REFUSALS as error:
        raise Failure(f"a TUF client refuses this repository: {error}", "do not use it until you know why") from error
    except UNFETCHED as error:
        raise _unfetched(url, error, "pass the URL of the directory that has timestamp.json") from error
    return updater


def _places(targets: Iterable[str], out: Path) -> dict[str, Path]:
    places = {target: out / PurePosixPath(target).name for target in targets}
    savers: dict[Path, str] = {}
    for target, place in places.items():
        if place in {out, out / ".."}:
            raise Failure(f"{target!r} names no file", code=Exit.USAGE)
        if (other := savers.setdefault(place, target)) != target:
            hint = "download them one by one, each with its own --out"
            raise Failure(f"{other} and {target} would both be saved to {place}", hint, Exit.USAGE)
    return places


def _save(updater: Updater, target: str, place: Path) -> str:
    try:
        info = updater.get_targetinfo(target)
        if info is None:
            raise Failure(f"the repository does not list {target}", "tufline status shows whether changes are still waiting")
        return updater.find_cached_target(info, str(place)) or updater.download_target(info, str(place))
    except REFUSALS as error:
        raise Failure(f"{target} is not what the repository vouches for: {error}", "do not use it until you know why") from error
    except UNFETCHED as error:
        raise _unfetched(target, error, "set the URL of the files with --targets-url") from error
    except OSError as error:
        raise Failure(f"{place} can't be saved: {error.strerror or error}", "choose another directory with --out") from error


@click.command()
@click.argument("url")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@root_option
@click.option("--targets-url", help="URL of the files; by default next to the metadata: URL/../targets/.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Directory to save to.")
@click.option("--prefix-hash", is_flag=True, help="The repository's files are named <hash>.<name>, as consistent snapshots allow.")
def download(url: str, targets: tuple[str, ...], root: Path, targets_url: str | None, out: Path, prefix_hash: bool) -> None:
    """Download TARGETs as a TUF client: only files that match the metadata at URL are saved.

    Each is saved under the last part of its path, a/b.txt as b.txt. An existing file is replaced, unless it already is the target.
    """
    base = urljoin(f"{check_url(url)}/", "../targets/") if targets_url is None else check_url(targets_url)
    places = _places(targets, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out} can't be created: {error.strerror}", "choose another directory: --out DIRECTORY", Exit.USAGE) from error
    with tempfile.TemporaryDirectory() as directory:
        updater = _refresh(url, root, Path(directory), target_dir=str(out), target_base_url=base, prefix=prefix_hash)
        for target, place in places.items():
            click.echo(_save(updater, target, place))


def _fetcher(url: str) -> Fetch:
    pool = urllib3.PoolManager(maxsize=FETCHES, retries=urllib3.Retry(3, backoff_factor=0.1))

    def fetch(name: str) -> bytes | str:
        try:
            response = pool.request("GET", f"{url}/{name}")
        except urllib3.exceptions.HTTPError as error:
            return f"{name} can't be fetched: {reason_of(error)}"
        return response.data if response.status == 200 else f"{name}: HTTP {response.status}"  # noqa: PLR2004 (HTTP's OK)

    return fetch


def _refreshed(url: str, root: Path, now: datetime) -> tuple[RepositoryWalk, Metadata[Targets], int, list[str]]:
    """Return a walk with the top-level targets that it starts from, the version of root, and what is wrong with the top-level files."""
    with tempfile.TemporaryDirectory() as directory:
        _refresh(url, root, Path(directory))
        files = {role: (Path(directory) / f"{role}.json").read_bytes() for role in ("root", "timestamp", "snapshot", "targets")}
    findings = [f"{role}.json: {finding}" for role, content in files.items() for finding in check_signature_entries(content)]
    targets, snapshot = Metadata[Targets].from_bytes(files["targets"]), Metadata[Snapshot].from_bytes(files["snapshot"]).signed
    try:
        read_delegated(targets.signed)
    except MetadataError as error:
        raise Failure("targets does not delegate to hash bins", "tufline verify only supports repositories with hash bins") from error
    return (
        RepositoryWalk(_fetcher(url.rstrip("/")), snapshot, now),
        targets,
        Metadata[Root].from_bytes(files["root"]).signed.version,
        findings,
    )


@click.command()
@click.argument("url")
@root_option
def verify(url: str, root: Path) -> None:
    """Walk all metadata at URL as a suspicious client, and report everything that is wrong.

    python-tuf's client verifies the chain of roots, timestamp, snapshot and targets. Then every custom role and every bin is checked:
    signatures, version, expiry, canonical form, and that each target of a bin belongs to it.
    """
    walk, targets, root_version, findings = _refreshed(url, root, datetime.now(UTC))
    with progress() as bars:
        bar = bars.add_task("roles", total=None)
        for found in walk.walk(walk.delegated(targets)):
            findings += found
            bars.update(bar, advance=1, total=walk.total)
    for finding in findings[:SHOWN_FINDINGS]:
        click.echo(terminal_text.one_line(finding))
    if findings:
        where = f"{walk.bins} bins and {4 + walk.others} other files"
        raise Failure(f"{len(findings)} findings in {where}", "do not use this repository until you know why")
    custom = f" and {walk.others - 1} custom roles" if walk.others else ""
    click.echo(f"verified: {walk.targets} targets in {walk.bins} bins{custom}, snapshot {walk.snapshot.version}, root {root_version}")
