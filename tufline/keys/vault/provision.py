"""Creating and changing keys in Vault's Transit engine: for operators, never for the signer, whose policy permits none of it.

A key is created so that the private key can't leave Vault: not exportable, no plaintext backup, not deletable, no automatic rotation.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from securesystemslib.signer import SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.keys.public import SCHEMES, tuf_key
from tufline.keys.vault.key import read_versions
from tufline.keys.vault.session import VaultSession
from tufline.metadata.key_uris import VaultKeyName

SAFE: Final[Mapping[str, Any]] = {
    "exportable": False,
    "allow_plaintext_backup": False,
    "deletion_allowed": False,
    "auto_rotate_period": 0,
}
"""The settings that a key must have, with Vault's names."""

DANGERS: Final[Mapping[str, str]] = {
    "exportable": "the private key can be exported",
    "allow_plaintext_backup": "the private key can be backed up in plain text",
    "deletion_allowed": "the key can be deleted",
    "auto_rotate_period": "the key is rotated automatically",
}

SELF_RENEWAL: Final = """\
# Lets the signer's token look itself up and renew itself: only needed if it does not have the policy 'default'.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
"""


async def create_key(session: VaultSession, name: VaultKeyName, kind: str) -> SSlibKey:
    """Create a key.

    Args:
        session: a session with an operator's rights.
        name: the key's name; the version must be 1.
        kind: Transit's type of the key, from ``SCHEMES``.

    Returns:
        The public key for the metadata.

    Raises:
        KeyUnavailableError: if the key already exists, or can't be created.
    """
    if name.version != 1:
        raise KeyUnavailableError(f"a new key has version 1, not {name.version}")

    def make(client: Any) -> bool:
        # Vault silently ignores the creation of a key that already exists.
        transit = client.secrets.transit
        if name.key in _listed(client, name.mount):
            return False
        transit.create_key(
            name.key, key_type=kind, exportable=False, allow_plaintext_backup=False, auto_rotate_period="0", mount_point=name.mount
        )
        return True

    if kind not in SCHEMES:
        raise KeyUnavailableError(f"{kind!r} is not a valid type of key: write {' or '.join(SCHEMES)}")
    if not await session.call(f"create the key {name.path}", make):
        raise KeyUnavailableError(f"the key {name.path} already exists: choose another name, or run tufline keys show {name.path}")
    return (await public_keys(session, name))[1]


def _listed(client: Any, mount: str) -> list[str]:
    from hvac.exceptions import InvalidPath  # noqa: PLC0415 (only there with hvac)

    try:
        return list(client.secrets.transit.list_keys(mount_point=mount)["data"]["keys"])
    except InvalidPath as error:
        if "no handler" in str(error):
            raise
        return []


async def public_keys(session: VaultSession, name: VaultKeyName) -> dict[int, SSlibKey]:
    """Read the public keys of all versions of a key.

    Args:
        session: a session with the right to read the key.
        name: the key's name; the version is ignored.

    Returns:
        Version to public key for the metadata.

    Raises:
        KeyUnavailableError: if the key can't be read.
    """
    versions = await read_versions(session, name)
    return {version: tuf_key(public, VaultKeyName(name.mount, name.key, version).uri) for version, public in versions.publics.items()}


async def dangers(session: VaultSession, name: VaultKeyName) -> list[str]:
    """List the dangerous settings of a key.

    Args:
        session: a session with the right to read the key.
        name: the key's name; the version is ignored.

    Returns:
        A description of each danger.

    Raises:
        KeyUnavailableError: if the key can't be read.
    """
    settings = (await read_versions(session, name)).settings
    return [DANGERS[setting] for setting, safe in SAFE.items() if settings.get(setting, safe) != safe]


async def new_version(session: VaultSession, name: VaultKeyName) -> tuple[VaultKeyName, SSlibKey]:
    """Create the next version of a key. The signer keeps signing with the version that the metadata names.

    Args:
        session: a session with an operator's rights.
        name: the key's name; the version is ignored.

    Returns:
        The new version's name, and its public key for the metadata.

    Raises:
        KeyUnavailableError: if the version can't be created.
    """
    await session.call(
        f"create a new version of {name.path}", lambda client: client.secrets.transit.rotate_key(name.key, mount_point=name.mount)
    )
    publics = await public_keys(session, name)
    newest = max(publics)
    return VaultKeyName(name.mount, name.key, newest), publics[newest]


async def forbid_below(session: VaultSession, name: VaultKeyName) -> None:
    """Forbid signing with versions of a key below this one.

    Args:
        session: a session with an operator's rights.
        name: the key's name, with the oldest version that may sign.

    Raises:
        KeyUnavailableError: if the setting can't be changed.
    """
    await session.call(
        f"set min_encryption_version of {name.path}",
        lambda client: client.secrets.transit.update_key_configuration(
            name.key, min_encryption_version=name.version, mount_point=name.mount
        ),
    )


def policy(names: Iterable[VaultKeyName]) -> str:
    """Write the policy of a signer, which permits signing with its keys and reading their public keys, and nothing else.

    Args:
        names: the names of the keys; versions are ignored.

    Returns:
        The policy, in HCL.
    """
    paths = []
    for mount, key in dict.fromkeys((name.mount, name.key) for name in names):
        paths += [
            f'# sign with {mount}/{key}\npath "{mount}/sign/{key}" {{\n  capabilities = ["update"]\n}}\n',
            f'# read its public key\npath "{mount}/keys/{key}" {{\n  capabilities = ["read"]\n}}\n',
        ]
    return "".join([*paths, SELF_RENEWAL])
