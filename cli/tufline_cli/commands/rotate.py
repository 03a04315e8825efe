"""``tufline keys rotate`` and ``tufline keys retire``: the change of an online key, from a terminal."""

from pathlib import Path
from typing import Final

import click
from securesystemslib.signer import Key

from tufline.client.rest import Client
from tufline.keys.opening import KeyOpener
from tufline.keys.vault import provision
from tufline.metadata.key_uris import FILE_SCHEME, VAULT_SCHEME, VaultKeyName
from tufline_cli.commands.keys import online_keys, with_opener
from tufline_cli.commands.rotation_steps import DEFAULT_DAYS, Rotation, begin, begun, run, stage, to_give
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import LIFETIME_DAYS, config_option, header_option, timeout_option, url_option

KEYID_SHOWN: Final = 12
ONLINE: Final = "online"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--old", metavar="KEY", help="The key that goes: its URI, or the beginning of its keyid. Not needed where there is one online key."
)
@click.option("--new", metavar="KEY", help="The key that comes: its URI, or a file that tufline keys wrote.")
@click.option("--new-version", is_flag=True, help="Make the next version of the key that goes, in Vault, and take that.")
@click.option("--days", type=LIFETIME_DAYS, default=DEFAULT_DAYS, show_default=True, help="Lifetime of the new root and targets.")
@click.option(
    "--skip-overlap",
    is_flag=True,
    help="The key that goes is lost: wait for nothing that it would have to sign. Clients may fail for a while.",
)
@url_option
@header_option
@timeout_option
@config_option
def rotate(
    directory: Path,
    old: str | None,
    new: str | None,
    new_version: bool,
    days: int,
    skip_overlap: bool,
    url: str,
    header: tuple[str, ...],
    timeout: float,
    path: Path | None,
) -> None:
    """Put another online key in place of one, without a moment in which a client fails.

    Call it with the same DIRECTORY until it says that all is done: first it writes the root (and targets) to sign; when these are signed
    (tufline sign) it gives them to the server; then it tells how far that is. It may be stopped anywhere.
    """
    client = Client(url, header)

    def start() -> Rotation:
        if (new is None) == (not new_version):
            raise Failure("say which key comes: --new KEY, or --new-version", code=Exit.USAGE)
        if new is not None:
            return begin(directory, client, old, lambda _: online_keys((new,), (ONLINE,), path)[ONLINE], days, skip_overlap=skip_overlap)
        return begin(directory, client, old, lambda uri: _next_version(uri, path), days, skip_overlap=skip_overlap)

    rotation = run(directory, client, start, timeout)
    if rotation is not None:
        click.echo(f"done: the key {rotation.old[:KEYID_SHOWN]} ({rotation.uri}) signs nothing any more")
        click.echo(f"next: tufline keys retire {directory}")


def _next_version(uri: str, path: Path | None) -> Key:
    if not uri.startswith(VAULT_SCHEME):
        raise Failure(f"the key {uri} has no versions", "make another key, and give it with --new", Exit.USAGE)

    async def make(opener: KeyOpener) -> Key:
        _, public = await provision.new_version(opener.vault, VaultKeyName.parse(uri))
        return public

    return with_opener(path, make)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@url_option
@header_option
@config_option
def retire(directory: Path, url: str, header: tuple[str, ...], path: Path | None) -> None:
    """Let the key that went in the rotation of DIRECTORY sign never again; refused while it still signs anything."""
    rotation = begun(directory)
    if rotation is None:
        raise Failure(f"no rotation was begun in {directory}", code=Exit.USAGE)
    if waits := stage(Client(url, header).request("GET", "/api/v1/trust"), rotation, to_give(directory)):
        raise Failure(f"the key is still needed: {waits}", f"tufline keys rotate {directory} says when it is not")
    if not rotation.uri.startswith(VAULT_SCHEME):
        place = rotation.uri.removeprefix(FILE_SCHEME)
        what = f"delete {place} in signer.key_dir" if rotation.uri.startswith(FILE_SCHEME) else f"disable {place} where it is kept"
        click.echo(f"nothing needs the key any more: {what}")
        return
    name = VaultKeyName.parse(rotation.uri)

    async def forbid(opener: KeyOpener) -> bool:
        newest = max(await provision.public_keys(opener.vault, name))
        if newest > name.version:
            await provision.forbid_below(opener.vault, VaultKeyName(name.mount, name.key, name.version + 1))
        return newest > name.version

    if with_opener(path, forbid):
        click.echo(f"no version of {name.path} up to {name.version} signs any more")
    else:
        click.echo(f"{name.path} has no newer version: take it out of the signer's policy (tufline keys policy without it)")
