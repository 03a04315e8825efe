"""Sending a bootstrap to a server, for the commands that make one."""

import time
from collections.abc import Mapping
from typing import Any

import click

from tufline.client.rest import DEFAULT_TIMEOUT_SECONDS, Client
from tufline_cli.exit_codes import Failure

BOOTSTRAP_PATH = "/api/v1/bootstrap/"


def submit(client: Client, payload: Mapping[str, Any]) -> None:
    """Bootstrap a server, wait until the first metadata is published, and say so.

    Args:
        client: talks to the server.
        payload: the body for POST /api/v1/bootstrap/. If it has too few signatures, the server waits for the others.

    Raises:
        Failure: if the server refuses it.
    """
    answer = client.request("POST", BOOTSTRAP_PATH, payload)
    result = client.wait_for_task(answer["data"]["task_id"], time.monotonic() + DEFAULT_TIMEOUT_SECONDS)
    if not result["status"]:
        raise Failure(f"the bootstrap failed: {result['error']}")
    if client.request("GET", BOOTSTRAP_PATH)["data"]["state"] == "signing":
        click.echo(f"the server waits for more signatures: tufline sign --url {client.url} --key KEY")
        return
    click.echo("the repository is bootstrapped, and its first metadata is published")
