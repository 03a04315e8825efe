"""Strict decoding: whatever bytes come in, what comes out is the value or the one error that the caller documents.

A decoder of msgspec raises more than its own errors: ``UnicodeDecodeError`` for bytes that are not UTF-8, ``RecursionError`` for deep
nesting, ``OverflowError`` and ``ValueError`` for numbers that no type of Python's has. One of these in a record would stop a follower that
passes over what it can't read. Every decoder of Tufline's goes through ``decode``. No I/O, no clock.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import msgspec

SHOWN_LENGTH: Final = 100
"""How much of a submitted value an error repeats, in characters."""

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What reading hostile bytes can raise; bytes that are not UTF-8 are a ``ValueError``."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Decoder(Protocol[T_co]):
    """A decoder of msgspec's, of JSON or MessagePack."""

    def decode(self, content: bytes | msgspec.Raw, /) -> T_co:
        """Read a value, or raise one of ``UNREADABLE``."""
        ...


def decode(decoder: Decoder[T], content: bytes | msgspec.Raw, error: Callable[[str], Exception]) -> T:
    """Read bytes that anybody may have written.

    Args:
        decoder: of the form that is expected.
        content: any bytes.
        error: makes the caller's documented error of the reason.

    Returns:
        The value.

    Raises:
        Exception: what ``error`` makes, and nothing else.
    """
    try:
        return decoder.decode(content)
    except UNREADABLE as reason:
        raise error(describe(reason)) from reason


def decode_json(decoder: Decoder[T], content: bytes | msgspec.Raw, what: str, error: Callable[[str], Exception]) -> T:
    """Read JSON that anybody may have sent, and tell who sent it whether it is no JSON or JSON of another form.

    Args:
        decoder: of the form that is expected.
        content: any bytes.
        what: what it is, for the message.
        error: makes the caller's documented error of the message.

    Returns:
        The value.

    Raises:
        Exception: what ``error`` makes, and nothing else.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as reason:
        raise error(f"{what} has another form: {describe(reason)}") from reason
    except UNREADABLE as reason:
        raise error(f"{what} is not JSON: {describe(reason)}") from reason


def describe(reason: Exception) -> str:
    """Say why bytes could not be read, for people.

    Args:
        reason: one of ``UNREADABLE``.

    Returns:
        A phrase of bounded length.
    """
    match reason:
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeDecodeError():
            return f"it is not UTF-8 (byte {reason.start})"
        case _:
            text = str(reason)
            # A value may be repeated in the middle; the place stands at the end.
            return text if len(text) <= 3 * SHOWN_LENGTH else f"{text[: 2 * SHOWN_LENGTH]}…{text[-SHOWN_LENGTH:]}"


def shorten(text: str, most: int = SHOWN_LENGTH) -> str:
    """Cut a text that an error repeats.

    Args:
        text: of any length.
        most: how many characters are kept.

    Returns:
        The text, with an ellipsis where something was cut.
    """
    return text if len(text) <= most else f"{text[:most]}…"


def shown(value: object, most: int = SHOWN_LENGTH) -> str:
    """Write a submitted value into an error, as Python writes it, without all of a long one.

    Args:
        value: of any size.
        most: how many characters of a text are kept.

    Returns:
        Its ``repr``, of bounded length; of what is neither a text nor a number its type alone.
    """
    match value:
        case str():
            return repr(shorten(value, most))
        case bool() | float() | None:
            return repr(value)
        case int():
            return repr(value) if -(2**64) <= value <= 2**64 else "a number of more than 20 digits"
        case _:
            return f"a {type(value).__name__}"
