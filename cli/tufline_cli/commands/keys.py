"""``tufline keys``: creates, shows and proves online keys. Vault is reached with the settings in section ``vault``."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import click
from securesystemslib.signer import Key, SSlibKey

from tufline.clock import utc_now
from tufline.config.loading import load
from tufline.errors import KeyUnavailableError
from tufline.keys.opening import KeyOpener
from tufline.keys.public import SCHEMES, with_uri
from tufline.keys.vault import provision
from tufline.metadata import canonical
from tufline.metadata.key_uris import ONLINE_KEY_URI, VAULT_SCHEME, VaultKeyName
from tufline.runtime.telemetry import configure_logging
from tufline.trust import key_files
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.groups import LazyGroup
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


_OTHER_COMMANDS = MappingProxyType(
    {
        "generate": "key_holders:generate",
        "public": "key_holders:public",
        "retire": "rotate:retire",
        "rotate": "rotate:rotate",
    }
)


@click.group(cls=LazyGroup, places=_OTHER_COMMANDS)
def keys() -> None:
    """Create, show, prove and rotate online keys, and print the signer's policy in Vault."""


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
    click.echo(key_files.to_json([public]))


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
    click.echo(key_files.to_json(found))
    for danger in wrong:
        click.echo(f"warning: {name}: {danger}", err=True)


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def policy(names: tuple[str, ...]) -> None:
    """Print the Vault policy for a signer's keys NAME (<mount>/<key>): it permits signing with them and reading their public parts only."""
    click.echo(provision.policy(_parse(name, 1) for name in names), nl=False)


@keys.command()
@click.argument("uri")
@click.option(
    "--public",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The public key, as tufline keys printed it, for a provider that does not return it.",
)
@config_option
def prove(uri: str, public: Path | None, path: Path | None) -> None:
    """Prove that the online key URI can be used: print its public part, signed with the key itself.

    Run it with the signer's login, where the key can be reached. The ceremony (tufline ceremony, tufline init --online-key) checks the
    proof on a machine that can't reach it, so that a wrong URI, version or policy is found before people sign.
    """
    name = _parse(uri).uri if uri.startswith(VAULT_SCHEME) or ":" not in uri else uri
    passed = None if public is None else key_files.read(public.read_bytes(), utc_now()).key

    async def sign(opener: KeyOpener) -> str:
        key = await opener.public_of(name) if passed is None else with_uri(passed, name)
        opened = await opener.open(str(key.unrecognized_fields[ONLINE_KEY_URI]), key)
        statement = key_files.statement(key, utc_now())
        (signature,) = await opened.sign_many([canonical.encode(statement)])
        return key_files.proof(statement, signature)

    click.echo(with_opener(path, sign))


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

    files: dict[str, Key] = {key: key_files.read(Path(key).read_bytes(), utc_now()).key for key in by_role.values() if Path(key).is_file()}
    uris = {key for key in by_role.values() if key not in files}
    for key in uris:
        if ":" not in key:
            raise Failure(f"{key} is neither a file nor the URI of a key, such as vault:transit/tufline#1", code=Exit.USAGE)

    async def ask(opener: KeyOpener) -> dict[str, Key]:
        return {uri: await opener.public_of(uri) for uri in uris}

    found = files | (with_opener(path, ask) if uris else {})
    chosen = {role: by_role.get(role, by_role.get("")) for role in roles}
    return {role: found[key] for role, key in chosen.items() if key is not None}
