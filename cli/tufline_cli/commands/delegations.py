"""``tufline delegations``: custom roles, which are trusted for some paths, with keys, thresholds and lifetimes of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tufline.client.rest import Client
from tufline.clock import utc_now
from tufline.errors import MetadataError
from tufline.metadata.delegations import EXPIRE_POLICY
from tufline.trust import key_files
from tufline_cli.commands.artifacts import finish
from tufline_cli.exit_codes import Exit, Failure, Group
from tufline_cli.options import change_options, header_option, url_option
from tufline_cli.trust_options import LIFETIME_DAYS

CALL: Final = "/api/v1/delegations/"


@click.group(cls=Group)
def delegations() -> None:
    """Show and change custom roles, which are trusted for some paths.

    Without custom roles, every artifact is in a bin. A custom role has paths of its own, and may have its own online keys and lifetime.
    """


def _role_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a role."""
    for option in reversed(
        (
            click.option(
                "--path",
                "paths",
                multiple=True,
                metavar="PATTERN",
                help="Paths that the role is trusted for, such as 'dev/*'; '*' matches any characters of one name. Repeat it for several.",
            ),
            click.option(
                "--terminating/--not-terminating",
                default=None,
                help="Whether clients look in no further role for these paths. By default they go on.",
            ),
            click.option(
                "--key",
                "keys",
                multiple=True,
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="File with the public key of an online key, as 'tufline keys show' prints it, or of a person, as 'tufline keys "
                "generate' writes it. Repeat it for several, all of one kind. "
                "Without one, the online keys of the bins sign the role.",
            ),
            click.option("--threshold", type=click.IntRange(min=1), help="How many of its keys must sign the role; by default one."),
            click.option("--expires", type=LIFETIME_DAYS, help="Lifetime of each version, in days; by default that of the bins."),
        )
    ):
        command = option(command)
    return command


@delegations.command("list")
@url_option
@header_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(url: str, header: tuple[str, ...], as_json: bool) -> None:
    """List the custom roles, in the order in which clients look in them."""
    data = Client(url, header).request("GET", CALL)["data"]
    console = Console()
    if as_json:
        console.print_json(data=data)
        return
    if not data["roles"]:
        click.echo("there are no custom roles; every artifact is in a bin")
        return
    table = Table("role", "paths", "keys", "version", "expires", box=None)
    for role in data["roles"]:
        keys = f"{role['threshold']} of {len(role['keyids'])}" if role["keyids"] else "those of the bins"
        paths = ", ".join(role["paths"]) + (" (terminating)" if role["terminating"] else "")
        table.add_row(role["name"], escape(paths), keys, str(role["version"] or "not published yet"), role["expires"] or "-")
    console.print(table)


@delegations.command()
@click.argument("name")
@_role_options
@change_options
def add(name: str, url: str, header: tuple[str, ...], timeout: float, wait: bool, **role: Any) -> None:
    """Add the custom role NAME; clients look in it after those that exist, and before the bins."""
    if not role["paths"]:
        raise Failure("a role without paths would be trusted for nothing", "pass --path PATTERN, such as --path 'dev/*'", Exit.USAGE)
    fresh = {"name": name, "terminating": False, "keyids": [], "threshold": 1}
    _submit(Client(url, header), "POST", *_described(fresh, **role), timeout=timeout, wait=wait)
    click.echo(f"{name} is {'published' if wait else 'accepted'}")


@delegations.command()
@click.argument("name")
@_role_options
@change_options
def update(name: str, url: str, header: tuple[str, ...], timeout: float, wait: bool, **role: Any) -> None:
    """Change the custom role NAME. What no option names stays; --path and --key replace all paths and all keys."""
    client = Client(url, header)
    known = {one["name"]: one for one in client.request("GET", CALL)["data"]["roles"]}
    if name not in known:
        raise Failure(f"there is no role {name}", "tufline delegations list shows the roles")
    current = {field: known[name][field] for field in ("name", "paths", "terminating", "keyids", "threshold", EXPIRE_POLICY)}
    _submit(client, "PUT", *_described(current, **role), timeout=timeout, wait=wait)
    click.echo(f"{name} is {'published' if wait else 'accepted'}")


@delegations.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@change_options
def delete(names: tuple[str, ...], url: str, header: tuple[str, ...], timeout: float, wait: bool) -> None:
    """Delete custom roles. Clients no longer find what is in them: add it again, so that it gets into other roles or bins."""
    client = Client(url, header)
    body = {"delegations": {"roles": [{"name": name} for name in names]}}
    submitted = client.request("POST", f"{CALL}delete", body)["data"]
    finish(client, submitted["task_id"], timeout, wait=wait)
    click.echo(f"{', '.join(names)}: deleted")


def _described(
    role: dict[str, Any],
    paths: tuple[str, ...],
    terminating: bool | None,
    keys: tuple[Path, ...],
    threshold: int | None,
    expires: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the role with what the options change, and its keys."""
    objects: dict[str, Any] = {}
    for file in keys:
        try:
            key = key_files.read(file.read_bytes(), utc_now()).key
        except MetadataError as error:
            raise Failure(f"{file}: {error}") from error
        objects[key.keyid] = key.to_dict()
    changed = {
        "paths": [*paths] or None,
        "terminating": terminating,
        "keyids": [*objects] or None,
        "threshold": threshold,
        EXPIRE_POLICY: expires,
    }
    return role | {field: value for field, value in changed.items() if value is not None}, objects


def _submit(client: Client, method: str, role: dict[str, Any], keys: dict[str, Any], *, timeout: float, wait: bool) -> None:
    submitted = client.request(method, CALL, {"delegations": {"keys": keys, "roles": [role]}})["data"]
    finish(client, submitted["task_id"], timeout, wait=wait)
