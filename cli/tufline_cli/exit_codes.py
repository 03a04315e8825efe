"""Exit codes of the command line, and errors formatted for humans."""

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
        Exit.FAILED: "something was refused, or a check failed",
        Exit.USAGE: "the command line is wrong",
        Exit.CONFIGURATION: "the configuration is wrong",
        Exit.UNREACHABLE: "the server, a broker or Vault can't be reached, or is not ready",
        Exit.TIMEOUT: "it took longer than allowed; it may still happen",
    }
)
"""The meaning of each exit code, as printed in the help."""


class Failure(click.ClickException):
    """Ends the command with a message, advice, and an exit code.

    Args:
        message: what happened.
        hint: what to do; empty if the message says it.
        code: the exit code.
    """

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = int(code)  # type: ignore[misc]  # click sets it for a class, and reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the message to standard error.

        Args:
            file: where to print instead.
        """
        # A message may contain text from a server.
        click.echo(f"error: {terminal_text.lines(self.message)}", file=file, err=file is None)
        if self.hint:
            click.echo(f"hint: {terminal_text.lines(self.hint)}", file=file, err=file is None)


def as_failure(error: TuflineError) -> Failure:
    """Convert an error of the library to a failure of the command.

    Args:
        error: the error; its message and advice are printed.

    Returns:
        The failure, with the exit code for this kind of error.
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
    return Failure(f"{place} can't be used: {error.strerror}", "choose another file or directory, or fix this one")


class Group(click.Group):
    """A group of commands that reports errors of the library and of files as messages, not as tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Args:
            ctx: click's context of the call.

        Returns:
            The command's result.

        Raises:
            Failure: instead of every TuflineError, and of every OSError of a file.
        """
        try:
            return super().invoke(ctx)
        except TuflineError as error:
            raise as_failure(error) from error
        except OSError as error:
            # An error without a file name, such as one of a connection, should have been handled earlier: show its traceback.
            if error.filename is None and error.errno != errno.ENOSPC:
                raise
            raise _of_a_file(error) from error
