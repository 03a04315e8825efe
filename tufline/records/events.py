"""Events: how repositories say on ``inbox`` what they publish. CloudEvents 1.0, in both modes of its Kafka binding.

In: a record's value and headers, written by anybody. Out: an ``Event``, or an ``InvalidEventError`` whose message is for its producer.
``schemas/event.json`` is generated from these types. Attributes that are not named here (extensions) are passed over; in ``data`` nothing
is.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from tufline.bus.headers import pairs_of
from tufline.decoding import UNREADABLE, decode_json, shown
from tufline.errors import InvalidEventError
from tufline.metadata.canonical import MAX_INTEGER
from tufline.metadata.paths import MAX_PATH_BYTES
from tufline.metadata.target import HEX_DIGITS

TYPE: Final = "tufline.artifacts.v1"

MAX_EVENT_BYTES: Final = 1024 * 1024
"""The largest value of a record of ``inbox``; as much as Kafka's producers send by default."""

MAX_ATTRIBUTE_LENGTH: Final = 1024
"""The longest id and source, in characters: receipts repeat them."""

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
"""A target path. Its rules are in ``tufline.metadata.paths``, whose reasons are for people; a schema can state only these."""

Attribute = Annotated[str, Meta(min_length=1, max_length=MAX_ATTRIBUTE_LENGTH)]


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class ArtifactInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What is to be said of an artifact. Its values are JSON that is not parsed yet: ``target.parse_target_json`` looks at the size first.

    Attributes:
        length: the size of the artifact in bytes; a decimal string is accepted too.
        hashes: name of each algorithm to the hexadecimal digest; at least one.
        custom: an object of the repository's own; null for none.
    """

    length: Annotated[msgspec.Raw, Meta(extra_json_schema=_LENGTH_SCHEMA)]
    hashes: Annotated[msgspec.Raw, Meta(extra_json_schema=_HASHES_SCHEMA)]
    custom: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})] = msgspec.field(default_factory=_null)


class ChangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A change as repositories ask for it: a line of POST /api/v1/artifacts/bulk, an element of an event.

    Attributes:
        path: the target path.
        op: whether to add the artifact, or to remove it.
        info: what the metadata is to say of the artifact; for ``add`` alone.
    """

    path: Path
    op: Literal["add", "remove"] = "add"
    info: ArtifactInfo | None = None


class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an event says.

    Attributes:
        changes: the changes to apply, in this order; at least one.
    """

    changes: Annotated[list[ChangeRequest], Meta(min_length=1)]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CloudEvent that announces changes. It is accepted or rejected whole.

    Attributes:
        specversion: the version of the CloudEvents specification.
        id: with ``source`` it names the event: what is sent again under both names is the same event.
        source: who sends it.
        type: what kind of event it is, with the version of its form.
        data: the changes that it announces.
        datacontenttype: the media type of ``data``, which is JSON.
        data_base64: not read; give ``data``.
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
    """The attributes of something that is no event, each unparsed: they may be of any form and size."""

    specversion: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()


_loose_decoder: Final = msgspec.json.Decoder(_Loose)
_any_decoder: Final = msgspec.json.Decoder()

LONGEST_ATTRIBUTE: Final = 6 * MAX_ATTRIBUTE_LENGTH + 2
"""The longest JSON of an attribute, in bytes: each character written as an escape."""


def encode(event: Event) -> bytes:
    """Write an event in structured mode.

    Args:
        event: to be sent, with ``STRUCTURED_TYPE`` in ``CONTENT_TYPE_HEADER``.

    Returns:
        JSON.

    Raises:
        InvalidEventError: if something in it has no form in JSON.
    """
    try:
        return msgspec.json.encode(event)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        given = {"source": event.source, "id": event.id}
        raise _invalid(f"the event can't be written as JSON: {error}; give text, numbers, lists and objects alone", given) from error


def read(value: bytes, headers: Mapping[str, str]) -> Event:
    """Read an event in the mode that its headers say; without any it is read as structured JSON.

    Args:
        value: of the record.
        headers: of the record.

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
            raise InvalidEventError(f"the content type {shown(content_type)} is not read: send one event a record, as {STRUCTURED_TYPE}")
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
    given: dict[str, Any] = dict(attributes)
    _check_size(value, given)
    if len(given) < len(attributes):
        raise _invalid("a ce_ header stands more than once: give each attribute once", given)
    given.pop("data_base64", None)  # an attribute of that name there can't be
    _check_attributes(given)
    data = decode_json(_data_decoder, value, "the value", lambda reason: _invalid(reason, given))
    return _checked(Event("1.0", given["id"], given["source"], TYPE, data, content_type or given.get("datacontenttype")))


def _check_size(value: bytes, given: Mapping[str, Any]) -> None:
    if not value:
        raise _invalid("the record has no value: send the event as JSON", given)
    if len(value) > MAX_EVENT_BYTES:
        raise _invalid(f"the event has {len(value)} bytes, and at most {MAX_EVENT_BYTES} are taken: send its changes in several", given)


def _checked(event: Event) -> Event:
    given = {"source": event.source, "id": event.id}
    for name, text in given.items():
        if not _is_text(text):
            raise _invalid(f"the attribute {name} is not UTF-8", given)
    subtype = _media_type(event.datacontenttype).partition("/")[2]
    if event.datacontenttype is not None and subtype != "json" and not subtype.endswith("+json"):
        raise _invalid(f"datacontenttype is {shown(event.datacontenttype)}: give the data as application/json", given)
    return event


def _explained(value: bytes, reason: str) -> InvalidEventError:
    """Say what is wrong with a value that is no event, better than the decoder does."""
    try:
        loose = _loose_decoder.decode(value)
        attributes = {name: bytes(getattr(loose, name)) for name in _Loose.__struct_fields__}
        given = {name: _attribute(content) for name, content in attributes.items() if content}
    except msgspec.ValidationError:
        return InvalidEventError("the value is no JSON object: send a CloudEvent")
    except UNREADABLE:
        return InvalidEventError(reason)
    try:
        _check_attributes(given)
    except InvalidEventError as better:
        return better
    return _invalid(reason, given)


def _attribute(content: bytes) -> Any:
    # What is longer is no attribute, whatever is in it.
    return _any_decoder.decode(content) if len(content) <= LONGEST_ATTRIBUTE else ()


def _check_attributes(given: Mapping[str, Any]) -> None:
    for name in REQUIRED:
        text = given.get(name)
        if text is None:
            raise _invalid(f"the attribute {name} is missing: a CloudEvent has {', '.join(REQUIRED)}", given)
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_ATTRIBUTE_LENGTH:
            raise _invalid(f"the attribute {name} must be a string of 1 to {MAX_ATTRIBUTE_LENGTH} characters", given)
    for name, known in (("specversion", "1.0"), ("type", TYPE)):
        if given[name] != known:
            raise _invalid(f"{name} is {shown(given[name])}, and only {known!r} is known here", given)
    if given.get("data_base64") is not None:
        raise _invalid("data_base64 is not read: give the same content as JSON in data", given)


def _invalid(reason: str, given: Mapping[str, Any]) -> InvalidEventError:
    source, event_id = (
        text if isinstance(text, str) and len(text) <= MAX_ATTRIBUTE_LENGTH and _is_text(text) else ""
        for text in (given.get("source"), given.get("id"))
    )
    return InvalidEventError(reason, source, event_id)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
