"""Passphrases of private keys in files: from a file, or typed by a person."""

from pathlib import Path
from typing import Any

import click

from tufline.keys.offline import MIN_PASSPHRASE, AskPassphrase
from tufline_cli.exit_codes import Exit, Failure

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)

passphrase_file_option = click.option(
    "--passphrase-file", type=_FILE, help="File with the passphrase of the private keys; by default you are asked."
)
unencrypted_option = click.option(
    "--unencrypted", is_flag=True, help="Write private keys without encryption: whoever copies them can sign."
)


def _read(path: Path) -> str:
    # An editor ends a file with a newline, which is not part of the passphrase.
    return path.read_text().rstrip("\r\n")


def _check(passphrase: str) -> str:
    if len(passphrase) < MIN_PASSPHRASE:
        raise click.BadParameter(f"the passphrase has {len(passphrase)} characters, but must have at least {MIN_PASSPHRASE}")
    return passphrase


def new_passphrase(file: Path | None, *, unencrypted: bool) -> str | None:
    """Return the passphrase that encrypts new private keys.

    Args:
        file: a file that has it; None to ask for it.
        unencrypted: whether encryption was refused.

    Returns:
        The passphrase; None for no encryption.

    Raises:
        Failure: if both a file and no encryption were chosen.
        click.BadParameter: if the passphrase is too short.
    """
    if unencrypted and file is not None:
        raise Failure("--unencrypted contradicts --passphrase-file", "leave one of them out", Exit.USAGE)
    if unencrypted:
        return None
    if file is not None:
        return _check(_read(file))
    typed: Any = click.prompt("Passphrase for the new private keys", hide_input=True, confirmation_prompt=True, value_proc=_check, err=True)
    return str(typed)


def asker(file: Path | None) -> AskPassphrase:
    """Return a function that gets the passphrase of an encrypted private key.

    Args:
        file: a file that has it; None to ask for it.

    Returns:
        A function that reads the file, or asks with the name of the key.
    """

    def ask(path: Path) -> str:
        return _read(file) if file is not None else str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True))

    return ask
