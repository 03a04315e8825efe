"""Options that several commands share."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import click

from tufline.client.rest import DEFAULT_TIMEOUT_SECONDS, DEFAULT_URL

url_option = click.option("--url", default=DEFAULT_URL, show_default=True, help="URL of the server.")
header_option = click.option("-H", "--header", multiple=True, help="'Name: value' to send with each request, such as an authorization.")
timeout_option = click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    help="How long to wait until the change is live, in seconds.",
)
hold_option = click.option("--hold", is_flag=True, help="Hold the change until tufline publish.")
wait_option = click.option("--wait/--no-wait", default=True, help="Wait until the change is live.")

config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="TOML file with settings."
)
data_option = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of tufline dev.")


def change_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that changes something on a server: where it is, and whether and how long to wait.

    Args:
        command: the function of the command, with the parameters ``url``, ``header``, ``wait`` and ``timeout``.

    Returns:
        The function with the options.
    """
    return reduce(lambda made, option: option(made), (timeout_option, wait_option, header_option, url_option), command)
