"""Keyids: how metadata names a key, and how Tufline adds fields to a key object (docs/adr/0009)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import SSlibKey


def keyid_of(key: Mapping[str, Any]) -> str:
    """Compute a keyid over the whole key object, as Tufline does for keys that it creates.

    Args:
        key: the key object from the metadata.

    Returns:
        SHA-256 of its canonical form, in lower-case hexadecimal.
    """
    return hashlib.sha256(str(encode_canonical(dict(key))).encode()).hexdigest()


def with_fields(key: SSlibKey, **fields: str) -> SSlibKey:
    """Copy a key with additional fields, and a keyid that covers them (docs/adr/0009).

    Args:
        key: the key, which is left unchanged.
        **fields: the fields to add to its object.

    Returns:
        The copy. Its keyid covers the whole object, unless the key already had other fields that its keyid does not cover: then the keyid
        stays.
    """
    covers = not key.unrecognized_fields or key.keyid == keyid_of(key.to_dict())
    whole = SSlibKey(key.keyid, key.keytype, key.scheme, dict(key.keyval), {**key.unrecognized_fields, **fields})
    if covers:
        whole.keyid = keyid_of(whole.to_dict())
    return whole
