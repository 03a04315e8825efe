"""``tufline sign``: signs root or targets with an offline key: files on a machine without a network, or versions that wait on a server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from tufline.client.rest import Client
from tufline.errors import MetadataError
from tufline.keys.offline import OfflineKey
from tufline.trust import roles
from tufline.trust.shared_ceremony import TRUSTED_ROOT
from tufline.trust.signing import SHOWN_KEYID
from tufline_cli.commands.bootstrapping import BOOTSTRAP_PATH
from tufline_cli.commands.key_holders import open_offline
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option
from tufline_cli.passphrases import asker, passphrase_file_option

TRUSTED = "trusted_root"
"""The name of the current root next to the versions that wait on a server."""

SIGN_PATH, METADATA_PATH = "/api/v1/metadata/sign", "/api/v1/metadata/"


def read(path: Path) -> Metadata[Any]:
    """Read root or targets.

    Args:
        path: path of the file.

    Returns:
        The metadata; nothing about it is verified.

    Raises:
        Failure: if the file is neither root nor targets.
    """
    try:
        content = path.read_bytes()
        kind = json.loads(content)["signed"]["_type"]
        return roles.parse(Root if kind == Root.type else Targets, content)
    except (OSError, ValueError, KeyError, TypeError, MetadataError) as error:
        raise Failure(f"{path} is neither root nor targets metadata: {error}", code=Exit.USAGE) from error


def _trusted(path: Path) -> Root:
    root = read(path).signed
    if not isinstance(root, Root):
        raise Failure(f"{path} is not root metadata", code=Exit.USAGE)
    return root


def missing(metadata: Metadata[Any], trusted: Root) -> dict[str, int]:
    """Count the missing signatures.

    Args:
        metadata: root or targets.
        trusted: the current root.

    Returns:
        A description of the keys that have to sign, to the number of missing signatures; empty if none is missing.
    """
    role = metadata.signed.type
    asked = {f"{role} of root {trusted.version}": trusted}
    if isinstance(metadata.signed, Root):
        asked[f"root of root {metadata.signed.version}"] = metadata.signed
    found = {}
    for name, root in asked.items():
        result = root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if not result.verified:
            found[name] = result.threshold - len(result.signed)
    return found


def _changes(signed: Root | Targets, trusted: Root) -> str:
    """Describe in one line what is signed."""
    said = f"{signed.type} version {signed.version}, valid until {signed.expires:%Y-%m-%d}"
    if not isinstance(signed, Root):
        return said
    if signed.version == trusted.version:
        return said + "".join(
            f"; {of_role.threshold} of {', '.join(keyid[:SHOWN_KEYID] for keyid in of_role.keyids)} sign {role}"
            for role, of_role in signed.roles.items()
        )
    for role, of_role in signed.roles.items():
        before = set(trusted.roles[role].keyids)
        said += "".join(f"; {role} loses the key {keyid[:SHOWN_KEYID]}" for keyid in sorted(before - set(of_role.keyids)))
        said += "".join(f"; {role} gets the key {keyid[:SHOWN_KEYID]}" for keyid in sorted(set(of_role.keyids) - before))
        if of_role.threshold != trusted.roles[role].threshold:
            said += f"; {of_role.threshold} keys must sign {role} in place of {trusted.roles[role].threshold}"
    return said


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What waits on a server.

    Attributes:
        versions: role to its version, also of the current root (``TRUSTED``).
        missing: role to the signatures that it needs, for people.
        keys: role to the keys that can make them.
    """

    versions: dict[str, Metadata[Any]]
    missing: dict[str, str]
    keys: dict[str, list[Key]]


def _waiting(client: Client) -> _Waiting:
    data = client.request("GET", SIGN_PATH).get("data", {})
    kinds: dict[str, type[Any]] = {"root": Root, "targets": Targets, TRUSTED: Root}
    versions = {role: roles.parse(kinds[role], content) for role, content in data.get("metadata", {}).items() if role in kinds}
    missing, keys = {}, {}
    for role, sets in data.get("missing", {}).items():
        missing[role] = ", ".join(f"{one['count']} more of {', '.join(keyid[:SHOWN_KEYID] for keyid in one['keyids'])}" for one in sets)
        keys[role] = [Key.from_dict(keyid, key) for one in sets for keyid, key in one["keys"].items()]
    return _Waiting(versions, missing, keys)


