"""Events: how repositories say on ``inbox`` what they publish. CloudEvents 1.0, in both modes of its Kafka binding.

In: a record's value and headers, written by anybody. Out: an ``Event``, or an ``InvalidEventError`` whose message is for its producer.
``schemas/event.json`` is generated from these types. Attributes that are not named here (extensions) are passed over; in ``data`` nothing
is.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from tufline.bus.headers import pairs_of
from tufline.errors import InvalidEventError

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

Attribute = Annotated[str, Meta(min_length=1, max_length=MAX_ATTRIBUTE_LENGTH)]


class ArtifactInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be said of an artifact.

    Attributes:
        length: in bytes; a decimal string is accepted too.
        hashes: algorithm to hexadecimal digest.
        custom: an object of the repository's own.
    """

    length: Any
    hashes: Any
    custom: Any = None


class ChangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change as repositories ask for it: a line of POST /api/v1/artifacts/bulk, an element of an event.

    Attributes:
        path: the target path.
        op: what to do with it.
        info: what is to be said of it; for ``add`` alone.
    """

    path: str
    op: Literal["add", "remove"] = "add"
    info: ArtifactInfo | None = None


class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an event says.

    Attributes:
        changes: at least one; applied in this order.
    """

    changes: Annotated[list[ChangeRequest], Meta(min_length=1)]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CloudEvent that announces changes. It is accepted or rejected whole.

    Attributes:
        specversion: of CloudEvents.
        id: with ``source`` it names the event: what is sent again under both names is the same event.
        source: who sends it.
        type: of the event.
        data: what it says.
        datacontenttype: of the data: JSON.
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
_any_decoder: Final = msgspec.json.Decoder()


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
            raise InvalidEventError(f"the content type {content_type!r} is not read: send one event a record, as {STRUCTURED_TYPE}")
        return _read_structured(value)
    if attributes:
        return _read_binary(value, attributes, content_type)
    return _read_structured(value)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _read_structured(value: bytes) -> Event:
    _check_size(value, {})
    try:
        event = _event_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error, _parse(value, {})) from None
    return _checked(event)


def _read_binary(value: bytes, attributes: list[tuple[str, str]], content_type: str | None) -> Event:
    given: dict[str, Any] = dict(attributes)
    _check_size(value, given)
    if len(given) < len(attributes):
        raise _invalid("a ce_ header stands more than once: give each attribute once", given)
    if content_type is not None:
        given["datacontenttype"] = content_type
    given.pop("data_base64", None)  # an attribute of that name there can't be
    _check_attributes(given)
    given["data"] = _parse(value, given)
    try:
        event = msgspec.convert(given, Event)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _explained(error, given) from None
    return _checked(event)


def _check_size(value: bytes, given: Mapping[str, Any]) -> None:
    if not value:
        raise _invalid("the record has no value: send the event as JSON", given)
    if len(value) > MAX_EVENT_BYTES:
        raise _invalid(f"the event has {len(value)} bytes, and at most {MAX_EVENT_BYTES} are taken: send its changes in several", given)


def _parse(value: bytes, given: Mapping[str, Any]) -> Any:
    try:
        return _any_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"the value is not JSON: {error}", given) from None


def _checked(event: Event) -> Event:
    given = {"source": event.source, "id": event.id}
    for name, text in given.items():
        if not _is_text(text):
            raise _invalid(f"the attribute {name} is not UTF-8", given)
    subtype = _media_type(event.datacontenttype).partition("/")[2]
    if event.datacontenttype is not None and subtype != "json" and not subtype.endswith("+json"):
        raise _invalid(f"datacontenttype is {event.datacontenttype!r}: give the data as application/json", given)
    return event


def _explained(error: Exception, given: Any) -> InvalidEventError:
    """Say what is wrong with an event that does not fit its type, better than the decoder does."""
    if not isinstance(given, dict):
        return InvalidEventError("the value is no JSON object: send a CloudEvent")
    try:
        _check_attributes(given)
    except InvalidEventError as better:
        return better
    return _invalid(f"the event has another form: {error}", given)


def _check_attributes(given: Mapping[str, Any]) -> None:
    for name in REQUIRED:
        text = given.get(name)
        if text is None:
            raise _invalid(f"the attribute {name} is missing: a CloudEvent has {', '.join(REQUIRED)}", given)
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_ATTRIBUTE_LENGTH:
            raise _invalid(f"the attribute {name} must be a string of 1 to {MAX_ATTRIBUTE_LENGTH} characters", given)
    for name, known in (("specversion", "1.0"), ("type", TYPE)):
        if given[name] != known:
            raise _invalid(f"{name} is {given[name]!r}, and only {known!r} is known here", given)
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
