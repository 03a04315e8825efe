"""Making and changing keys in Vault's Transit engine: for operators, never for the signer, whose policy permits none of it.

A key is made so that its private part can't leave Vault: not exportable, no backup in plain text, not deletable, never rotated by itself.
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
"""Settings of a key that must be so, as Vault says them."""

DANGERS: Final[Mapping[str, str]] = {
    "exportable": "its private part can be exported",
    "allow_plaintext_backup": "its private part can be backed up in plain text",
    "deletion_allowed": "it can be deleted",
    "auto_rotate_period": "it is rotated by itself",
}

SELF_RENEWAL: Final = """\
# The signer's token looks at itself and renews itself: only needed where it has no policy 'default'.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
"""


async def create_key(session: VaultSession, name: VaultKeyName, kind: str) -> SSlibKey:
    """Make a key.

    Args:
        session: of somebody who may.
        name: where; its version must be 1.
        kind: Transit's type, of ``SCHEMES``.

    Returns:
        Its public part as the metadata are to have it.

    Raises:
        KeyUnavailableError: if it is there already, or can't be made.
    """
    if name.version != 1:
        raise KeyUnavailableError(f"a new key has version 1, not {name.version}")

    def make(client: Any) -> bool:
        # To make a key that is there already changes nothing and says nothing.
        transit = client.secrets.transit
        if name.key in _listed(client, name.mount):
            return False
        transit.create_key(
            name.key, key_type=kind, exportable=False, allow_plaintext_backup=False, auto_rotate_period="0", mount_point=name.mount
        )
        return True

    if kind not in SCHEMES:
        raise KeyUnavailableError(f"{kind!r} is no type of a key: write {' or '.join(SCHEMES)}")
    if not await session.call(f"make the key {name.path}", make):
        raise KeyUnavailableError(f"there is a key {name.path} already: choose another name, or see it with tufline keys show {name.path}")
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
    """Read the public parts of all versions of a key.

    Args:
        session: of somebody who may.
        name: of the key; its version does not count.

    Returns:
        Version to key, as the metadata are to have it.

    Raises:
        KeyUnavailableError: if it can't be read.
    """
    versions = await read_versions(session, name)
    return {version: tuf_key(public, VaultKeyName(name.mount, name.key, version).uri) for version, public in versions.publics.items()}


async def dangers(session: VaultSession, name: VaultKeyName) -> list[str]:
    """Say what is wrong with a key's settings.

    Args:
        session: of somebody who may.
        name: of the key; its version does not count.

    Returns:
        Each danger in words.

    Raises:
        KeyUnavailableError: if it can't be read.
    """
    settings = (await read_versions(session, name)).settings
    return [DANGERS[setting] for setting, safe in SAFE.items() if settings.get(setting, safe) != safe]


async def new_version(session: VaultSession, name: VaultKeyName) -> tuple[VaultKeyName, SSlibKey]:
    """Make the next version of a key. What is pinned to another goes on signing with that.

    Args:
        session: of somebody who may.
        name: of the key; its version does not count.

    Returns:
        The new version, and its public part as the metadata are to have it.

    Raises:
        KeyUnavailableError: if it can't be made.
    """
    await session.call(
        f"make a new version of {name.path}", lambda client: client.secrets.transit.rotate_key(name.key, mount_point=name.mount)
    )
    publics = await public_keys(session, name)
    newest = max(publics)
    return VaultKeyName(name.mount, name.key, newest), publics[newest]


async def forbid_below(session: VaultSession, name: VaultKeyName) -> None:
    """Let no version of a key below this one sign any more.

    Args:
        session: of somebody who may.
        name: of the key, with the oldest version that may sign.

    Raises:
        KeyUnavailableError: if it can't be set.
    """
    await session.call(
        f"set min_encryption_version of {name.path}",
        lambda client: client.secrets.transit.update_key_configuration(
            name.key, min_encryption_version=name.version, mount_point=name.mount
        ),
    )


def policy(names: Iterable[VaultKeyName]) -> str:
    """Write the policy of a signer: to sign with its keys, to read their public parts, and nothing else.

    Args:
        names: of the keys; versions do not count.

    Returns:
        The policy, in HCL.
    """
    paths = []
    for mount, key in dict.fromkeys((name.mount, name.key) for name in names):
        paths += [
            f'# sign with {mount}/{key}\npath "{mount}/sign/{key}" {{\n  capabilities = ["update"]\n}}\n',
            f'# read its public part\npath "{mount}/keys/{key}" {{\n  capabilities = ["read"]\n}}\n',
        ]
    return "".join([*paths, SELF_RENEWAL])
