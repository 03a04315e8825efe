"""The command line: runs the services in processes, and talks to them."""

from types import MappingProxyType

import click

import tufline
from tufline_cli import late_imports
from tufline_cli.exit_codes import MEANINGS
from tufline_cli.groups import LazyGroup

late_imports.install()

_EPILOG = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."

_COMMANDS = MappingProxyType(
    {
        "accept-loss": "loss:accept_loss",
        "add": "artifacts:add",
        "audit": "audit:audit",
        "ceremony": "ceremony:ceremony",
        "config": "settings:config",
        "delegations": "delegations:delegations",
        "dev": "serve:dev",
        "download": "verify:download",
        "freeze": "publishing:freeze",
        "fsck": "fsck:fsck",
        "import": "artifacts:import_",
        "init": "init:init",
        "keys": "keys:keys",
        "origin": "origin:origin",
        "plan": "plan:plan_",
        "publish": "publishing:publish",
        "rejected": "rejected:rejected",
        "remove": "artifacts:remove",
        "root": "renew:root",
        "run": "serve:run",
        "serve": "serve:serve",
        "sign": "sign:sign",
        "status": "artifacts:status",
        "submit": "renew:submit",
        "targets": "renew:targets",
        "thaw": "publishing:thaw",
        "topics": "kafka:topics",
        "verify": "verify:verify",
    }
)


@click.group(
    cls=LazyGroup, places=_COMMANDS, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(tufline.__version__, prog_name="tufline")
def main() -> None:
    """Keep the TUF metadata of a repository signed, fresh and published."""
