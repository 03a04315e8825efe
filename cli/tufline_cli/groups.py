"""Groups of commands that import a command only when it is used: all of them together take two seconds to import."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from tufline_cli.exit_codes import Group


class LazyGroup(Group):
    """A group some of whose commands are imported when they are used, and all of them for its help."""

    def __init__(self, *args: Any, places: Mapping[str, str], **options: Any) -> None:
        """Register the commands, without importing them.

        Args:
            args: see ``click.Group``.
            places: name of each command to its place: the module in ``tufline_cli.commands``, a colon, and the name in that module.
            options: see ``click.Group``.
        """
        super().__init__(*args, **options)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted.

        Args:
            ctx: click's context of the call.

        Returns:
            The names.
        """
        return sorted([*super().list_commands(ctx), *self._places])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Args:
            ctx: click's context of the call.
            cmd_name: the command's name.

        Returns:
            The command; None if there is none of this name.
        """
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._places[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"tufline_cli.commands.{module}"), name)
        return command
