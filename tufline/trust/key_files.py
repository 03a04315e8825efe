"""Public keys in files, as people hand them over: a key alone, or with a proof that its private key can be used.

A key alone is an object of keyid to key object, as in metadata. A proof is made by the side that has the private key (``tufline keys
prove``): the key, its URI and the time, signed with the key itself. A ceremony on a machine that can't reach the provider checks it, so
that a wrong URI, version or policy is found before people sign metadata that names the key. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import RepositoryError

from tufline.errors import InvalidInputError, MetadataError
from tufline.metadata import canonical, envelope, key_uris
from tufline.metadata.envelope import SignatureEntry
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import keyid_of

PROOF: Final = "tufline-key-proof"
"""The ``_type`` of a proof. It is not that of a role, so no client can take the signed bytes for metadata."""

MAX_AGE: Final = timedelta(days=30)
"""How old a proof may be: after that, the key may have been changed or its policy withdrawn."""

MAX_AHEAD: Final = timedelta(days=1)
"""How far ahead of this machine's clock a proof may be: a machine without a network has no exact time."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The content of a file with one key.

    Attributes:
        key: the public key.
        proved: when its private key signed the proof; None if the file has no proof.
    """

    key: SSlibKey
    proved: datetime | None


def to_json(keys: Iterable[Key]) -> str:
    """Encode public keys as in metadata: keyid to key object.

    Args:
        keys: the public keys.

    Returns:
        JSON.
    """
    return json.dumps({key.keyid: key.to_dict() for key in keys}, indent=1)


def plain(key: SSlibKey) -> SSlibKey:
    """Copy a key without additional fields, such as the URI of its private key: metadata must not reveal where people keep their keys.

    Args:
        key: the key, which is left unchanged.

    Returns:
        The copy, with the keyid of its type, scheme and value.
    """
    bare = SSlibKey("", key.keytype, key.scheme, dict(key.keyval))
    bare.keyid = keyid_of(bare.to_dict())
    return bare


def statement(key: SSlibKey, now: datetime) -> dict[str, Any]:
    """Make the statement that a private key can be used, which that key has to sign.

    Args:
        key: the public key, with the URI of the private key.
        now: a time with a time zone.

    Returns:
        The statement; ``canonical.encode`` makes the bytes to sign.
    """
    uri = key.unrecognized_fields[ONLINE_KEY_URI]
    return {"_type": PROOF, "made": now.astimezone(UTC).strftime(_TIME), "uri": uri, "keyid": key.keyid, "key": key.to_dict()}


def proof(signed: Mapping[str, Any], signature: SignatureEntry) -> str:
    """Encode a proof.

    Args:
        signed: the statement.
        signature: the key's signature of it.

    Returns:
        JSON.
    """
    return json.dumps({"signatures": [{"keyid": signature.keyid, "sig": signature.sig}], "signed": signed}, indent=1)


def read(text: str | bytes, now: datetime | None) -> KeyFile:
    """Read one public key, and check its proof if there is one.

    Args:
        text: the text that ``to_json`` returned for one key, or ``proof``.
        now: a time with a time zone; None if the age of a proof was checked before.

    Returns:
        The key.

    Raises:
        MetadataError: if it is neither, or the proof is not valid, with the reason and what to do.
    """
    try:
        content = json.loads(text)
        if "signed" not in content:
            ((keyid, of_key),) = content.items()
            return KeyFile(_key(keyid, of_key), None)
        signed, (entry,) = content["signed"], content["signatures"]
        key, uri, signature = _key(signed["keyid"], signed["key"]), signed["uri"], SignatureEntry(entry["keyid"], entry["sig"])
        made = datetime.strptime(signed["made"], _TIME).replace(tzinfo=UTC)
        kind = signed["_type"]
    except (ValueError, LookupError, TypeError, AttributeError, RepositoryError) as error:
        raise MetadataError(f"expected one key as 'tufline keys show' prints it, or a proof of one: {error}") from error
    if kind != PROOF:
        raise MetadataError(f"this is signed metadata of the type {kind!r}, not the proof of a key: make one with tufline keys prove")
    _check(key, uri, signed, signature)
    if now is not None and (now - made > MAX_AGE or made - now > MAX_AHEAD):
        raise MetadataError(f"the proof of {uri} was made on {made:%Y-%m-%d}: make it again with tufline keys prove {uri}")
    return KeyFile(key, made)


def _key(keyid: str, content: Mapping[str, Any]) -> SSlibKey:
    key = Key.from_dict(keyid, dict(content))
    if not isinstance(key, SSlibKey):
        raise TypeError(f"a key of the type {key.keytype} can't be used in TUF metadata by all clients")
    return key


def _check(key: SSlibKey, uri: object, signed: Mapping[str, Any], signature: SignatureEntry) -> None:
    if not isinstance(uri, str) or key.unrecognized_fields.get(ONLINE_KEY_URI) != uri:
        raise MetadataError(f"the proof is for {uri!r}, but its key names {key.unrecognized_fields.get(ONLINE_KEY_URI)!r}: make it again")
    try:
        key_uris.check(uri)
        canonical.check(dict(signed), "the proof", newlines=True)
    except InvalidInputError as error:
        raise MetadataError(f"the proof can't be used: {error}") from error
    if signature.keyid != key.keyid or not envelope.is_signed_by(key, signature, canonical.encode(signed)):
        raise MetadataError(f"the proof of {uri} is not signed by the key that it names: make it again with tufline keys prove {uri}")
