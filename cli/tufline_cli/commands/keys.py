"""``tufline keys``: keys in Vault, as an operator makes them and looks at them. They are reached as section ``vault`` says."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from securesystemslib.signer import Key, SSlibKey

from tufline.config.settings import load
from tufline.errors import KeyUnavailableError, MetadataError
from tufline.keys.opening import KeyOpener
from tufline.keys.public import SCHEMES
from tufline.keys.vault import provision
from tufline.metadata.key_uris import VAULT_SCHEME, VaultKeyName
from tufline.runtime.telemetry import configure_logging
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option

T = TypeVar("T")

name_argument = click.argument("name")


def _parse(name: str, version: int | None = None) -> VaultKeyName:
    return VaultKeyName.parse(name if name.startswith(VAULT_SCHEME) else f"{VAULT_SCHEME}{name}", version)


def with_opener(path: Path | None, work: Callable[[KeyOpener], Awaitable[T]]) -> T:
    """Do something with keys as they are configured.

    Args:
        path: of a TOML file; see ``config.load``.
        work: what to do.

    Returns:
        What it returns.
    """
    config, _ = load(path)
    configure_logging(config.log.model_copy(update={"level": "warning"}))

    async def run() -> T:
        opener = KeyOpener(config.signer, config.vault)
        try:
            return await work(opener)
        finally:
            await opener.close()

    return asyncio.run(run())


def to_json(keys: Iterable[Key]) -> str:
    """Write keys as they stand in metadata: keyid to key object.

    Args:
        keys: to write.

    Returns:
        JSON.
    """
    return json.dumps({key.keyid: key.to_dict() for key in keys}, indent=1)


def read_key(text: str) -> Key:
    """Read what ``to_json`` wrote of one key.

    Args:
        text: JSON.

    Returns:
        The key.

    Raises:
        MetadataError: if it is not one key.
    """
    try:
        content: dict[str, dict[str, Any]] = json.loads(text)
        ((keyid, of_key),) = content.items()
        return Key.from_dict(keyid, of_key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetadataError(f"it has to be one key as 'tufline keys show' prints it: {error}") from error


@click.group()
def keys() -> None:
    """Online keys: make them in Vault, look at them, write the signer's policy, and change them."""


@keys.command()
@name_argument
@click.option(
    "--type", "kind", type=click.Choice(list(SCHEMES)), default="ecdsa-p256", show_default=True, help="P-256 sends Vault hashes only."
)
@config_option
def create(name: str, kind: str, path: Path | None) -> None:
    """Make the key NAME (<mount>/<key>) in Vault, and print its public part as metadata have it.

    Its private part can't be exported, backed up in plain text or deleted, and it is not rotated by itself. This needs a login that may
    make keys; the signer's may not.
    """
    public = with_opener(path, lambda opener: provision.create_key(opener.vault, _parse(name, 1), kind))
    click.echo(to_json([public]))


@keys.command()
@name_argument
@config_option
def show(name: str, path: Path | None) -> None:
    """Print the public parts of the key NAME as metadata have them: <mount>/<key> for all versions, or any URI.

    What is wrong with the key's settings is said on standard error.
    """
    is_vaults = name.startswith(VAULT_SCHEME) or ":" not in name

    async def look(opener: KeyOpener) -> tuple[list[SSlibKey], list[str]]:
        if not is_vaults:
            return [await opener.public_of(name)], []
        parsed = _parse(name, 1)
        publics = await provision.public_keys(opener.vault, parsed)
        if "#" in name:
            if parsed.version not in publics:
                raise KeyUnavailableError(f"the key {parsed.path} in Vault has no version {parsed.version}")
            publics = {parsed.version: publics[parsed.version]}
        return list(publics.values()), await provision.dangers(opener.vault, parsed)

    found, wrong = with_opener(path, look)
    click.echo(to_json(found))
    for danger in wrong:
        click.echo(f"warning: {name}: {danger}", err=True)


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def policy(names: tuple[str, ...]) -> None:
    """Print the policy of a signer that has the keys NAME (<mount>/<key>): to sign with them, to read their public parts, and no more."""
    click.echo(provision.policy(_parse(name, 1) for name in names), nl=False)


def online_keys(given: tuple[str, ...], roles: tuple[str, ...], path: Path | None) -> dict[str, Key]:
    """Read the options ``--online-key``.

    Args:
        given: each ``[ROLE=]KEY``, where KEY is an URI, or a file as ``tufline keys`` prints it.
        roles: that may have an online key.
        path: of a TOML file; see ``config.load``.

    Returns:
        Role to public key, for all roles if any was given without a role.

    Raises:
        Failure: if a role is none, or is given twice, or a file can't be read.
    """
    by_role: dict[str, str] = {}
    for one in given:
        role, separator, key = one.partition("=")
        role, key = (role, key) if separator and ":" not in role and "/" not in role else ("", one)
        if role and role not in roles:
            raise Failure(f"{role!r} has no online key: {', '.join(roles)} have", code=Exit.USAGE)
        if role in by_role:
            raise Failure(f"--online-key is given twice for {role or 'all roles'}", code=Exit.USAGE)
        by_role[role] = key

    files = {key: read_key(Path(key).read_text()) for key in by_role.values() if Path(key).is_file()}
    uris = {key for key in by_role.values() if key not in files}
    for key in uris:
        if ":" not in key:
            raise Failure(f"{key} is neither a file nor the URI of a key, such as vault:transit/tufline#1", code=Exit.USAGE)

    async def ask(opener: KeyOpener) -> dict[str, Key]:
        return {uri: await opener.public_of(uri) for uri in uris}

    found = files | (with_opener(path, ask) if uris else {})
    chosen = {role: by_role.get(role, by_role.get("")) for role in roles}
    return {role: found[key] for role, key in chosen.items() if key is not None}
