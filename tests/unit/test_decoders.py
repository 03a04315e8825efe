"""Whatever bytes a decoder gets, it decodes them or raises a documented error: nothing else may stop a reader."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tufline.clock import MAX_MILLISECONDS, moment_of
from tufline.errors import InvalidCursorError
from tufline.records import cursor
from tufline.records.cursor import Cursor, Task
from tufline_testing.fuzz.targets import LOG_ID, TARGETS, Target

DEEP = 100_000

HOSTILE_VALUES: dict[str, bytes] = {
    "not UTF-8": b'"\xff"',
    "cut UTF-8": b'"\xe2\x82"',
    "lone surrogate": b'"\\ud800"',
    "raw NUL": b'"\x00"',
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep and complete": b"[" * 900 + b"]" * 900,
    "integer of 5,000 digits": b"9" * 5000,
    "integer of 65 bits": b"18446744073709551616",
    "negative": b"-9223372036854775809",
    "huge exponent": b"1e999999",
    "NaN": b"NaN",
    "null": b"null",
    "nothing": b"",
    "float": b"0.1",
    "text": b'"x"',
    "empty object": b"{}",
    "list of objects": b"[{}]",
    "long text": b'"' + b"x" * 100_000 + b'"',
}
"""Each of these replaces each value of an example."""

RAW = {
    "no bytes": b"",
    "nested MessagePack": b"\x91" * DEEP,
    "UTF-16": '{"v":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"v":1}',
    "newer schema": b'{"v":2}',
    "schema of 5,000 digits": b'{"v":' + b"9" * 5000 + b"}",
    "schema not UTF-8": b'{"v":1,"x":"\xff"}',
    "truth": b"true",
    "zeros": bytes(1000),
}


def check(target: Target, content: bytes) -> None:
    """Read, and accept only documented errors; each has a short reason."""
    reason = ""
    try:
        target.read(content)
    except target.errors as error:
        reason = str(error)
    assert len(reason) < 2000, reason[:200]


def places(value: Any) -> list[list[Any]]:
    """Name every value in a JSON value by the steps that lead to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [[], *([step, *rest] for step, item in inside for rest in places(item))]


def replaced(value: Any, place: list[Any], hostile: bytes) -> bytes:
    """Write a JSON value with another value at one place, or as every key there."""
    if not place:
        return hostile
    copy = json.loads(json.dumps(value))
    holder = copy
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = "@here@"
    return json.dumps(copy).encode().replace(b'"@here@"', hostile)


@pytest.mark.parametrize("name", TARGETS)
def test_examples_are_read(name: str) -> None:
    """The examples from which hostile bytes are made are read without an error."""
    for example in TARGETS[name].examples:
        TARGETS[name].read(example)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_values_raise_documented_errors(name: str) -> None:
    """A hostile value anywhere in a record, a file or a request raises only documented errors of the decoder."""
    target = TARGETS[name]
    for content in RAW.values():
        check(target, content)
    for hostile in HOSTILE_VALUES.values():
        check(target, hostile)
        for example in target.examples:
            head, brace, rest = example.partition(b"{")
            try:
                value = json.loads(brace + rest)
            except ValueError:
                continue
            for place in places(value):
                check(target, head + replaced(value, place, hostile))


@st.composite
def mutated(draw: st.DrawFn, example: bytes) -> bytes:
    """Change an example in a few places."""
    content = bytearray(example)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["put", "cut", "double"])):
            case "put":
                content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
            case "cut":
                del content[at : at + draw(st.integers(1, 20))]
            case _:
                content[at:at] = content[at : at + draw(st.integers(1, 200))]
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(st.data())
def test_any_bytes_raise_documented_errors(name: str, data: st.DataObject) -> None:
    """Any bytes, including nearly valid ones, are decoded or raise only documented errors of the decoder."""
    target = TARGETS[name]
    near = st.sampled_from(target.examples).flatmap(mutated)
    check(target, data.draw(st.binary(max_size=100) | near))


FORGED: dict[str, dict[str, Any]] = {
    "offset repeated 256 times": {"positions": {0: [7] * 256}},
    "offsets that go back": {"positions": {0: [3, 1]}},
    "no offsets": {"positions": {0: []}},
    "no positions of a task that always has a record": {"task": Task.METADATA, "positions": {}},
    "no positions of a bulk task": {"task": Task.BULK, "positions": {}},
    "negative offset": {"positions": {0: [-1]}},
    "offset beyond Kafka's": {"positions": {0: [2**63]}},
    "negative partition": {"positions": {-1: [0]}},
    "partition beyond Kafka's": {"positions": {2**31: [0]}},
    "time of 2^62": {"time": 2**62},
    "time after the year 9999": {"time": MAX_MILLISECONDS + 1},
    "negative time": {"time": -1},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_forged_task_id(changes: dict[str, Any]) -> None:
    """A task id that no ingest makes is refused before anything is read: its positions repeat or do not exist, or its time is invalid."""
    fields: dict[str, Any] = {"format": 1, "task": Task.ADD, "log": LOG_ID, "time": 1, "positions": {0: [0]}}
    assert cursor.decode(cursor.encode(Cursor(**fields)), LOG_ID) == Cursor(**fields)
    with pytest.raises(InvalidCursorError):
        cursor.decode(cursor.encode(Cursor(**(fields | changes))), LOG_ID)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_is_a_moment(milliseconds: int) -> None:
    """Any producer timestamp of a record is converted to a valid time: no fold stops at it."""
    assert 1970 <= moment_of(milliseconds).year <= 9999
