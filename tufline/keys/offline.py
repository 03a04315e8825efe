"""Private keys with which people sign: in encrypted files, on tokens, in a KMS.

A key is named by a file or by a URI of a provider (see ``tufline.keys.opening``). It makes one signature for each keyid that the metadata
has for it: two consecutive roots may list the same key under different keyids.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import CryptoSigner, Key, Signature, SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.keys import PROBE, SigningKey
from tufline.keys.opening import KeyOpener, tells_public

AskPassphrase = Callable[[Path], str]
"""Returns the passphrase of a file."""

MIN_PASSPHRASE: Final = 12
"""The shortest passphrase of a new file, in characters: an attacker who copies the file can try many thousands of them per second."""


class OfflineKey(Protocol):
    """A private key with which a person signs."""

    @property
    def name(self) -> str:
        """The file or URI, for messages."""

    def matching(self, keys: Iterable[Key]) -> list[SSlibKey]:
        """Return the public keys that this private key belongs to.

        Args:
            keys: public keys from metadata.

        Raises:
            KeyUnavailableError: if the key can't be used.
        """

    def sign(self, key: SSlibKey, payload: bytes) -> Signature:
        """Sign.

        Args:
            key: one of ``matching``.
            payload: the bytes to sign.

        Returns:
            The signature, with the keyid of ``key``.

        Raises:
            KeyUnavailableError: if the key can't be used.
        """


def same(key: Key, other: Key) -> bool:
    """Return whether two key objects have the same public key, whatever their keyids and other fields.

    Args:
        key: a public key.
        other: a public key.
    """
    return key.keyval.get("public") == other.keyval.get("public") and key.scheme == other.scheme


def load(path: Path, ask: AskPassphrase) -> PrivateKeyTypes:
    """Read a private key.

    Args:
        path: a file with a PKCS#8 PEM.
        ask: called if the file is encrypted.

    Returns:
        The private key.

    Raises:
        KeyUnavailableError: if it is not a private key, or the passphrase is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(f"{path} can't be read: {error.strerror}") from error
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        passphrase = ask(path)  # cryptography raises this error if the key is encrypted
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"{path} is not a private key (PKCS#8 PEM): {error}") from error
    try:
        return load_pem_private_key(content, password=passphrase.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"{path} can't be decrypted: the passphrase is wrong, or the file is damaged") from error


class FileKey:
    """A private key in a file."""

    def __init__(self, path: Path, ask: AskPassphrase) -> None:
        """Read the key.

        Args:
            path: a file with a PKCS#8 PEM.
            ask: called if the file is encrypted.

        Raises:
            KeyUnavailableError: if it can't be used.
        """
        self.name = str(path)
        self._private = load(path, ask)
        try:
            self.public = CryptoSigner(self._private).public_key
        except (SecuresystemslibError, ValueError) as error:
            raise KeyUnavailableError(f"{path} has a key of a type that TUF metadata can't use: {error}") from error

    def matching(self, keys: Iterable[Key]) -> list[SSlibKey]:
        """Return the public keys that this private key belongs to; see ``OfflineKey``."""
        return _distinct(key for key in keys if same(key, self.public))

    def sign(self, key: SSlibKey, payload: bytes) -> Signature:
        """Sign; see ``OfflineKey``."""
        return CryptoSigner(self._private, key).sign(payload)


class ProviderHeldKey:
    """A private key of a provider. Each use opens it again, as people sign only a few times a year."""

    def __init__(self, uri: str, make_opener: Callable[[], KeyOpener]) -> None:
        """Store the URI; each use of the key connects.

        Args:
            uri: the key's URI; see ``tufline.keys.opening``.
            make_opener: makes an opener with the configured access.
        """
        self.name = uri
        self._make_opener = make_opener

    def public(self) -> SSlibKey:
        """Read the public key, with the URI.

        Raises:
            KeyUnavailableError: if the provider does not return it.
        """

        async def run() -> SSlibKey:
            opener = self._make_opener()
            try:
                return await opener.public_of(self.name)
            finally:
                await opener.close()

        return asyncio.run(run())

    def matching(self, keys: Iterable[Key]) -> list[SSlibKey]:
        """Return the public keys that this private key belongs to; see ``OfflineKey``.

        If the provider does not return the public key, it is asked to sign a probe for each of ``keys``.
        """
        if tells_public(self.name):
            public = self.public()
            return _distinct(key for key in keys if same(key, public))
        found, last_error = [], None
        for key in _distinct(keys):
            try:
                self.sign(key, PROBE)
                found.append(key)
            except KeyUnavailableError as error:
                last_error = error
        if not found and last_error is not None:
            raise last_error
        return found

    def sign(self, key: SSlibKey, payload: bytes) -> Signature:
        """Sign; see ``OfflineKey``."""

        async def run() -> Signature:
            opener = self._make_opener()
            try:
                opened: SigningKey = await opener.open(self.name, key)
                (entry,) = await opened.sign_many([payload])
                return Signature(entry.keyid, entry.sig)
            finally:
                await opener.close()

        return asyncio.run(run())


def _distinct(keys: Iterable[Key]) -> list[SSlibKey]:
    return list({key.keyid: key for key in keys if isinstance(key, SSlibKey)}.values())
