"""``tufline sign``: signs root, targets or custom roles with an offline key: files without a network, or versions that wait on a server."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from tuf.api.metadata import Root, Targets

from tufline.client.rest import Client
from tufline.keys.offline import OfflineKey
from tufline.trust.shared_ceremony import TRUSTED_ROOT
from tufline_cli.commands.key_holders import open_offline
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option
from tufline_cli.passphrases import asker, passphrase_file_option
from tufline_cli.signing_steps import SIGN_PATH, TRUSTED, changes, matching, print_missing, read, signing_keys, trusted_root, waiting

JUDGEMENT_SECONDS: Final = 60.0
"""How long to wait until a signature of a custom role is accepted."""


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
        is_custom = role not in {Root.type, Targets.type}
        may_sign = [*(() if is_custom else signing_keys(metadata.signed, trusted.signed)), *found.keys.get(role, ())]
        signers = matching(held, may_sign)
        used |= {one.name for one, _ in signers}
        new = [(one, key) for one, key in signers if key.keyid not in metadata.signatures]
        if new:
            click.echo(changes(metadata.signed, trusted.signed, role if is_custom else ""))
            if not is_confirmed:
                click.confirm("Sign it?", abort=True)
        for one, key in new:
            if role not in waiting(client).versions:
                break  # the version is complete, and accepts no more signatures
            signature = one.sign(key, metadata.signed_bytes)
            submitted = client.request("POST", SIGN_PATH, {"role": role, "signature": signature.to_dict()})["data"]
            if is_custom:
                _wait_for_judgement(client, submitted["task_id"])
            metadata.signatures[signature.keyid] = signature
    now = waiting(client)
    for role, metadata in versions.items():
        if role in {Root.type, Targets.type}:
            print_missing(metadata, trusted.signed, left=now.missing.get(role, ""))
        else:
            still = now.versions.get(role)
            is_left = still is not None and still.signed.version == metadata.signed.version
            click.echo(f"{role} version {metadata.signed.version}: {now.missing[role] if is_left else 'complete'}")
    return used


def _wait_for_judgement(client: Client, task_id: str) -> None:
    """Wait until the writer of a custom role has accepted a signature."""
    result = client.wait_for_task(task_id, time.monotonic() + JUDGEMENT_SECONDS)
    if result.get("error"):
        raise Failure(f"the signature was not accepted: {result['error']}", "run the command again: it reads what waits now")


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
    signatures on a server, also those of custom roles; the key stays here, and only the signature is sent.
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
