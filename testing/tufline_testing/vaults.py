"""Keys in a real Vault, and logins that may use them."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from securesystemslib.signer import SSlibKey

from tufline.config.settings import VaultConfig
from tufline.keys.vault import provision
from tufline.keys.vault.session import VaultSession
from tufline.metadata.key_uris import VaultKeyName
from tufline_testing.servers.vault_server import MOUNT, VaultServer

_numbers = itertools.count(1)


def new_name() -> VaultKeyName:
    """Return a key name that no other test uses."""
    return VaultKeyName(MOUNT, f"key{next(_numbers)}", 1)


def admin_config(server: VaultServer, **settings: Any) -> VaultConfig:
    """Make the configuration of an administrator."""
    return VaultConfig.model_validate(
        {"address": server.url, "auth": "token", "token": server.root_token, "ca_file": server.ca_file} | settings
    )


def signer_config(server: VaultServer, *names: VaultKeyName, ttl: str = "1h", **settings: Any) -> VaultConfig:
    """Make an AppRole with the policy of a signer for these keys, and return its configuration."""
    role, secret_id = server.make_role(provision.policy(names), f"signer{next(_numbers)}", ttl)
    login = {"address": server.url, "role": role, "secret_id": secret_id, "ca_file": server.ca_file}
    return VaultConfig.model_validate(login | settings)


@asynccontextmanager
async def session(config: VaultConfig) -> AsyncIterator[VaultSession]:
    """Open a session during the block."""
    opened = VaultSession(config)
    try:
        yield opened
    finally:
        await opened.close()


async def make_key(server: VaultServer, kind: str = "ecdsa-p256", name: VaultKeyName | None = None) -> tuple[VaultKeyName, SSlibKey]:
    """Create a key as ``tufline keys create`` does."""
    name = name or new_name()
    async with session(admin_config(server)) as admin:
        return name, await provision.create_key(admin, name, kind)
