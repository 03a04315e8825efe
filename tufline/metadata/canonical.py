r"""Canonical JSON as TUF signs it: every client derives the same bytes from the same value.

TUF signs OLPC canonical JSON (http://wiki.laptop.org/go/Canonical_JSON): sorted keys, no white space, only ``"`` and ``\`` escaped, no
floats. msgspec's sorted encoder writes exactly these bytes for every value that ``check`` accepts, many times faster than a canonical
encoder in Python; property tests compare the two.

``check`` refuses every value for which the two would differ, or for which the TUF clients (Python, Go, JavaScript) would disagree about the
bytes: control characters (OLPC writes them raw, which is not valid JSON), floats (not canonical), integers beyond 2^53 (JavaScript rounds
them), lone surrogates (not UTF-8), and keys with characters beyond the basic plane (JavaScript sorts by UTF-16 unit, the others by code
point).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tufline.decoding import excerpt
from tufline.errors import InvalidInputError

MAX_INTEGER: Final = 2**53
"""The largest integer that every client reads exactly (ECMA-262, Number.MAX_SAFE_INTEGER + 1)."""

MAX_DEPTH: Final = 16
"""The deepest nesting that a value may have."""

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(order="sorted").encode
"""Returns the canonical bytes of a value that ``check`` accepts. A ``msgspec.Raw`` inside the value is written as is."""

_CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_EXCEPT_NEWLINE_OR_SURROGATE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


def check_text(text: str, what: str) -> None:
    """Refuse a text whose canonical form would not be valid JSON.

    Args:
        text: any string.
        what: the text's name in the error message.

    Raises:
        InvalidInputError: for a control character (C0, DEL, C1) or a lone surrogate.
    """
    if fault := _text_fault(text, _CONTROL_OR_SURROGATE):
        raise InvalidInputError(f"{what} {fault}")


def check_key(text: str, what: str) -> None:
    """Refuse a text that can't be the key of an object in a signed file.

    Args:
        text: any string.
        what: the text's name in the error message.

    Raises:
        InvalidInputError: as ``check_text``, and for a character beyond the basic plane, which clients sort differently.
    """
    if fault := _key_fault(text):
        raise InvalidInputError(f"{what} {fault}")


def check(value: object, what: str, *, newlines: bool = False) -> None:
    """Refuse a JSON value without a canonical form that all clients agree on. The time is proportional to the value's size.

    Args:
        value: the output of a JSON decoder.
        what: the value's name in the error message, which adds the place within it.
        newlines: whether texts may have newlines, as PEM keys in root and targets do. The signed bytes are then not valid JSON, so the
            file has the same value in another form.

    Raises:
        InvalidInputError: with the place and the reason.
    """
    place: list[str | int] = []
    fault = _fault(value, _CONTROL_EXCEPT_NEWLINE_OR_SURROGATE if newlines else _CONTROL_OR_SURROGATE, 0, place)
    if fault:
        where = "".join(f"[{excerpt(step)}]" for step in reversed(place))
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
    # The place is collected on the way back, from the inside out, so that a valid value costs nothing.
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
