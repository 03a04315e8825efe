"""Keys, headers and values as the log's file has them.

SQLite's text is UTF-8, so any other key is a blob. Headers are JSON: an object, or a list of pairs if a name occurs twice.
"""

import json
from collections.abc import Mapping
from typing import Final

from tufline.bus.headers import ESCAPE, Headers

UNDECODABLE: Final = (ValueError, TypeError, RecursionError)
"""The exceptions that decoding a row may raise if its bytes were not written by Tufline."""


def encode_key(key: str) -> str | bytes:
    """Encode a record's key for the file.

    Args:
        key: the key.

    Returns:
        Text, or bytes if the key is not UTF-8.
    """
    return key if key.isascii() else _text_or_blob(key.encode(errors=ESCAPE))


def _text_or_blob(key: bytes) -> str | bytes:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key


def decode_key(stored: str | bytes) -> str:
    """Decode a record's key.

    Args:
        stored: from the file.

    Returns:
        The key, in the form that the contract of the bus requires.
    """
    return stored if isinstance(stored, str) else stored.decode(errors=ESCAPE)


def encode_headers(headers: Mapping[str, str]) -> str | None:
    """Encode a record's headers for the file.

    Args:
        headers: the headers.

    Returns:
        JSON; None if there are none.
    """
    if not headers:
        return None
    return json.dumps(headers.pairs if isinstance(headers, Headers) else headers)


def decode_headers(stored: str | bytes | None) -> Mapping[str, str]:
    """Decode a record's headers.

    Args:
        stored: from the file.

    Returns:
        The headers.

    Raises:
        Exception: one of ``UNDECODABLE`` if they are damaged.
    """
    if not stored:
        return {}
    found = json.loads(stored)
    pairs = tuple(found.items() if isinstance(found, dict) else map(tuple, found))
    if not all(isinstance(part, str) for name, value in pairs for part in (name, value)):
        raise TypeError("a header is not text")
    return found if isinstance(found, dict) else Headers(pairs)


def decode_value(stored: object) -> bytes:
    """Decode a record's value.

    Args:
        stored: from the file.

    Returns:
        The value.

    Raises:
        TypeError: if it is not bytes.
    """
    # Not an assertion: SQLite accepts a number in a BLOB column if another program puts one there.
    if not isinstance(stored, bytes):
        raise TypeError(f"the value is {type(stored).__name__}, not bytes")
    return stored
