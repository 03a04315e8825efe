"""Strict decoding: any bytes yield either the value or the one error that the caller documents.

A msgspec decoder raises more than its own errors: ``UnicodeDecodeError`` for bytes that are not UTF-8, ``RecursionError`` for deep nesting,
``OverflowError`` and ``ValueError`` for numbers that no Python type can hold. Such an error in a record would stop a follower that skips
unreadable records. So every decoder in Tufline is called through ``decode``. No I/O, no clock.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

EXCERPT_LENGTH: Final = 100
"""How many characters of a submitted value an error repeats."""

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""The errors that decoding hostile bytes can raise; ``UnicodeDecodeError`` is a ``ValueError``."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Decoder(Protocol[T_co]):
    """A msgspec decoder for JSON or MessagePack."""

    def decode(self, content: bytes | msgspec.Raw, /) -> T_co:
        """Decode a value, or raise one of ``UNREADABLE``."""
        ...


def converter(kind: type[T]) -> Callable[[Any], T]:
    """Make a function that converts built-in values to a type, as ``msgspec.convert`` does. To be called when a module is imported.

    msgspec describes a type when it is used first, and the process crashes (SIGSEGV) if two threads do that at the same time. So it is
    done here, before there are threads.

    Args:
        kind: the type.

    Returns:
        The function; it raises ``msgspec.ValidationError``.
    """
    msgspec.json.Decoder(kind)
    return partial(msgspec.convert, type=kind)


def decode(decoder: Decoder[T], content: bytes | msgspec.Raw, error: Callable[[str], Exception]) -> T:
    """Decode untrusted bytes.

    Args:
        decoder: the decoder for the expected type.
        content: any bytes.
        error: makes the caller's documented error from the reason.

    Returns:
        The value.

    Raises:
        Exception: the error from ``error``, and no other.
    """
    try:
        return decoder.decode(content)
    except UNREADABLE as reason:
        raise error(describe(reason)) from reason


def decode_json(decoder: Decoder[T], content: bytes | msgspec.Raw, what: str, error: Callable[[str], Exception]) -> T:
    """Decode untrusted JSON; the error tells the sender whether the bytes are not JSON, or JSON with wrong fields or types.

    Args:
        decoder: the decoder for the expected type.
        content: any bytes.
        what: the name of the input in the message.
        error: makes the caller's documented error from the message.

    Returns:
        The value.

    Raises:
        Exception: the error from ``error``, and no other.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as reason:
        raise error(f"{what} has another form: {describe(reason)}") from reason
    except UNREADABLE as reason:
        raise error(f"{what} is not JSON: {describe(reason)}") from reason


def describe(reason: Exception) -> str:
    """Describe why bytes could not be decoded.

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
            # The middle may repeat a long value, while the end has the place of the fault.
            return text if len(text) <= 3 * EXCERPT_LENGTH else f"{text[: 2 * EXCERPT_LENGTH]}…{text[-EXCERPT_LENGTH:]}"


def shorten(text: str, most: int = EXCERPT_LENGTH) -> str:
    """Shorten a text that an error repeats.

    Args:
        text: a text of any length.
        most: how many characters to keep.

    Returns:
        The text, with an ellipsis at its end if it was cut.
    """
    return text if len(text) <= most else f"{text[:most]}…"


def excerpt(value: object, most: int = EXCERPT_LENGTH) -> str:
    """Format a submitted value for an error message, in bounded length.

    Args:
        value: a value of any size.
        most: how many characters of a text to keep.

    Returns:
        The ``repr`` of a text or a number, shortened if it is long; for any other value only its type.
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
