"""Options that several commands share."""

from pathlib import Path

import click

from tufline.client.rest import DEFAULT_TIMEOUT_SECONDS, DEFAULT_URL
from tufline.trust import ceremony
from tufline.trust.rules import MAX_EXPIRATION_DAYS

LIFETIME_DAYS = click.IntRange(1, MAX_EXPIRATION_DAYS)
"""A lifetime of metadata, in days, within the server's limits: the server would refuse a longer one."""

url_option = click.option("--url", default=DEFAULT_URL, show_default=True, help="URL of the server.")
header_option = click.option("-H", "--header", multiple=True, help="'Name: value' to send with each request, such as an authorization.")
timeout_option = click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    help="How long to wait until the change is live, in seconds.",
)
wait_option = click.option("--wait/--no-wait", default=True, help="Wait until the change is live.")

mode_option = click.option(
    "--mode",
    type=click.Choice([ceremony.PEP458, ceremony.RSTUF]),
    default=ceremony.PEP458,
    show_default=True,
    help="pep458: targets signed offline; rstuf: by the online key.",
)
scheme_option = click.option(
    "--scheme", type=click.Choice(["ecdsa", "ed25519"]), default="ecdsa", show_default=True, help="Type of the keys; ecdsa is P-256."
)
config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="TOML file with settings."
)
data_option = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of tufline dev.")
