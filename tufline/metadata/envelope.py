"""A metadata file: the signed bytes and their signatures.

A file is ``{"signatures":[…],"signed":<exactly the signed bytes>}``. Nothing is encoded twice: the signer writes the canonical bytes, the
publisher passes the file on, and a verifier takes those bytes out of it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, SSlibKey

from tufline.decoding import decode, excerpt
from tufline.errors import MetadataError
from tufline.metadata import canonical

SPEC_VERSION: Final = "1.0.31"
"""The version of the TUF specification that our metadata follows."""

REMEMBERED_ED25519_BYTES: Final = 65_536
"""The longest signed bytes for which a valid Ed25519 signature is remembered. Ed25519 hashes the bytes itself; for longer ones a second
hash, for the lookup, would cost as much as verifying again."""

EXPIRES_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_EXPIRES: Final = re.compile(r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\dZ", re.ASCII)
"""The format that clients accept; ``fromisoformat`` reads other forms of ISO 8601 as well, such as a week or, in newer versions of Python,
hour 24."""

REMEMBERED_SIGNATURES: Final = 32_768
"""How many valid signatures are remembered, so that one process does not verify them twice; they take about 4 MB."""


class SignatureEntry(msgspec.Struct, frozen=True):
    """A signature in a metadata file.

    Attributes:
        keyid: the id of the key that made it.
        sig: the signature in lower-case hexadecimal.
    """

    keyid: str
    sig: str


class MetaFile(msgspec.Struct, frozen=True):
    """A metadata file, split without decoding its signed part.

    Attributes:
        signatures: all signatures in the file.
        signed: the bytes that were signed.
    """

    signatures: list[SignatureEntry]
    signed: msgspec.Raw


class CommonFields(msgspec.Struct, frozen=True):
    """The fields that the metadata of all roles has (TUF specification, 4.3).

    Attributes:
        type: ``root``, ``targets``, ``snapshot`` or ``timestamp``.
        version: the role's version, from 1.
        expires: UTC, in ``EXPIRES_FORMAT``.
    """

    type: str = msgspec.field(name="_type")
    version: int
    expires: str


_file_decoder = msgspec.json.Decoder(MetaFile)
_common_decoder = msgspec.json.Decoder(CommonFields)


def format_expires(moment: datetime) -> str:
    """Format a time as in TUF metadata: UTC, whole seconds.

    Args:
        moment: a time with a time zone.

    Returns:
        The text, such as ``2030-01-01T00:00:00Z``.
    """
    return moment.astimezone(UTC).strftime(EXPIRES_FORMAT)


def parse_expires(text: str) -> datetime:
    """Parse a time in the format of ``format_expires``.

    Args:
        text: such as ``2030-01-01T00:00:00Z``.

    Returns:
        The time, in UTC.

    Raises:
        MetadataError: for any other format.
    """
    # Much faster than strptime, which matters when all bins are checked.
    try:
        if _EXPIRES.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise MetadataError(f"{excerpt(text)} is not a time such as 2030-01-01T00:00:00Z")


def expiry(now: datetime, lifetime: timedelta) -> str:
    """Return when metadata made now expires.

    Args:
        now: a time with a time zone.
        lifetime: how long the metadata is valid.

    Returns:
        The time in the format of ``format_expires``.
    """
    return format_expires(now + lifetime)


def file_name(role: str, version: int) -> str:
    """Return the name of a role's file at the origin, with consistent snapshots (TUF specification, 6.2).

    Args:
        role: a role name.
        version: its version.

    Returns:
        ``timestamp.json``, or ``<version>.<role>.json``.
    """
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def assemble(signed: bytes, signatures: Iterable[SignatureEntry]) -> bytes:
    """Assemble a metadata file.

    Args:
        signed: the canonical bytes that were signed.
        signatures: signatures over exactly these bytes.

    Returns:
        The file.
    """
    return b"".join((b'{"signatures":', canonical.encode(list(signatures)), b',"signed":', signed, b"}"))


def disassemble(content: bytes) -> MetaFile:
    """Split a metadata file.

    Args:
        content: the file's bytes.

    Returns:
        Its signatures and the signed bytes.

    Raises:
        MetadataError: if it is not a metadata file.
    """
    return decode(_file_decoder, content, lambda reason: MetadataError(f"not a metadata file: {reason}"))


def read_common(signed: bytes | msgspec.Raw) -> CommonFields:
    """Read only the type, version and expiry from signed bytes.

    Args:
        signed: the signed part of a metadata file.

    Returns:
        The fields that all roles have.

    Raises:
        MetadataError: if it is not the signed part of a metadata file.
    """
    return decode(_common_decoder, signed, lambda reason: MetadataError(f"not the signed part of a metadata file: {reason}"))


def sha256(content: bytes) -> str:
    """Compute the SHA-256 digest of a file.

    Args:
        content: the file's bytes.

    Returns:
        The digest in lower-case hexadecimal.
    """
    return hashlib.sha256(content).hexdigest()


OLD_ECDSA: Final = frozenset({"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"})
"""Names that old tools gave the key type ``ecdsa``, each with the scheme of the same name."""


@lru_cache(maxsize=64)
def _public_key(keytype: str, scheme: str, public: str) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | None:
    # Loading a PEM key costs more than verifying with it, and a repository has few keys.
    if (keytype, scheme) == ("ed25519", "ed25519"):
        return ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    if scheme == "ecdsa-sha2-nistp256" and keytype in {"ecdsa", scheme}:
        loaded = load_pem_public_key(public.encode())
        return loaded if isinstance(loaded, ec.EllipticCurvePublicKey) else None
    return None


_PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))

_known_valid: set[bytes] = set()


def is_signed_by(key: Key, signature: SignatureEntry, signed: bytes) -> bool:
    """Verify one signature.

    Valid signatures are remembered by key, signature and SHA-256 of the bytes: when signer and publisher run in one process, the publisher
    verifies the signatures that the signer has just verified, and each costs a hundred times as much as hashing a small bin.

    Args:
        key: the public key whose keyid the signature names.
        signature: the signature from the file.
        signed: the bytes that must have been signed.

    Returns:
        Whether the signature is valid.
    """
    if key.scheme == "ed25519" and len(signed) > REMEMBERED_ED25519_BYTES:
        return _verify(key, signature, signed, b"")
    digest = hashlib.sha256(signed).digest()
    # Remembered as one hash over all parts: the parts themselves would take five times as much memory.
    parts = (key.keytype, key.scheme, str(key.keyval.get("public")), signature.sig)
    known = hashlib.sha256(digest + "\0".join(parts).encode()).digest()
    if known in _known_valid:
        return True
    if not _verify(key, signature, signed, digest):
        return False
    if len(_known_valid) >= REMEMBERED_SIGNATURES:
        _known_valid.clear()
    _known_valid.add(known)
    return True


def _verify(key: Key, signature: SignatureEntry, signed: bytes, digest: bytes) -> bool:
    # The digest is only used for ECDSA. The two schemes of online keys are verified directly; all others through securesystemslib, which
    # loads the key each time.
    try:
        public = _public_key(key.keytype, key.scheme, str(key.keyval.get("public")))
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(bytes.fromhex(signature.sig), signed)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(bytes.fromhex(signature.sig), digest, _PREHASHED)
        else:
            # For the old key type, securesystemslib warns at each signature. Where warnings are errors, no signature would be valid.
            if key.keytype == key.scheme and key.keytype in OLD_ECDSA:
                key = SSlibKey(key.keyid, "ecdsa", key.scheme, key.keyval)
            key.verify_signature(Signature(signature.keyid, signature.sig), signed)
    except (InvalidSignature, UnsupportedAlgorithm, UnverifiedSignatureError, VerificationError, ValueError):
        return False
    return True


def verify_threshold(role: str, content: MetaFile, keys: dict[str, Key], keyids: Sequence[str], threshold: int) -> None:
    """Verify that enough keys of a role signed its file (TUF specification, for example 5.3.3).

    Args:
        role: the role's name, for the error message.
        content: the role's file.
        keys: keyid to public key.
        keyids: the role's keyids.
        threshold: how many of them must have signed.

    Raises:
        MetadataError: if fewer did.
    """
    signed = bytes(content.signed)
    by_keyid = {entry.keyid: entry for entry in content.signatures}
    valid = sum(1 for keyid in set(keyids) if keyid in keys and keyid in by_keyid and is_signed_by(keys[keyid], by_keyid[keyid], signed))
    if valid < threshold:
        raise MetadataError(f"{role} has {valid} valid signatures, but its threshold is {threshold}")
