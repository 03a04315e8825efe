"""How the command line ends: exit codes, and errors as people read them."""

import errno
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import click

from tufline.errors import (
    BusBusyError,
    BusUnreachableError,
    ConfigError,
    InvalidAddressError,
    KeyUnreachableError,
    NotLiveYetError,
    ServerUnreachableError,
    TuflineError,
)
from tufline.runtime import terminal_text


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    TIMEOUT = 5


MEANINGS: Final[Mapping[Exit, str]] = MappingProxyType(
    {
        Exit.OK: "done",
        Exit.FAILED: "something was refused, or found wrong",
        Exit.USAGE: "the command line is wrong",
        Exit.CONFIGURATION: "the configuration is wrong",
        Exit.UNREACHABLE: "the server, a broker or Vault can't be reached, or is not ready",
        Exit.TIMEOUT: "it took longer than allowed; it may still happen",
    }
)
"""What each exit code means; the help shows it."""


class Failure(click.ClickException):
    """An end with a message, what to do, and an exit code.

    Args:
        message: what happened.
        hint: what to do; empty where the message says it.
        code: how to exit.
    """

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = int(code)  # type: ignore[misc]  # click sets it for a class, and reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the message to standard error.

        Args:
            file: where else.
        """
        # A message may repeat what a server said.
        click.echo(f"error: {terminal_text.lines(self.message)}", file=file, err=file is None)
        if self.hint:
            click.echo(f"hint: {terminal_text.lines(self.hint)}", file=file, err=file is None)


def as_failure(error: TuflineError) -> Failure:
    """Make an end of an error of the library.

    Args:
        error: its message says what to do.

    Returns:
        The end.
    """
    match error:
        case InvalidAddressError():
            code = Exit.USAGE
        case ConfigError() | BusBusyError():
            code = Exit.CONFIGURATION
        case BusUnreachableError() | KeyUnreachableError() | ServerUnreachableError():
            code = Exit.UNREACHABLE
        case NotLiveYetError():
            code = Exit.TIMEOUT
        case _:
            code = Exit.FAILED
    return Failure(str(error), error.advice, code)


def _of_a_file(error: OSError) -> Failure:
    place = "the disk" if error.filename is None else str(error.filename)
    return Failure(f"{place} can't be used: {error.strerror}", "choose another place, or mend this one")


class Group(click.Group):
    """A group of commands in which an error of the library, or of a file, ends a command with a message, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Args:
            ctx: of the call.

        Returns:
            What the command returns.

        Raises:
            Failure: in place of every TuflineError, and of what the system says of a file.
        """
        try:
            return super().invoke(ctx)
        except TuflineError as error:
            raise as_failure(error) from error
        except OSError as error:
            # What names no file (of a connection, say) should have been met where it came from: it is to be seen in full.
            if error.filename is None and error.errno != errno.ENOSPC:
                raise
            raise _of_a_file(error) from error