def _sign_on_server(client: Client, held: Sequence[OfflineKey], *, is_confirmed: bool) -> set[str]:
    """Sign all that waits on a server, and return the keys that signed something."""
    found = _waiting(client)
    waiting = dict(found.versions)
    trusted = waiting.pop(TRUSTED, None) or waiting.get(Root.type)
    if not waiting or trusted is None:
        raise Failure("nothing waits for signatures on the server", f"submit it first: POST {METADATA_PATH} or {BOOTSTRAP_PATH}")
    used: set[str] = set()
    for role, metadata in waiting.items():
        # Targets may have to be signed by keys of an older root too, which only the server's answer has.
        may_sign = [*_keys(metadata.signed, trusted.signed), *found.keys.get(role, ())]
        signers = _signers(held, may_sign)
        used |= {one.name for one, _ in signers}
        new = [(one, key) for one, key in signers if key.keyid not in metadata.signatures]
        if new:
            click.echo(_changes(metadata.signed, trusted.signed))
            if not is_confirmed:
                click.confirm("Sign it?", abort=True)
        for one, key in new:
            if role not in _waiting(client).versions:
                break  # with the last signature it counts, and takes no more
            signature = one.sign(key, metadata.signed_bytes)
            client.request("POST", SIGN_PATH, {"role": role, "signature": signature.to_dict()})
            metadata.signatures[signature.keyid] = signature
    left = _waiting(client).missing
    for role, metadata in waiting.items():
        _tell(metadata, trusted.signed, left=left.get(role, ""))
    return used


def _keys(signed: Root | Targets, trusted: Root) -> list[Key]:
    roots = [trusted, signed] if isinstance(signed, Root) else [trusted]
    return [one.keys[keyid] for one in roots for keyid in one.roles[signed.type].keyids if keyid in one.keys]


def _tell(metadata: Metadata[Any], trusted: Root, file: str = "", left: str = "") -> None:
    left = ", ".join(f"{count} more of {who}" for who, count in missing(metadata, trusted).items()) or left
    click.echo(f"{file}{metadata.signed.type} version {metadata.signed.version}: {left or 'complete'}")


def _signers(held: Sequence[OfflineKey], may_sign: Sequence[Key]) -> list[tuple[OfflineKey, SSlibKey]]:
    return [(one, key) for one in held for key in one.matching(may_sign)]


@dataclass(frozen=True, slots=True)
class _Signed:
    """What one file got.

    Attributes:
        role: the role of the file.
        signatures: the new signatures.
        used: the names of the keys that signed.
    """

    role: str
    signatures: list[dict[str, Any]]
    used: set[str]


def _sign_file(file: Path, trusted: Root, held: Sequence[OfflineKey], *, in_place: bool) -> _Signed:
    """Sign a file, and write the signatures into it if that is wanted."""
    metadata = read(file)
    click.echo(_changes(metadata.signed, trusted))
    signers = _signers(held, _keys(metadata.signed, trusted))
    new = [one.sign(key, metadata.signed_bytes) for one, key in signers]
    metadata.signatures |= {signature.keyid: signature for signature in new}
    if in_place:
        file.write_bytes(metadata.to_bytes())
    _tell(metadata, trusted, f"{file}: ")
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
@click.option("--url", help="URL of a server whose waiting versions are signed, in place of files.")
@header_option
@click.option(
    "--signatures",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signatures to this file, to hand over, and leave FILE unchanged.",
)
@click.option("--yes", is_flag=True, help="Sign what waits on the server without a question.")
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

    For files this needs no network: copy them to the machine that has the key, and back. With --url it signs what waits for signatures on
    a server; the key stays here, and only the signature is sent.
    """
    if bool(files) == bool(url):
        raise Failure("what to sign is missing, or named twice", "name either files, or a server with --url", Exit.USAGE)
    if url and root:
        raise Failure("--root is for files only", "leave it out: the server says which root is the current one", Exit.USAGE)
    if url and signatures:
        raise Failure("--signatures is for files only", "leave it out: the signatures are sent to the server", Exit.USAGE)
    held = [open_offline(name, asker(passphrase_file), path) for name in dict.fromkeys(keys)]
    used: set[str] = set()
    if url:
        used = _sign_on_server(Client(url, header), held, is_confirmed=yes)
    signed = [_sign_file(file, _trusted(root or file.with_name(TRUSTED_ROOT)), held, in_place=signatures is None) for file in files]
    used |= {name for one in signed for name in one.used}
    if signatures is not None and used:
        signatures.write_text(json.dumps({one.role: one.signatures for one in signed}, indent=1))
        click.echo(f"signatures, to hand over: {signatures}")
    if unused := set(keys) - used:
        names = ", ".join(sorted(unused))
        what = "any of these files" if files else "what waits there"
        raise Failure(f"{names} can't sign {what}", "pass the private key of one of the offline keys")
