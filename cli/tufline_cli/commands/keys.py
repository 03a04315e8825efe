"""``tufline keys``: creates and shows keys in Vault, which is reached with the settings in section ``vault``."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from securesystemslib.signer import Key, SSlibKey

from tufline.config.loading import load
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
    """Run a coroutine with an opener of the configured keys.

    Args:
        path: path of a TOML file with settings; see ``tufline.config.loading.load``.
        work: the coroutine function, which receives the opener.

    Returns:
        The result of ``work``.
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
    """Encode public keys as in metadata: keyid to key object.

    Args:
        keys: the public keys.

    Returns:
        JSON.
    """
    return json.dumps({key.keyid: key.to_dict() for key in keys}, indent=1)


def read_key(text: str) -> Key:
    """Read a public key that ``to_json`` wrote.

    Args:
        text: JSON of exactly one key.

    Returns:
        The key.

    Raises:
        MetadataError: if it is not the JSON of one key.
    """
    try:
        content: dict[str, dict[str, Any]] = json.loads(text)
        ((keyid, of_key),) = content.items()
        return Key.from_dict(keyid, of_key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetadataError(f"expected one key as 'tufline keys show' prints it: {error}") from error


@click.group()
def keys() -> None:
    """Create, show and rotate online keys, and print the signer's policy in Vault."""


@keys.command()
@name_argument
@click.option(
    "--type",
    "kind",
    type=click.Choice(list(SCHEMES)),
    default="ecdsa-p256",
    show_default=True,
    help="With P-256 only hashes are sent to Vault.",
)
@config_option
def create(name: str, kind: str, path: Path | None) -> None:
    """Create the key NAME (<mount>/<key>) in Vault, and print its public part as in metadata.

    Its private part can't be exported, backed up in plain text or deleted, and Vault does not rotate it automatically. This needs a login
    that may create keys; the signer's may not.
    """
    public = with_opener(path, lambda opener: provision.create_key(opener.vault, _parse(name, 1), kind))
    click.echo(to_json([public]))


@keys.command()
@name_argument
@config_option
def show(name: str, path: Path | None) -> None:
    """Print the public parts of the key NAME as in metadata: <mount>/<key> for all versions, or any URI.

    Dangerous settings of the key are reported on standard error.
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
    """Print the Vault policy of a signer with the keys NAME (<mount>/<key>): it may sign with them and read their public parts, no more."""
    click.echo(provision.policy(_parse(name, 1) for name in names), nl=False)


def online_keys(given: tuple[str, ...], roles: tuple[str, ...], path: Path | None) -> dict[str, Key]:
    """Read the options ``--online-key``.

    Args:
        given: options ``[ROLE=]KEY``, where KEY is a URI, or a file as ``tufline keys`` prints it.
        roles: the roles that may have an online key.
        path: path of a TOML file with settings; see ``tufline.config.loading.load``.

    Returns:
        Role to public key; all roles if one option has no role.

    Raises:
        Failure: if a role has no online key or is listed twice, or a key is neither a file nor a URI.
    """
    by_role: dict[str, str] = {}
    for one in given:
        role, separator, key = one.partition("=")
        role, key = (role, key) if separator and ":" not in role and "/" not in role else ("", one)
        if role and role not in roles:
            raise Failure(f"{role!r} can't have an online key: the roles that can are {', '.join(roles)}", code=Exit.USAGE)
        if role in by_role:
            raise Failure(f"--online-key was set twice for {role or 'all roles'}", code=Exit.USAGE)
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
