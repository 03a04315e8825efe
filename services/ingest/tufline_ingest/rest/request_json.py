"""JSON of requests: parsed strictly, with a limit on the number of values, so that parsing does not block the event loop."""

from typing import Any, Final, TypeVar, cast

import msgspec

from tufline.decoding import decode_json
from tufline.runtime.turns import MAX_VALUES
from tufline.trust.rules import MAX_BYTES
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.schemas.numbers import WholeNumber

T = TypeVar("T")

METADATA_JSON_FACTOR: Final = 2
"""How many times as long as the file for clients the submitted JSON may be, because of white space and escapes."""

MAX_METADATA_VALUES: Final = 100_000
"""The most commas in root or targets that are parsed; the checks after that take 10 µs for each."""


def decode(kind: type[T], body: bytes | msgspec.Raw, what: str = "the request") -> T:
    """Read a request, or a part of it.

    Args:
        kind: its form.
        body: as sent, decoded.
        what: a name of the content, for the message.

    Returns:
        The request.

    Raises:
        BadRequestError: with what is wrong, and where.
    """
    if bytes(body).count(b",") > MAX_VALUES:
        raise BadRequestError(f"{what} has more than {MAX_VALUES} values: send it in parts, or as lines to /api/v1/artifacts/bulk")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return cast("T", decode_json(decoder, body, what, BadRequestError))


def whole(name: str, value: WholeNumber) -> int:
    """Read a whole number of a request.

    Args:
        name: where it stands, for the message.
        value: the number; for JSON Schema, 1.0 is one too.

    Returns:
        The number.

    Raises:
        BadRequestError: if it has a fraction.
    """
    if value % 1:  # of infinity it is not 0 either
        raise BadRequestError(f"{name} must be a whole number, not {value}")
    return int(value)


def read_metadata(role: str, content: msgspec.Raw) -> dict[str, Any] | None:
    """Read root or targets of a request. Their size is checked before they are parsed.

    Args:
        role: ``root`` or ``targets``.
        content: JSON.

    Returns:
        The object; None for null.

    Raises:
        BadRequestError: if it is too large, or no object.
    """
    raw, most_bytes = bytes(content), METADATA_JSON_FACTOR * MAX_BYTES[role]
    if len(raw) > most_bytes:
        raise BadRequestError(f"metadata.{role} is {len(raw)} bytes of JSON; at most {most_bytes} are read")
    if raw.count(b",") > MAX_METADATA_VALUES:
        raise BadRequestError(f"metadata.{role} has more than {MAX_METADATA_VALUES} values")
    found: dict[str, Any] | None = decode_json(_metadata_decoder, raw, f"metadata.{role}", BadRequestError)
    return found


_metadata_decoder: Final = msgspec.json.Decoder(dict[str, Any] | None)

# One decoder for each type of request, made once.
_decoders: Final[dict[type, msgspec.json.Decoder[Any]]] = {}
