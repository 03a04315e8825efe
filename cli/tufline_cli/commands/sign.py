"""``tufline sign``: an offline key's signature on root or targets, on a machine that need not reach anything."""

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
"""Beside the files to sign: the root that is trusted now."""


def read(path: Path) -> Metadata[Any]:
    """Read root or targets.

    Args:
        path: of the file.

    Returns:
        The metadata; nothing about it is verified.

    Raises:
        Failure: if it is neither.
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
    """Say how many signatures are missing.

    Args:
        metadata: root or targets.
        trusted: the root that is trusted now.

    Returns:
        Who has to sign to how many more signatures that takes; empty if none is missing.
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
    # By the key itself: whoever made the root may have given it another keyid.
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
    help=f"The root that is trusted now; by default {TRUSTED_ROOT} beside the file.",
)
def sign(files: tuple[Path, ...], keys: tuple[Path, ...], root: Path | None) -> None:
    """Sign root or targets in FILE with offline keys, and say how many signatures are missing.

    It reaches nothing: take the files to the machine that has the key, and back.
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
        raise Failure(f"{', '.join(map(str, sorted(unused)))} may sign none of this", "give the private key of one of the offline keys")
