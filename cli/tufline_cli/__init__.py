"""The command line: runs the services in processes, and talks to them."""

import click

import tufline
from tufline_cli.commands.artifacts import add, import_, remove, status
from tufline_cli.commands.audit import audit
from tufline_cli.commands.fsck import fsck
from tufline_cli.commands.init import init
from tufline_cli.commands.kafka import topics
from tufline_cli.commands.key_holders import generate, public
from tufline_cli.commands.keys import keys
from tufline_cli.commands.loss import accept_loss
from tufline_cli.commands.origin import origin
from tufline_cli.commands.rejected import rejected
from tufline_cli.commands.rotate import retire, rotate
from tufline_cli.commands.serve import dev, run, serve
from tufline_cli.commands.settings import config
from tufline_cli.commands.sign import sign
from tufline_cli.commands.verify import download, verify
from tufline_cli.exit_codes import MEANINGS, Group

_EPILOG = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."


@click.group(cls=Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(tufline.__version__, prog_name="tufline")
def main() -> None:
    """Keep the TUF metadata of a repository signed, fresh and published."""


for _command in (generate, public, rotate, retire):
    keys.add_command(_command)

_COMMANDS = (
    *(dev, serve, run, topics, keys, sign, init),
    *(add, remove, import_, rejected, accept_loss, status, download, verify, fsck, origin, audit, config),
)

for _command in _COMMANDS:
    main.add_command(_command)
