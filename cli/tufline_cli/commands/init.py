"""``tufline init``: makes a repository's keys and bootstrap payload."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tufline.client.rest import Client
from tufline.metadata.profiles import CLIENTS, STANDARD
from tufline.trust import ceremony
from tufline_cli.commands.bootstrapping import submit
from tufline_cli.commands.keys import online_keys
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option
from tufline_cli.passphrases import new_passphrase, passphrase_file_option, unencrypted_option
from tufline_cli.trust_options import LIFETIME_DAYS, scheme_option

Command = TypeVar("Command", bound=Callable[..., Any])


def _days_option(role: str, name: str) -> Callable[[Command], Command]:
    default = ceremony.DEFAULT_DAYS[role]
    return click.option(f"--{role}-days", type=LIFETIME_DAYS, default=default, show_default=True, help=f"Lifetime of {name}, in days.")


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory for keys and payload; it must be empty or new.",
)
@click.option("--bins", type=int, default=2048, show_default=True, help="Number of hash bins: a power of two, 2 to 16384.")
@click.option(
    "--mode",
    type=click.Choice([ceremony.PEP458, ceremony.RSTUF]),
    default=ceremony.PEP458,
    show_default=True,
    help="Who signs targets: pep458 offline keys, rstuf the online key.",
)
@scheme_option
@click.option("--root-keys", type=int, default=3, show_default=True, help="Number of root keys.")
@click.option("--root-threshold", type=int, default=2, show_default=True, help="How many root keys must sign.")
@click.option("--targets-keys", type=int, default=3, show_default=True, help="Number of targets keys (pep458).")
@click.option("--targets-threshold", type=int, default=2, show_default=True, help="How many targets keys must sign.")
@click.option(
    "--online-key",
    "online",
    multiple=True,
    metavar="[ROLE=]KEY",
    help="Key of all roles that are signed online, or of one of them (timestamp, snapshot, bins; in mode rstuf also targets): a URI such "
    "as vault:transit/tufline#1, or a file that tufline keys wrote. Roles without an option share a new key in a file.",
)
@click.option(
    "--client-profile",
    "profile",
    type=click.Choice(list(CLIENTS)),
    default=STANDARD,
    show_default=True,
    help="Clients that must be able to read the repository: standard is python-tuf, tuf-js and go-tuf; rstuf is python-tuf.",
)
@_days_option("root", "root")
@_days_option("targets", "targets")
@_days_option("snapshot", "a snapshot")
@_days_option("timestamp", "a timestamp")
@_days_option("bins", "a bin")
@passphrase_file_option
@unencrypted_option
@click.option("--submit", "url", help="URL of the server to bootstrap immediately.")
@header_option
@config_option
def init(
    out: Path,
    bins: int,
    mode: str,
    scheme: str,
    root_keys: int,
    root_threshold: int,
    targets_keys: int,
    targets_threshold: int,
    online: tuple[str, ...],
    profile: str,
    root_days: int,
    targets_days: int,
    snapshot_days: int,
    timestamp_days: int,
    bins_days: int,
    passphrase_file: Path | None,
    unencrypted: bool,
    url: str | None,
    header: tuple[str, ...],
    path: Path | None,
) -> None:
    """Make a repository's keys and the payload that bootstraps it.

    All keys are made on this machine; tufline ceremony lets each person make their own elsewhere.

    In OUT: offline/ has the private keys of root and targets, encrypted (move them off this machine); online/ has the online key, if one
    was made (set the server's signer.key_dir to it); root.json is the root that clients start with; bootstrap.json is for POST
    /api/v1/bootstrap/.
    """
    days = {"root": root_days, "targets": targets_days, "snapshot": snapshot_days, "timestamp": timestamp_days, "bins": bins_days}
    if out.exists() and any(out.iterdir()):
        raise Failure(f"{out} is not empty", "choose another directory: keys are never overwritten", Exit.USAGE)
    client = None if url is None else Client(url, header)
    publics = online_keys(online, ceremony.ONLINE_ROLES[mode], path)
    plan = ceremony.Plan(bins, mode, scheme, root_keys, root_threshold, targets_keys, targets_threshold, days, publics, profile)
    try:
        held = ceremony.hold(plan)
    except ValueError as error:
        raise Failure(str(error), code=Exit.USAGE) from error
    ceremony.write(held, out, new_passphrase(passphrase_file, unencrypted=unencrypted))
    click.echo(f"keys and payload are in {out}")
    if client is None:
        first = f"put {out / 'online'} where signer.key_dir points, " if held.online else ""
        click.echo(f"next: {first}start the server, and post {out / 'bootstrap.json'}")
        return
    submit(client, held.payload)
