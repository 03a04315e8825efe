r"""Canonical JSON as TUF signs it: bytes in, the same bytes out everywhere.

TUF signs OLPC canonical JSON (http://wiki.laptop.org/go/Canonical_JSON): sorted keys, no white space, only ``"`` and ``\`` escaped, no
floats. msgspec's sorted encoder writes the very same bytes for every value that ``check`` lets pass, many times faster than a
canonical encoder in Python; property tests hold the two equal.

``check`` is what makes them equal, and keeps the three kinds of TUF clients (Python, Go, JavaScript) in agreement about the bytes:
control characters (OLPC writes them raw, which is no JSON), floats (not canonical), integers beyond 2^53 (JavaScript rounds them), lone
surrogates (no UTF-8) and keys beyond the basic plane (JavaScript sorts by UTF-16 unit, the others by code point) are refused.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tufline.decoding import shown
from tufline.errors import InvalidInputError

MAX_INTEGER: Final = 2**53
"""The largest integer that every client reads exactly (ECMA-262, Number.MAX_SAFE_INTEGER + 1)."""

MAX_DEPTH: Final = 16
"""How deep a value may be nested."""

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(order="sorted").encode
"""The canonical bytes of a value that ``check`` lets pass. A ``msgspec.Raw`` in it stands for its own bytes."""

_CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SAME_BUT_NEWLINES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


def check_text(text: str, what: str) -> None:
    """Refuse a text that has no canonical form that is JSON too.

    Args:
        text: any string.
        what: what it is, for the message.

    Raises:
        InvalidInputError: for a control character (C0, DEL, C1) or a lone surrogate.
    """
    if fault := _text_fault(text, _CONTROL_OR_SURROGATE):
        raise InvalidInputError(f"{what} {fault}")


def check_key(text: str, what: str) -> None:
    """Refuse a text that can't be the key of an object in a signed file.

    Args:
        text: any string.
        what: what it is, for the message.

    Raises:
        InvalidInputError: as ``check_text``, and for a character beyond the basic plane, which clients sort differently.
    """
    if fault := _key_fault(text):
        raise InvalidInputError(f"{what} {fault}")


def check(value: object, what: str, *, newlines: bool = False) -> None:
    """Refuse a JSON value that has no canonical form on which all clients agree. It takes time in proportion to the value's size.

    Args:
        value: what a JSON decoder gives.
        what: what it is, for the message; the message adds where in it.
        newlines: whether texts may have newlines, as PEM keys in root and targets do: what is signed then is not JSON, and the file has
            another form of it.

    Raises:
        InvalidInputError: with the place and the reason.
    """
    place: list[str | int] = []
    fault = _fault(value, _SAME_BUT_NEWLINES if newlines else _CONTROL_OR_SURROGATE, 0, place)
    if fault:
        where = "".join(f"[{shown(step)}]" for step in reversed(place))
        raise InvalidInputError(f"{'a key of ' if fault.of_key else ''}{what}{where} {fault.reason}")


class _Fault(NamedTuple):
    reason: str
    of_key: bool = False


def _text_fault(text: str, refused: re.Pattern[str]) -> str | None:
    match = refused.search(text)
    if match is None:
        return None
    kind = "lone surrogate" if match[0] >= "\ud800" else "control character"
    return f"has a {kind} (U+{ord(match[0]):04X}) at position {match.start()}"


def _key_fault(text: object) -> str | None:
    if not isinstance(text, str):
        return f"is a {type(text).__name__}, which JSON does not have as a key"
    match = _BEYOND_BASIC_PLANE.search(text)
    if match is None:
        return _text_fault(text, _CONTROL_OR_SURROGATE)
    reason = f"has a character beyond the basic plane (U+{ord(match[0]):X}) at position {match.start()}: TUF clients sort it differently"
    return _text_fault(text, _CONTROL_OR_SURROGATE) or reason


def _fault(value: object, refused: re.Pattern[str], depth: int, place: list[str | int]) -> _Fault | None:
    # The place is put together on the way back, from inside to outside: what is right costs no text.
    if depth > MAX_DEPTH:
        return _Fault(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict | list):
        return _fault_inside(value, refused, depth, place)
    reason = None
    match value:
        case None | bool():
            pass
        case str():
            reason = _text_fault(value, refused)
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                reason = "is an integer beyond 2^53, which some clients read as another number; write it as a string"
        case float():
            reason = "is a float, which canonical JSON does not have; write it as a string or an integer"
        case _:
            reason = f"is a {type(value).__name__}, which JSON does not have"
    return None if reason is None else _Fault(reason)


def _fault_inside(value: dict[Any, Any] | list[Any], refused: re.Pattern[str], depth: int, place: list[str | int]) -> _Fault | None:
    if isinstance(value, dict):
        for key in value:
            if reason := _key_fault(key):
                return _Fault(reason, of_key=True)
        steps: Iterable[tuple[str | int, Any]] = value.items()
    else:
        steps = enumerate(value)
    for step, item in steps:
        if fault := _fault(item, refused, depth + 1, place):
            place.append(step)
            return fault
    return None
