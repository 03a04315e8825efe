"""Online keys in files: ``fn:<file>`` is RSTUF's notation for a file in the key directory that has an unencrypted PKCS#8 PEM key."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.keys import PROBE
from tufline.keys.verifying import SLICE_BYTES, SLICE_SIGNATURES, verify
from tufline.metadata.envelope import SignatureEntry
from tufline.metadata.key_uris import file_name


class LocalKey:
    """A key that makes its signatures in this process, one after another."""

    is_probed = True

    def __init__(self, public: Key, sign: Callable[[bytes], str]) -> None:
        """Hold a key.

        Args:
            public: the public key from the metadata.
            sign: makes a signature with the private key, in hexadecimal.
        """
        self.public = public
        self._sign = sign

    async def sign_many(self, payloads: Sequence[bytes]) -> list[SignatureEntry]:
        """Sign payloads; see ``SigningKey.sign_many``."""
        signatures: list[SignatureEntry] = []
        sliced = 0
        for count, payload in enumerate(payloads, 1):
            signatures.append(self.sign(payload))
            sliced += len(payload)
            if count % SLICE_SIGNATURES == 0 or sliced > SLICE_BYTES:
                sliced = 0
                await asyncio.sleep(0)
        return signatures

    def sign(self, payload: bytes) -> SignatureEntry:
        """Sign one payload, and verify the signature.

        Args:
            payload: the bytes to sign.

        Returns:
            The signature.

        Raises:
            KeyUnavailableError: if the signature could not be made, or is not valid.
        """
        keyid = self.public.keyid
        try:
            signature = SignatureEntry(keyid, self._sign(payload))
        except (SecuresystemslibError, ValueError, OSError) as error:
            raise KeyUnavailableError(f"the key {keyid[:12]} can't sign: {error}") from error
        verify(self.public, signature, payload)
        return signature


def _load_file(name: str, public: Key, key_dir: Path) -> Callable[[bytes], str]:
    path = key_dir / name
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyUnavailableError(f"the online key {path} can't be read ({error.strerror}): put it there, or set signer.key_dir") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"the online key {path} is not an unencrypted PKCS#8 PEM: {error}") from error
    # The two usual schemes sign directly: securesystemslib's signer makes deep copies each time, which costs as much as signing.
    if isinstance(private, Ed25519PrivateKey) and public.scheme == "ed25519":
        return lambda payload: private.sign(payload).hex()
    if isinstance(private, EllipticCurvePrivateKey) and public.scheme == "ecdsa-sha2-nistp256":
        algorithm = ECDSA(SHA256())
        return lambda payload: private.sign(payload, algorithm).hex()
    if not isinstance(public, SSlibKey):
        raise KeyUnavailableError(f"the online key {path} has the type {public.keytype!r} in the metadata, which can't be kept in a file")
    try:
        signer = CryptoSigner(private, public)
    except (SecuresystemslibError, ValueError) as error:
        raise KeyUnavailableError(f"the online key {path} can't sign with the scheme {public.scheme!r}: {error}") from error
    return lambda payload: str(signer.sign(payload).signature)


def open_file_key(uri: str, public: Key, key_dir: Path) -> LocalKey:
    """Open a private key in a file, and check that it belongs to the public key in the metadata.

    Args:
        uri: ``fn:<file>``.
        public: the public key from the metadata.
        key_dir: the key directory.

    Returns:
        The key.

    Raises:
        KeyUnavailableError: if the key can't be used.
    """
    key = LocalKey(public, _load_file(file_name(uri), public, key_dir))
    key.sign(PROBE)
    return key
