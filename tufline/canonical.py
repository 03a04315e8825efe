r"""Canonical JSON as TUF signs it: bytes in, the same bytes out everywhere.

TUF signs OLPC canonical JSON (http://wiki.laptop.org/go/Canonical_JSON): sorted keys, no white space, only ``"`` and ``\`` escaped, no
floats. msgspec's sorted encoder writes the very same bytes for every value that ``check`` lets pass, many times faster than a
canonical encoder in Python; property tests hold the two equal.

``check`` is what makes them equal, and keeps the three kinds of TUF clients (Python, Go, JavaScript) in agreement about the bytes:
control characters (OLPC writes them raw, which is no JSON), floats (not canonical), integers beyond 2^53 (JavaScript rounds them), lone
surrogates (no UTF-8) and keys beyond the basic plane (JavaScript sorts by UTF-16 unit, the others by code point) are refused.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tufline.errors import InvalidInputError

MAX_INTEGER: Final = 2**53
"""The largest integer that every client reads exactly (ECMA-262, Number.MAX_SAFE_INTEGER + 1)."""

MAX_DEPTH: Final = 16
"""How deep a value may be nested."""

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(order="sorted").encode
"""The canonical bytes of a value that ``check`` lets pass. A ``msgspec.Raw`` in it stands for its own bytes."""

_CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


def check_text(text: str, what: str) -> None:
    """Refuse a text that has no canonical form that is JSON too.

    Args:
        text: any string.
        what: what it is, for the message.

    Raises:
        InvalidInputError: for a control character (C0, DEL, C1) or a lone surrogate.
    """
    if match := _CONTROL_OR_SURROGATE.search(text):
        kind = "lone surrogate" if match[0] >= "\ud800" else "control character"
        raise InvalidInputError(f"{what} has a {kind} (U+{ord(match[0]):04X}) at position {match.start()}")


def check_key(text: str, what: str) -> None:
    """Refuse a text that can't be the key of an object in a signed file.

    Args:
        text: any string.
        what: what it is, for the message.

    Raises:
        InvalidInputError: as ``check_text``, and for a character beyond the basic plane, which clients sort differently.
    """
    check_text(text, what)
    if match := _BEYOND_BASIC_PLANE.search(text):
        raise InvalidInputError(
            f"{what} has a character beyond the basic plane (U+{ord(match[0]):X}) at position {match.start()}: "
            "TUF clients sort it differently"
        )


def check(value: object, what: str, *, newlines: bool = False, depth: int = 0) -> None:
    """Refuse a JSON value that has no canonical form on which all clients agree.

    Args:
        value: what a JSON decoder gives.
        what: what it is, for the message; the message adds where in it.
        newlines: whether texts may have newlines, as PEM keys in root and targets do: what is signed then is not JSON, and the file has
            another form of it.
        depth: how deep the value stands already.

    Raises:
        InvalidInputError: with the place and the reason.
    """
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"{what} is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool():
            pass
        case str():
            check_text(value.replace("\n", "") if newlines else value, what)
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise InvalidInputError(
                    f"{what} is an integer beyond 2^53, which some clients read as another number; write it as a string"
                )
        case float():
            raise InvalidInputError(f"{what} is a float, which canonical JSON does not have; write it as a string or an integer")
        case dict():
            for key, item in value.items():
                check_key(key, f"a key of {what}")
                check(item, f"{what}[{key!r}]", newlines=newlines, depth=depth + 1)
        case list():
            for index, item in enumerate(value):
                check(item, f"{what}[{index}]", newlines=newlines, depth=depth + 1)
        case _:
            raise InvalidInputError(f"{what} is a {type(value).__name__}, which JSON does not have")
