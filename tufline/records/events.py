"""Events: how repositories submit changes on ``inbox``. CloudEvents 1.0, in both modes of its Kafka binding.

In: the untrusted value and headers of a record. Out: an ``Event``, or an ``InvalidEventError`` whose message is for the producer.
``schemas/event.json`` is generated from these types. Unknown attributes (extensions) are ignored; unknown fields in ``data`` are an error.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from tufline.bus.headers import pairs_of
from tufline.decoding import UNREADABLE, decode_json, excerpt
from tufline.errors import InvalidEventError
from tufline.metadata.canonical import MAX_INTEGER
from tufline.metadata.paths import MAX_PATH_BYTES
from tufline.metadata.target import HEX_DIGITS

TYPE: Final = "tufline.artifacts.v1"

MAX_EVENT_BYTES: Final = 1024 * 1024
"""The largest value of a record of ``inbox``, which is the default limit of Kafka's producers."""

MAX_ATTRIBUTE_LENGTH: Final = 1024
"""The longest id and source, in characters; limited because receipts repeat them."""

STRUCTURED_TYPE: Final = "application/cloudevents+json"
CLOUDEVENTS_TYPES: Final = "application/cloudevents"
CONTENT_TYPE_HEADER: Final = "content-type"
ATTRIBUTE_PREFIX: Final = "ce_"

REQUIRED: Final = ("specversion", "id", "source", "type")

_LENGTH_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}, {"type": "string", "pattern": "^[0-9]{1,16}$"}]
}
_HASHES_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "minProperties": 1,
    "properties": {name: {"type": "string", "pattern": f"^[0-9A-Fa-f]{{{digits}}}$"} for name, digits in HEX_DIGITS.items()},
    "additionalProperties": False,
}

Path = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_PATH_BYTES})]
"""A target path. ``tufline.metadata.paths`` has all rules; a schema can only state these two."""

Attribute = Annotated[str, Meta(min_length=1, max_length=MAX_ATTRIBUTE_LENGTH)]


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class ArtifactInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The metadata of an artifact. Its values are JSON that is not parsed yet: ``target.parse_target_json`` checks their size first.

    Attributes:
        length: the size of the artifact in bytes; a decimal string is accepted too.
        hashes: name of each algorithm to the hexadecimal digest; at least one.
        custom: a JSON object with the repository's own data; null for none.
    """

    length: Annotated[msgspec.Raw, Meta(extra_json_schema=_LENGTH_SCHEMA)]
    hashes: Annotated[msgspec.Raw, Meta(extra_json_schema=_HASHES_SCHEMA)]
    custom: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})] = msgspec.field(default_factory=_null)


class ChangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A submitted change: a line of POST /api/v1/artifacts/bulk, or an element of an event.

    Attributes:
        path: the target path.
        op: whether to add the artifact or to remove it.
        info: the artifact's metadata; only for ``add``.
    """

    path: Path
    op: Literal["add", "remove"] = "add"
    info: ArtifactInfo | None = None


class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of an event.

    Attributes:
        changes: the changes to apply, in this order; at least one.
    """

    changes: Annotated[list[ChangeRequest], Meta(min_length=1)]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CloudEvent with changes. It is accepted or rejected as a whole.

    Attributes:
        specversion: the version of the CloudEvents specification.
        id: identifies the event together with ``source``: a record with the same two is the same event, sent again.
        source: who sends the event.
        type: the kind of the event, with the version of its format.
        data: the changes that it announces.
        datacontenttype: the media type of ``data``, which must be JSON.
        data_base64: not supported; use ``data``.
    """

    specversion: Literal["1.0"]
    id: Attribute
    source: Attribute
    type: Literal["tufline.artifacts.v1"]
    data: EventData
    datacontenttype: str | None = None
    data_base64: None = None


_event_decoder: Final = msgspec.json.Decoder(Event)
_data_decoder: Final = msgspec.json.Decoder(EventData)


class _Loose(msgspec.Struct):
    """The attributes of an invalid event, not parsed, as they may have any type and size."""

    specversion: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()


_loose_decoder: Final = msgspec.json.Decoder(_Loose)
_any_decoder: Final = msgspec.json.Decoder()

LONGEST_ATTRIBUTE: Final = 6 * MAX_ATTRIBUTE_LENGTH + 2
"""The longest JSON of an attribute, in bytes: with each character written as an escape."""


def encode(event: Event) -> bytes:
    """Encode an event in structured mode. Send it with ``STRUCTURED_TYPE`` in ``CONTENT_TYPE_HEADER``.

    Args:
        event: the event to send.

    Returns:
        JSON.

    Raises:
        InvalidEventError: if a value in it can't be written as JSON.
    """
    try:
        return msgspec.json.encode(event)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        fields = {"source": event.source, "id": event.id}
        raise _invalid(f"the event can't be written as JSON: {error}; use only text, numbers, lists and objects", fields) from error


