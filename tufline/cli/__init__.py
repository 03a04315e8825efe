"""The command line: composes the services into processes, and speaks to them."""

import click

import tufline
from tufline.cli.artifacts import add, import_, remove, status
from tufline.cli.audit import audit
from tufline.cli.exits import MEANINGS, Group
from tufline.cli.fsck import fsck
from tufline.cli.init import init
from tufline.cli.kafka import topics
from tufline.cli.keys import keys
from tufline.cli.loss import accept_loss
from tufline.cli.origin import origin
from tufline.cli.rejected import rejected
from tufline.cli.rotate import retire, rotate
from tufline.cli.serve import dev, run, serve
from tufline.cli.settings import config
from tufline.cli.sign import sign
from tufline.cli.verify import download, verify

_EPILOG = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."


@click.group(cls=Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(tufline.__version__, prog_name="tufline")
def main() -> None:
    """Keep the TUF metadata of a repository: signed, fresh and at its origin."""


keys.add_command(rotate)
keys.add_command(retire)

_COMMANDS = (
    *(dev, serve, run, topics, keys, sign, init),
    *(add, remove, import_, rejected, accept_loss, status, download, verify, fsck, origin, audit, config),
)

for _command in _COMMANDS:
    main.add_command(_command)
