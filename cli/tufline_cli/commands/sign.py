"""``tufline sign``: signs root or targets with an offline key: files on a machine without a network, or versions that wait on a server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tuf.api.metadata import Root

from tufline.client.rest import Client
from tufline.keys.offline import OfflineKey
from tufline.trust.shared_ceremony import TRUSTED_ROOT
from tufline_cli.commands.key_holders import open_offline
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option
from tufline_cli.passphrases import asker, passphrase_file_option
from tufline_cli.signing_steps import SIGN_PATH, TRUSTED, changes, matching, print_missing, read, signing_keys, trusted_root, waiting


def _sign_on_server(client: Client, held: Sequence[OfflineKey], *, is_confirmed: bool) -> set[str]:
    """Sign every version that waits on a server, and return the names of the keys that signed something."""
    found = waiting(client)
    versions = dict(found.versions)
    trusted = versions.pop(TRUSTED, None) or versions.get(Root.type)
    if not versions or trusted is None:
        raise Failure("nothing waits for signatures on the server", "submit it first: tufline root, targets or ceremony")
    used: set[str] = set()
    for role, metadata in versions.items():
        # Targets may have to be signed by keys of an older root too, which only the server's answer has.
        may_sign = [*signing_keys(metadata.signed, trusted.signed), *found.keys.get(role, ())]
        signers = matching(held, may_sign)
        used |= {one.name for one, _ in signers}
        new = [(one, key) for one, key in signers if key.keyid not in metadata.signatures]
        if new:
            click.echo(changes(metadata.signed, trusted.signed))
            if not is_confirmed:
                click.confirm("Sign it?", abort=True)
        for one, key in new:
            if role not in waiting(client).versions:
                break  # the version is complete, and accepts no more signatures
            signature = one.sign(key, metadata.signed_bytes)
            client.request("POST", SIGN_PATH, {"role": role, "signature": signature.to_dict()})
            metadata.signatures[signature.keyid] = signature
    left = waiting(client).missing
    for role, metadata in versions.items():
        print_missing(metadata, trusted.signed, left=left.get(role, ""))
    return used


@dataclass(frozen=True, slots=True)
class _Signed:
    """The result of signing one file.

    Attributes:
        role: the role of the file.
        signatures: the new signatures.
        used: the names of the keys that signed.
    """

    role: str
    signatures: list[dict[str, Any]]
    used: set[str]


def _sign_file(file: Path, trusted: Root, held: Sequence[OfflineKey], *, in_place: bool) -> _Signed:
    """Sign a file, and write the signatures into it if ``in_place`` is set."""
    metadata = read(file)
    click.echo(changes(metadata.signed, trusted))
    signers = matching(held, signing_keys(metadata.signed, trusted))
    new = [one.sign(key, metadata.signed_bytes) for one, key in signers]
    metadata.signatures |= {signature.keyid: signature for signature in new}
    if in_place:
        file.write_bytes(metadata.to_bytes())
    print_missing(metadata, trusted, f"{file}: ")
    return _Signed(metadata.signed.type, [signature.to_dict() for signature in new], {one.name for one, _ in signers})


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="[FILE...]")
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    metavar="KEY",
    help="Private key: a file (PEM), or a URI such as hsm:1?label=token or awskms:alias/root.",
)
@passphrase_file_option
@click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help=f"The current root; by default {TRUSTED_ROOT} next to the file.",
)
@click.option("--url", help="URL of a server: sign the versions that wait there, instead of files.")
@header_option
@click.option(
    "--signatures",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signatures to this file, to hand over, and leave FILE unchanged.",
)
@click.option("--yes", is_flag=True, help="Sign the versions that wait on the server without asking.")
@config_option
def sign(
    files: tuple[Path, ...],
    keys: tuple[str, ...],
    passphrase_file: Path | None,
    root: Path | None,
    url: str | None,
    header: tuple[str, ...],
    signatures: Path | None,
    yes: bool,
    path: Path | None,
) -> None:
    """Sign root or targets in FILE with offline keys, and print how many signatures are missing.

    For files this needs no network: copy them to the machine that has the key, and back. With --url it signs the versions that wait for
    signatures on a server; the key stays here, and only the signature is sent.
    """
    if bool(files) == bool(url):
        raise Failure("it is not clear what to sign", "pass either files, or a server with --url", Exit.USAGE)
    if url and root:
        raise Failure("--root is for files only", "leave it out: the server says which root is the current one", Exit.USAGE)
    if url and signatures:
        raise Failure("--signatures is for files only", "leave it out: the signatures are sent to the server", Exit.USAGE)
    held = [open_offline(name, asker(passphrase_file), path) for name in dict.fromkeys(keys)]
    used: set[str] = set()
    if url:
        used = _sign_on_server(Client(url, header), held, is_confirmed=yes)
    signed = [_sign_file(file, trusted_root(root or file.with_name(TRUSTED_ROOT)), held, in_place=signatures is None) for file in files]
    used |= {name for one in signed for name in one.used}
    if signatures is not None and used:
        signatures.write_text(json.dumps({one.role: one.signatures for one in signed}, indent=1))
        click.echo(f"signatures, to hand over: {signatures}")
    if unused := set(keys) - used:
        names = ", ".join(sorted(unused))
        what = "any of these files" if files else "the versions that wait there"
        raise Failure(f"{names} can't sign {what}", "pass the private key of one of the offline keys")