def read(value: bytes, headers: Mapping[str, str]) -> Event:
    """Decode an event in the mode that its headers indicate; without headers it is read as structured JSON.

    Args:
        value: the record's value.
        headers: the record's headers.

    Returns:
        The event.

    Raises:
        InvalidEventError: with the reason, and as much of source and id as can be read.
    """
    content_type = headers.get(CONTENT_TYPE_HEADER)
    media_type = _media_type(content_type)
    attributes = [(name.removeprefix(ATTRIBUTE_PREFIX), text) for name, text in pairs_of(headers) if name.startswith(ATTRIBUTE_PREFIX)]
    if media_type.startswith(CLOUDEVENTS_TYPES):
        if media_type != STRUCTURED_TYPE:
            known = f"send one event per record, as {STRUCTURED_TYPE}"
            raise InvalidEventError(f"the content type {excerpt(content_type)} is not supported: {known}")
        return _read_structured(value)
    if attributes:
        return _read_binary(value, attributes, content_type)
    return _read_structured(value)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _read_structured(value: bytes) -> Event:
    _check_size(value, {})
    event = decode_json(_event_decoder, value, "the value", partial(_explained, value))
    return _checked(event)


def _read_binary(value: bytes, attributes: list[tuple[str, str]], content_type: str | None) -> Event:
    fields: dict[str, Any] = dict(attributes)
    _check_size(value, fields)
    if len(fields) < len(attributes):
        raise _invalid("a ce_ header occurs more than once: send each attribute once", fields)
    fields.pop("data_base64", None)  # in binary mode there is no such attribute
    _check_attributes(fields)
    data = decode_json(_data_decoder, value, "the value", lambda reason: _invalid(reason, fields))
    return _checked(Event("1.0", fields["id"], fields["source"], TYPE, data, content_type or fields.get("datacontenttype")))


def _check_size(value: bytes, fields: Mapping[str, Any]) -> None:
    if not value:
        raise _invalid("the record has no value: send the event as JSON", fields)
    if len(value) > MAX_EVENT_BYTES:
        raise _invalid(f"the event has {len(value)} bytes, but at most {MAX_EVENT_BYTES} are allowed: split its changes", fields)


def _checked(event: Event) -> Event:
    fields = {"source": event.source, "id": event.id}
    for name, text in fields.items():
        if not _is_text(text):
            raise _invalid(f"the attribute {name} is not UTF-8", fields)
    subtype = _media_type(event.datacontenttype).partition("/")[2]
    if event.datacontenttype is not None and subtype != "json" and not subtype.endswith("+json"):
        raise _invalid(f"datacontenttype is {excerpt(event.datacontenttype)}: send the data as application/json", fields)
    return event


def _explained(value: bytes, reason: str) -> InvalidEventError:
    """Explain what is wrong with an invalid event, better than the decoder does."""
    try:
        loose = _loose_decoder.decode(value)
        attributes = {name: bytes(getattr(loose, name)) for name in _Loose.__struct_fields__}
        fields = {name: _attribute(content) for name, content in attributes.items() if content}
    except msgspec.ValidationError:
        return InvalidEventError("the value is not a JSON object: send a CloudEvent")
    except UNREADABLE:
        return InvalidEventError(reason)
    try:
        _check_attributes(fields)
    except InvalidEventError as better:
        return better
    return _invalid(reason, fields)


def _attribute(content: bytes) -> Any:
    # A longer value can't be a valid attribute, so it is not parsed.
    return _any_decoder.decode(content) if len(content) <= LONGEST_ATTRIBUTE else ()


def _check_attributes(fields: Mapping[str, Any]) -> None:
    for name in REQUIRED:
        text = fields.get(name)
        if text is None:
            raise _invalid(f"the attribute {name} is missing: a CloudEvent has {', '.join(REQUIRED)}", fields)
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_ATTRIBUTE_LENGTH:
            raise _invalid(f"the attribute {name} must be a string of 1 to {MAX_ATTRIBUTE_LENGTH} characters", fields)
    for name, known in (("specversion", "1.0"), ("type", TYPE)):
        if fields[name] != known:
            raise _invalid(f"{name} is {excerpt(fields[name])}, but only {known!r} is supported", fields)
    if fields.get("data_base64") is not None:
        raise _invalid("data_base64 is not supported: send the same content as JSON in data", fields)


def _invalid(reason: str, fields: Mapping[str, Any]) -> InvalidEventError:
    source, event_id = (
        text if isinstance(text, str) and len(text) <= MAX_ATTRIBUTE_LENGTH and _is_text(text) else ""
        for text in (fields.get("source"), fields.get("id"))
    )
    return InvalidEventError(reason, source, event_id)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
