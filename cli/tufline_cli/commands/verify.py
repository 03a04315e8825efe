"""``tufline download`` and ``tufline verify``: read a repository with python-tuf's own client.

``verify`` continues where a client would stop: it fetches every bin and reports everything that is wrong with it.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urljoin

import click
import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, SuccinctRoles, Targets
from tuf.ngclient import Updater, UpdaterConfig

from tufline.client.rest import check_url, reason_of
from tufline.errors import InvalidInputError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.paths import check_path
from tufline.metadata.target import HEX_DIGITS, TargetRules, parse_target
from tufline.runtime import terminal_text
from tufline.trust import client_rules
from tufline_cli.commands.artifacts import progress
from tufline_cli.exit_codes import Exit, Failure

FETCHES: Final = 8
"""How many bins are fetched concurrently."""

SHOWN_FINDINGS: Final = 100

ANY: Final = TargetRules(tuple(HEX_DIGITS), check_path)
"""Accepts targets that were valid under any version of the rules."""

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


@dataclass(frozen=True, slots=True)
class RepositoryWalk:
    """A repository to walk.

    Attributes:
        url: URL of the metadata.
        root: the root that a client trusts after a refresh.
        snapshot: the current snapshot.
        targets: the current top-level targets.
        bins: the delegation to hash bins.
    """

    url: str
    root: Metadata[Root]
    snapshot: Snapshot
    targets: Metadata[Targets]
    bins: SuccinctRoles

    def fetch(self, pool: urllib3.PoolManager, role: str) -> tuple[str, bytes | str]:
        """Fetch a bin in the version that the snapshot names.

        Args:
            pool: pool of HTTP connections.
            role: name of the bin.

        Returns:
            The role, and its file as bytes or an error as text.
        """
        meta = self.snapshot.meta.get(f"{role}.json")
        if meta is None:
            return role, "the snapshot does not name it"
        name = envelope.file_name(role, meta.version)
        try:
            response = pool.request("GET", f"{self.url}/{name}")
        except urllib3.exceptions.HTTPError as error:
            return role, f"{name} can't be fetched: {reason_of(error)}"
        return role, response.data if response.status == 200 else f"{name}: HTTP {response.status}"  # noqa: PLR2004 (HTTP's OK)

    def check(self, role: str, content: bytes, now: datetime) -> Iterator[str]:
        """Find what is wrong with a bin.

        Args:
            role: name of the bin.
            content: bytes of the bin's file.
            now: the time that expiry is compared with.

        Yields:
            One sentence for each finding.
        """
        try:
            loaded = Metadata[Targets].from_bytes(content)
            self.targets.signed.verify_delegate(role, loaded.signed_bytes, loaded.signatures)
        except (RepositoryError, ValueError) as error:
            yield f"a client refuses it: {error}"
            return
        yield from _refused_elsewhere(content)
        signed = loaded.signed
        if loaded.signed_bytes not in content:
            yield "its signed part is not in canonical form"
        if signed.version != self.snapshot.meta[f"{role}.json"].version:
            yield f"its version is {signed.version}, and the snapshot names {self.snapshot.meta[f'{role}.json'].version}"
        if signed.is_expired(now):
            yield f"it expired at {signed.expires:%Y-%m-%dT%H:%M:%SZ}"
        for path, target in signed.targets.items():
            if self.bins.get_role_for_target(path) != role:
                yield f"{path!r} does not belong to this bin, so no client finds it"
            try:
                parse_target(path, target.length, target.hashes, target.custom, ANY)
            except InvalidInputError as error:
                yield f"{path!r}: {error}"


def _refused_elsewhere(content: bytes) -> Iterator[str]:
    # python-tuf has accepted it. The other clients also refuse a file for a malformed signature entry, which anyone can add.
    signatures = json.loads(content)["signatures"]
    try:
        client_rules.check_signatures(signatures)
    except MetadataError as error:
        yield f"tuf-js or go-tuf refuses it: {error}"


def _open(url: str, root: Path, directory: Path) -> tuple[RepositoryWalk, list[str]]:
    _refresh(url, root, directory)
    files = {role: (directory / f"{role}.json").read_bytes() for role in ("root", "timestamp", "snapshot", "targets")}
    findings = [f"{role}.json: {finding}" for role, content in files.items() for finding in _refused_elsewhere(content)]
    targets = Metadata[Targets].from_bytes(files["targets"])
    delegations = targets.signed.delegations
    if delegations is None or delegations.succinct_roles is None:
        raise Failure("targets does not delegate to hash bins", "tufline verify only supports repositories with hash bins")
    snapshot = Metadata[Snapshot].from_bytes(files["snapshot"]).signed
    walk = RepositoryWalk(url.rstrip("/"), Metadata[Root].from_bytes(files["root"]), snapshot, targets, delegations.succinct_roles)
    return walk, findings


@click.command()
@click.argument("url")
@root_option
def verify(url: str, root: Path) -> None:
    """Walk all metadata at URL as a suspicious client, and report everything that is wrong.

    python-tuf's client verifies the chain of roots, timestamp, snapshot and targets. Then every bin is checked: signatures, version,
    expiry, canonical form, and that each of its targets belongs to it.
    """
    now = datetime.now(UTC)
    total = 0
    with tempfile.TemporaryDirectory() as directory:
        walk, findings = _open(url, root, Path(directory))
    with progress() as bars, ThreadPoolExecutor(FETCHES) as threads:
        pool = urllib3.PoolManager(maxsize=FETCHES, retries=urllib3.Retry(3, backoff_factor=0.1))
        roles = list(walk.bins.get_roles())
        bar = bars.add_task("bins", total=len(roles))
        for role, content in threads.map(lambda role: walk.fetch(pool, role), roles):
            if isinstance(content, str):
                findings.append(f"{role}: {content}")
            else:
                findings += [f"{role}: {finding}" for finding in walk.check(role, content, now)]
                total += content.count(b'"length":')
            bars.update(bar, advance=1)
    for finding in findings[:SHOWN_FINDINGS]:
        click.echo(terminal_text.one_line(finding))
    if findings:
        raise Failure(f"{len(findings)} findings in {len(roles)} bins and 4 other files", "do not use this repository until you know why")
    click.echo(f"verified: {total} targets in {len(roles)} bins, snapshot {walk.snapshot.version}, root {walk.root.signed.version}")
