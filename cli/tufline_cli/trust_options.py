"""Options of the commands that make keys, root and targets."""

import click

from tufline.trust.rules import MAX_EXPIRATION_DAYS

LIFETIME_DAYS = click.IntRange(1, MAX_EXPIRATION_DAYS)
"""A lifetime of metadata, in days, within the server's limits: the server would refuse a longer one."""

scheme_option = click.option(
    "--scheme", type=click.Choice(["ecdsa", "ed25519"]), default="ecdsa", show_default=True, help="Type of the keys; ecdsa is P-256."
)
