"""Public keys as Vault gives them, and as TUF metadata have them. Pure."""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import with_fields

P256: Final = "ecdsa-sha2-nistp256"
ED25519: Final = "ed25519"

SCHEMES: Final[Mapping[str, str]] = MappingProxyType({"ecdsa-p256": P256, "ed25519": ED25519})
"""Transit's type of a key to the scheme that TUF calls it by."""

_PEM: Final = "-----BEGIN"


def tuf_key(public: str, uri: str) -> SSlibKey:
    """Make the key object of the metadata.

    Args:
        public: as Vault gives it: PEM, or for Ed25519 the 32 bytes in base64.
        uri: where the signer finds the private part.

    Returns:
        The key, with its keyid and the URI.

    Raises:
        KeyUnavailableError: if it is no public key of P-256 or Ed25519.
    """
    return with_uri(SSlibKey.from_crypto(_load(public)), uri)


def with_uri(key: SSlibKey, uri: str) -> SSlibKey:
    """Say in a key object where the signer finds the private part.

    Args:
        key: unchanged.
        uri: to say.

    Returns:
        The key with the URI, and a keyid that covers it.
    """
    return with_fields(key, **{ONLINE_KEY_URI: uri})


def same_public(key: Key, public: str) -> bool:
    """Say whether a key of the metadata is the one that Vault has.

    Args:
        key: of the metadata.
        public: as Vault gives it.

    Raises:
        KeyUnavailableError: if Vault's is no public key of P-256 or Ed25519.
    """
    ours, theirs = key.keyval.get("public"), SSlibKey.from_crypto(_load(public)).keyval.get("public")
    if key.scheme == ED25519:
        return str(ours).lower() == theirs
    try:
        # The same key may stand in PEM with other line ends.
        return load_pem_public_key(str(ours).encode()) == load_pem_public_key(str(theirs).encode())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _load(public: str) -> EllipticCurvePublicKey | Ed25519PublicKey:
    try:
        if not public.startswith(_PEM):
            return Ed25519PublicKey.from_public_bytes(b64decode(public, validate=True))
        loaded = load_pem_public_key(public.encode())
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"Vault gave a public key that can't be read: {error}") from error
    if not isinstance(loaded, EllipticCurvePublicKey | Ed25519PublicKey):
        raise KeyUnavailableError(f"Vault gave a public key of another kind than asked for: {type(loaded).__name__}")
    return loaded
