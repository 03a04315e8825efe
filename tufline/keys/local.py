"""Online keys through securesystemslib's signers: a file, and what else it has an URI scheme for.

``fn:<file>`` is RSTUF's name for a key in a file of the key directory: an unencrypted PKCS#8 PEM. Any other URI goes to securesystemslib
(``file2:``, and ``awskms:``, ``gcpkms:``, ``hsm:`` where their libraries are installed).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.keys import SigningKey
from tufline.metafile import SignatureEntry, is_signed_by

FILE_SCHEME: Final = "fn:"

SLICE_SIGNATURES: Final = 16
SLICE_BYTES: Final = 2_000_000
"""How much is signed before the event loop has its turn: a few milliseconds of work."""


class LocalKey:
    """A key that this process asks for one signature after the other."""

    def __init__(self, public: Key, sign: Callable[[bytes], str]) -> None:
        """Hold a key.

        Args:
            public: the public key as the metadata has it.
            sign: makes a signature, in hexadecimal, with its private part.
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
            KeyUnavailableError: if it could not be made.
        """
        keyid = self.public.keyid
        try:
            signature = SignatureEntry(keyid, self._sign(payload))
        except (SecuresystemslibError, ValueError, OSError) as error:
            raise KeyUnavailableError(f"the key {keyid[:12]} did not sign: {error}") from error
        if not is_signed_by(self.public, signature, payload):
            raise KeyUnavailableError(f"the key {keyid[:12]} gave a signature that its public part does not verify: is it another key?")
        return signature


def _load_file(name: str, public: Key, key_dir: Path) -> Callable[[bytes], str]:
    if not name or "/" in name or name.startswith("."):
        raise KeyUnavailableError(f"'{FILE_SCHEME}{name}' does not name a file in the key directory {key_dir}")
    path = key_dir / name
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyUnavailableError(f"the online key {path} can't be read ({error.strerror}): put it there, or set signer.key_dir") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"the online key {path} is not an unencrypted PKCS#8 PEM: {error}") from error
    # The two usual schemes directly: securesystemslib's signer copies its arguments deeply each time, which costs as much as signing.
    if isinstance(private, Ed25519PrivateKey) and public.scheme == "ed25519":
        return lambda payload: private.sign(payload).hex()
    if isinstance(private, EllipticCurvePrivateKey) and public.scheme == "ecdsa-sha2-nistp256":
        algorithm = ECDSA(SHA256())
        return lambda payload: private.sign(payload, algorithm).hex()
    if not isinstance(public, SSlibKey):
        raise KeyUnavailableError(f"the online key {path} has the type {public.keytype!r}, which no key in a file has")
    try:
        return _sign_with(CryptoSigner(private, public))
    except (SecuresystemslibError, ValueError) as error:
        raise KeyUnavailableError(f"the online key {path} can't sign with the scheme {public.scheme!r}: {error}") from error


def _sign_with(signer: Signer) -> Callable[[bytes], str]:
    return lambda payload: str(signer.sign(payload).signature)


def open_key(uri: str, public: Key, key_dir: Path) -> SigningKey:
    """Open a private key, and make sure that it is the one whose public part the metadata has.

    Args:
        uri: where it is; see the module.
        public: its public part.
        key_dir: directory of ``fn:`` keys.

    Returns:
        The key.

    Raises:
        KeyUnavailableError: if it can't be used.
    """
    if uri.startswith(FILE_SCHEME):
        key = LocalKey(public, _load_file(uri.removeprefix(FILE_SCHEME), public, key_dir))
    else:
        try:
            key = LocalKey(public, _sign_with(Signer.from_priv_key_uri(uri, public)))
        except (SecuresystemslibError, ValueError, OSError, ImportError) as error:
            raise KeyUnavailableError(f"the online key {uri!r} can't be opened: {error}") from error
    key.sign(b"tufline: is this the key?")
    return key
