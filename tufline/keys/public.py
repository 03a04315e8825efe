"""Converting public keys from Vault's format to the format of TUF metadata. Pure."""

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
"""Each of Transit's key types that TUF can use, with TUF's scheme for it."""

_PEM: Final = "-----BEGIN"


def tuf_key(public: str, uri: str) -> SSlibKey:
    """Make a key object for the metadata.

    Args:
        public: the public key from Vault: PEM, or for Ed25519 the 32 bytes in base64.
        uri: the URI of the private key.

    Returns:
        The key, with its keyid and the URI.

    Raises:
        KeyUnavailableError: if it is not a public key for P-256 or Ed25519.
    """
    return with_uri(SSlibKey.from_crypto(_load(public)), uri)


def with_uri(key: SSlibKey, uri: str) -> SSlibKey:
    """Copy a key object with the URI of its private key.

    Args:
        key: the key, which is left unchanged.
        uri: the URI of the private key.

    Returns:
        The copy, with a keyid that covers the URI.
    """
    return with_fields(key, **{ONLINE_KEY_URI: uri})


def same_public(key: Key, public: str) -> bool:
    """Return whether a key in the metadata is the same as one in Vault.

    Args:
        key: the key from the metadata.
        public: the public key from Vault.

    Raises:
        KeyUnavailableError: if Vault's is not a public key for P-256 or Ed25519.
    """
    ours, theirs = key.keyval.get("public"), SSlibKey.from_crypto(_load(public)).keyval.get("public")
    if key.scheme == ED25519:
        return str(ours).lower() == theirs
    try:
        # The PEM of the same key may have other line ends.
        return load_pem_public_key(str(ours).encode()) == load_pem_public_key(str(theirs).encode())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _load(public: str) -> EllipticCurvePublicKey | Ed25519PublicKey:
    try:
        if not public.startswith(_PEM):
            return Ed25519PublicKey.from_public_bytes(b64decode(public, validate=True))
        loaded = load_pem_public_key(public.encode())
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"Vault returned a public key that can't be read: {error}") from error
    if not isinstance(loaded, EllipticCurvePublicKey | Ed25519PublicKey):
        raise KeyUnavailableError(f"Vault returned a public key of an unexpected type: {type(loaded).__name__}")
    return loaded
