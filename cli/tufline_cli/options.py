"""Options that several commands have."""

from pathlib import Path

import click

from tufline.client.rest import DEFAULT_TIMEOUT_SECONDS, DEFAULT_URL
from tufline.trust import ceremony
from tufline.trust.rules import MAX_EXPIRATION_DAYS

LIFETIME_DAYS = click.IntRange(1, MAX_EXPIRATION_DAYS)
"""A lifetime of metadata: what the server takes, so that nothing is made for one that it refuses."""

url_option = click.option("--url", default=DEFAULT_URL, show_default=True, help="URL of the server.")
header_option = click.option("-H", "--header", multiple=True, help="'Name: value' to send with each request, such as an authorization.")
timeout_option = click.option(
    "--timeout", type=float, default=DEFAULT_TIMEOUT_SECONDS, show_default=True, help="How long to wait until it is live, in seconds."
)
wait_option = click.option("--wait/--no-wait", default=True, help="Wait until it is live.")

mode_option = click.option(
    "--mode",
    type=click.Choice([ceremony.PEP458, ceremony.RSTUF]),
    default=ceremony.PEP458,
    show_default=True,
    help="pep458: targets signed offline; rstuf: by the online key.",
)
scheme_option = click.option(
    "--scheme", type=click.Choice(["ecdsa", "ed25519"]), default="ecdsa", show_default=True, help="Kind of the keys; ecdsa is P-256."
)
config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="TOML file of settings."
)
data_option = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory of all data of tufline dev.")
