"""``tufline keys generate`` and ``tufline keys public``: the key of a person who signs root or targets."""

from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SSlibKey

from tufline.config.loading import load
from tufline.keys import PROBE
from tufline.keys.offline import AskPassphrase, FileKey, OfflineKey, ProviderHeldKey
from tufline.keys.opening import KeyOpener
from tufline.runtime.telemetry import configure_logging
from tufline.trust import ceremony, key_files
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option
from tufline_cli.passphrases import asker, new_passphrase, passphrase_file_option, unencrypted_option
from tufline_cli.trust_options import scheme_option

PUBLIC_SUFFIX = ".pub.json"
"""The suffix of a public key's file; the name is otherwise that of the private key's file."""


def open_offline(name: str, ask: AskPassphrase, path: Path | None) -> OfflineKey:
    """Open the key of a person.

    Args:
        name: a file with a private key, or the URI of one.
        ask: returns the passphrase of an encrypted file.
        path: path of a TOML file with settings; see ``tufline.config.loading.load``.

    Returns:
        The key.

    Raises:
        Failure: if it is neither a file nor a URI.
        KeyUnavailableError: if it can't be used.
    """
    if Path(name).is_file():
        return FileKey(Path(name), ask)
    if ":" not in name:
        raise Failure(f"{name} is neither a file with a private key nor the URI of one, such as hsm:1?label=token", code=Exit.USAGE)
    config, _ = load(path)
    configure_logging(config.log.model_copy(update={"level": "warning"}))
    return ProviderHeldKey(name, lambda: KeyOpener(config.signer, config.vault))


def write_public(public: SSlibKey, out: Path) -> None:
    """Write a public key to hand over, without the URI of the private key.

    Args:
        public: the public key.
        out: the file, which must not exist.
    """
    with out.open("x") as file:
        file.write(key_files.to_json([key_files.plain(public)]) + "\n")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@scheme_option
@passphrase_file_option
@unencrypted_option
def generate(file: Path, scheme: str, passphrase_file: Path | None, unencrypted: bool) -> None:
    """Make your own key for root or targets: the private key in FILE, encrypted, and the public key next to it.

    Keep FILE to yourself, and hand over only the public key (FILE with .pub.json in place of its suffix). Nothing is overwritten.
    """
    public = file.with_suffix(PUBLIC_SUFFIX)
    if file.exists() or public.exists():
        raise Failure(f"{file if file.exists() else public} exists", "choose another name: keys are never overwritten", Exit.USAGE)
    made = ceremony.make_key(scheme)
    ceremony.write_private(file, made.encrypted(new_passphrase(passphrase_file, unencrypted=unencrypted)))
    write_public(made.signer.public_key, public)
    click.echo(f"private key, for you alone: {file}")
    click.echo(f"public key, to hand over: {public} (keyid {made.signer.public_key.keyid})")


def _from_pem(pem: Path) -> SSlibKey:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem.read_bytes()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Failure(f"{pem} is not a public key (PEM): {error}", code=Exit.USAGE) from error


@click.command()
@click.argument("key")
@click.option(
    "--pem",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The public key as PEM, for a provider that does not return it.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="New file for the public key; by default it is printed.")
@passphrase_file_option
@config_option
def public(key: str, pem: Path | None, out: Path | None, passphrase_file: Path | None, path: Path | None) -> None:
    """Export the public part of KEY, your own key for root or targets: a private key's file, or a URI.

    A URI names a key on a PKCS#11 token (hsm:1?label=token), in a KMS (awskms:, gcpkms:, azurekms:), in Vault, or with any other provider
    of securesystemslib. The key signs once, to show that it can be used.
    """
    held = open_offline(key, asker(passphrase_file), path)
    from_pem = None if pem is None else _from_pem(pem)
    if isinstance(held, FileKey):
        found = held.public
    elif from_pem is not None:
        found = from_pem
    else:
        assert isinstance(held, ProviderHeldKey)
        found = held.public()
    if from_pem is not None and not key_files.plain(from_pem).keyid == key_files.plain(found).keyid:
        raise Failure(f"{pem} is not the public part of {key}", "leave --pem out: the file has the public key too", Exit.USAGE)
    held.sign(found, PROBE)
    if out is None:
        click.echo(key_files.to_json([key_files.plain(found)]))
    else:
        write_public(found, out)
        click.echo(f"public key, to hand over: {out} (keyid {key_files.plain(found).keyid})")
