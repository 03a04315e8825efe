"""How a key is named in the metadata, and the fields of ours that its object may carry (docs/adr/0009)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import SSlibKey


def keyid_of(key: Mapping[str, Any]) -> str:
    """Name a key by the whole of its object, as Tufline does for the keys that it makes.

    Args:
        key: the object as it stands in the metadata.

    Returns:
        SHA-256 of its canonical form.
    """
    return hashlib.sha256(str(encode_canonical(dict(key))).encode()).hexdigest()


def with_fields(key: SSlibKey, **fields: str) -> SSlibKey:
    """Give a key fields of ours, and a keyid that covers them (docs/adr/0009).

    Args:
        key: unchanged.
        **fields: to add to its object.

    Returns:
        The key, named by the whole of its object; by keytype, scheme and keyval, where it was named so although it had other fields.
    """
    covers = not key.unrecognized_fields or key.keyid == keyid_of(key.to_dict())
    whole = SSlibKey(key.keyid, key.keytype, key.scheme, dict(key.keyval), {**key.unrecognized_fields, **fields})
    if covers:
        whole.keyid = keyid_of(whole.to_dict())
    return whole
