"""``tufline publish``, ``freeze`` and ``thaw``: publish held changes, and let changes wait."""

from datetime import datetime
from typing import Any

import click

from tufline.client.rest import Client
from tufline_cli.commands.artifacts import finish
from tufline_cli.options import change_options, header_option, url_option


@click.command()
@change_options
def publish(url: str, header: tuple[str, ...], timeout: float, wait: bool) -> None:
    """Publish all changes that are held (add --hold, remove --hold)."""
    client = Client(url, header)
    submitted = client.request("POST", "/api/v1/artifacts/publish/", patient=True)["data"]
    details = finish(client, submitted["task_id"], timeout, wait=wait)
    if wait:
        click.echo(f"published; {len(details['artifact_roles'])} bins have changed")


@click.command()
@url_option
@header_option
def freeze(url: str, header: tuple[str, ...]) -> None:
    """Stop applying changes of artifacts until tufline thaw.

    Requests and events are still accepted, and wait on the log. Nothing expires meanwhile: bins are renewed with their old content.
    """
    data: dict[str, Any] = Client(url, header).request("POST", "/api/v1/freeze", patient=True)["data"]
    since = datetime.fromisoformat(data["frozen_since"])
    click.echo(f"frozen since {since:%Y-%m-%d %H:%M:%S %Z}; changes that are accepted from now on wait until tufline thaw")


@click.command()
@url_option
@header_option
def thaw(url: str, header: tuple[str, ...]) -> None:
    """Apply changes of artifacts again, after tufline freeze."""
    Client(url, header).request("POST", "/api/v1/thaw", patient=True)
    click.echo("thawed; the changes that wait are applied now (tufline status shows how many)")
