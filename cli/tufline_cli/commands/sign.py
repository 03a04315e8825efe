"""``tufline sign``: signs root or targets with an offline key, on a machine that needs no network."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from tufline.errors import MetadataError
from tufline.trust import rules
from tufline_cli.exit_codes import Exit, Failure

TRUSTED_ROOT = "trusted-root.json"
"""The current root, next to the files to sign."""


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
        return rules.parse(Root if kind == Root.type else Targets, content)
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


def _load(pem: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Failure(f"{pem} is not an unencrypted private key (PKCS#8 PEM): {error}", code=Exit.USAGE) from error


def _signer(private: PrivateKeyTypes, keys: Iterable[Key]) -> CryptoSigner | None:
    # Compares the keys themselves: the root may use another keyid for this key.
    public = CryptoSigner(private).public_key
    known = next((key for key in keys if key.keyval == public.keyval and key.scheme == public.scheme), None)
    return CryptoSigner(private, known) if isinstance(known, SSlibKey) else None


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE...")
@click.option(
    "--key", "keys", multiple=True, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Private key (PEM)."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help=f"The current root; by default {TRUSTED_ROOT} next to the file.",
)
def sign(files: tuple[Path, ...], keys: tuple[Path, ...], root: Path | None) -> None:
    """Sign root or targets in FILE with offline keys, and print how many signatures are missing.

    This needs no network: copy the files to the machine that has the key, and back.
    """
    loaded = {pem: _load(pem) for pem in keys}
    unused = set(keys)
    for file in files:
        metadata, trusted = read(file), _trusted(root or file.with_name(TRUSTED_ROOT))
        role = metadata.signed.type
        roots = [trusted, metadata.signed] if isinstance(metadata.signed, Root) else [trusted]
        may_sign = [one.keys[keyid] for one in roots for keyid in one.roles[role].keyids if keyid in one.keys]
        for pem, private in loaded.items():
            if signer := _signer(private, may_sign):
                metadata.sign(signer, append=True)
                unused.discard(pem)
        file.write_bytes(metadata.to_bytes())
        left = ", ".join(f"{count} more of {who}" for who, count in missing(metadata, trusted).items())
        click.echo(f"{file}: {role} version {metadata.signed.version}: {left or 'complete'}")
    if unused:
        raise Failure(
            f"{', '.join(map(str, sorted(unused)))} can't sign any of these files", "pass the private key of one of the offline keys"
        )
