"""``tufline keys rotate`` and ``tufline keys retire``: replace an online key."""

from pathlib import Path
from typing import Final

import click
from securesystemslib.signer import Key

from tufline.client.rest import Client
from tufline.keys.opening import KeyOpener
from tufline.keys.vault import provision
from tufline.metadata.key_uris import FILE_SCHEME, VAULT_SCHEME, VaultKeyName
from tufline_cli.commands.keys import online_keys, with_opener
from tufline_cli.commands.rotation_steps import DEFAULT_DAYS, Rotation, read_rotation, read_signed, run, start_rotation, waits_for
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option, timeout_option, url_option
from tufline_cli.trust_options import LIFETIME_DAYS

KEYID_SHOWN: Final = 12
ONLINE: Final = "online"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--old", metavar="KEY", help="The key to replace: its URI, or the start of its keyid. Not needed if there is only one online key."
)
@click.option("--new", metavar="KEY", help="The new key: its URI, or a file that tufline keys wrote.")
@click.option("--new-version", is_flag=True, help="Make the next version of the old key in Vault, and use it as the new key.")
@click.option("--days", type=LIFETIME_DAYS, default=DEFAULT_DAYS, show_default=True, help="Lifetime of the new root and targets.")
@click.option(
    "--skip-overlap",
    is_flag=True,
    help="The old key is lost: do not wait for anything that it would have to sign. Clients may fail for a while.",
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
    """Replace an online key, without any client failing meanwhile.

    Run it with the same DIRECTORY until it reports that everything is done. First it writes the root (and targets) to sign. Once these are
    signed (tufline sign), it submits them to the server, and then reports the progress. It can be interrupted at any time.
    """
    client = Client(url, header)

    def start() -> Rotation:
        if (new is None) == (not new_version):
            raise Failure("the new key is missing: pass either --new KEY or --new-version", code=Exit.USAGE)
        if new is not None:
            return start_rotation(
                directory, client, old, lambda _: online_keys((new,), (ONLINE,), path)[ONLINE], days, skip_overlap=skip_overlap
            )
        return start_rotation(directory, client, old, lambda uri: _next_version(uri, path), days, skip_overlap=skip_overlap)

    rotation = run(directory, client, start, timeout)
    if rotation is not None:
        click.echo(f"done: the key {rotation.old[:KEYID_SHOWN]} ({rotation.uri}) no longer signs anything")
        click.echo(f"next: tufline keys retire {directory}")


def _next_version(uri: str, path: Path | None) -> Key:
    if not uri.startswith(VAULT_SCHEME):
        raise Failure(f"the key {uri} has no versions", "make another key, and pass it with --new", Exit.USAGE)

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
    """Forbid the old key of the rotation in DIRECTORY to sign. Refused while it still signs anything."""
    rotation = read_rotation(directory)
    if rotation is None:
        raise Failure(f"there is no rotation in {directory}", code=Exit.USAGE)
    if waits := waits_for(Client(url, header).request("GET", "/api/v1/trust"), rotation, read_signed(directory)):
        raise Failure(f"the key is still needed: {waits}", f"tufline keys rotate {directory} shows the progress")
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
        click.echo(f"versions of {name.path} up to {name.version} can no longer sign")
    else:
        click.echo(f"{name.path} has no newer version: remove it from the signer's policy (tufline keys policy without it)")
