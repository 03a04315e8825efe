"""Opening online keys: the only module that selects a provider by the URI.

``fn:<file>`` is a file in the key directory, ``vault:<mount>/<key>#<version>`` a key in Vault; any other URI is for securesystemslib.
"""

from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from tufline.config.settings import SignerConfig, VaultConfig
from tufline.errors import KeyUnavailableError
from tufline.keys import SigningKey
from tufline.keys.file import open_file_key
from tufline.keys.public import tuf_key, with_uri
from tufline.keys.securesystemslib import TELL_PUBLIC, Pin, Providers
from tufline.keys.vault.key import open_vault_key, read_versions
from tufline.metadata.key_uris import FILE_SCHEME, VAULT_SCHEME, VaultKeyName, file_name

if TYPE_CHECKING:
    from tufline.keys.vault.session import VaultSession


def tells_public(uri: str) -> bool:
    """Return whether the provider of a key returns its public part.

    Args:
        uri: the private key's URI; see the module.
    """
    return uri.startswith((FILE_SCHEME, VAULT_SCHEME)) or uri.partition(":")[0] in TELL_PUBLIC


class KeyOpener:
    """Opens the keys of a process, which share one session with Vault."""

    def __init__(self, signer: SignerConfig, vault: VaultConfig) -> None:
        """Start unconnected; opening a key connects.

        Args:
            signer: has the key directory, and the PIN of a PKCS#11 token.
            vault: has the address of Vault, and the login.
        """
        self._key_dir = signer.key_dir
        self._vault_config = vault
        self._vault: VaultSession | None = None
        self._providers = Providers(Pin(signer.hsm_pin, signer.hsm_pin_file))

    @property
    def vault(self) -> "VaultSession":
        """The session with Vault; created when the first key needs it.

        Raises:
            ConfigError: if hvac is not installed, or a setting that the login needs is missing.
        """
        from tufline.keys.vault.session import VaultSession  # noqa: PLC0415 (only keys in Vault need it)

        if self._vault is None:
            self._vault = VaultSession(self._vault_config)
        return self._vault

    async def open(self, uri: str, public: Key) -> SigningKey:
        """Open a private key, and check that it belongs to the public key in the metadata.

        Args:
            uri: the key's URI; see the module.
            public: the public key from the metadata.

        Returns:
            The key.

        Raises:
            KeyUnavailableError: if the key can't be used.
            ConfigError: if a setting that is needed to reach the provider is missing.
        """
        if uri.startswith(FILE_SCHEME):
            return open_file_key(uri, public, self._key_dir)
        if uri.startswith(VAULT_SCHEME):
            return await open_vault_key(uri, public, self.vault)
        return await self._providers.open(uri, public)

    async def public_of(self, uri: str) -> SSlibKey:
        """Read the public key that belongs to a private key.

        Args:
            uri: the private key's URI; see the module.

        Returns:
            The public key for the metadata, with the URI.

        Raises:
            KeyUnavailableError: if the provider does not return it.
            ConfigError: if a setting that is needed to reach the provider is missing.
        """
        if uri.startswith(FILE_SCHEME):
            return self._public_of_file(uri)
        if uri.startswith(VAULT_SCHEME):
            name = VaultKeyName.parse(uri)
            versions = await read_versions(self.vault, name)
            if name.version not in versions.publics:
                raise KeyUnavailableError(f"the key {name.path} in Vault has no version {name.version}")
            return tuf_key(versions.publics[name.version], uri)
        return await self._providers.public_of(uri)

    def _public_of_file(self, uri: str) -> SSlibKey:
        path = self._key_dir / file_name(uri)
        try:
            return with_uri(CryptoSigner(load_pem_private_key(path.read_bytes(), password=None)).public_key, uri)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyUnavailableError(f"the online key {path} can't be read: {error}") from error

    async def close(self) -> None:
        """End the session with Vault; the opened keys can't be used any more."""
        self._providers.close()
        if self._vault is not None:
            await self._vault.close()
