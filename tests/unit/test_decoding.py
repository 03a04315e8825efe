"""Undecodable bytes raise the caller's own error, with a reason of bounded length."""

import re
import subprocess
import sys

import msgspec
import pytest

from tufline.decoding import EXCERPT_LENGTH, decode, decode_json, describe, excerpt, shorten
from tufline_testing.checkout import ROOT

RACE = """
import sys
import threading

sys.setswitchinterval(1e-6)

from tufline.trust import ceremony, client_rules

metadata = ceremony.hold(ceremony.Plan(4)).payload["metadata"]
barrier = threading.Barrier(4)

def check():
    barrier.wait()
    for role in ("root", "targets"):
        client_rules.check(metadata[role], "standard")

threads = [threading.Thread(target=check) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

ANY: msgspec.json.Decoder[object] = msgspec.json.Decoder()
OBJECT = msgspec.json.Decoder(dict)


class OwnError(Exception):
    """The error of a caller."""


UNREADABLE = {
    "not UTF-8": (b'"\xff"', "it is not UTF-8 (byte 0)"),
    "too deep": (b"[" * 100_000, "it is nested too deeply"),
    "cut off": (b"[1", "Input data was truncated"),
}


@pytest.mark.parametrize(("content", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_json_raises_the_error_of_the_caller(content: bytes, reason: str) -> None:
    """Whatever a decoder raises, the caller's error has the reason, and the original error as its cause."""
    with pytest.raises(OwnError) as caught:
        decode(ANY, content, OwnError)
    assert str(caught.value) == reason
    assert caught.value.__cause__ is not None
    with pytest.raises(OwnError) as caught:
        decode_json(ANY, content, "the body", OwnError)
    assert str(caught.value) == f"the body is not JSON: {reason}"
    assert caught.value.__cause__ is not None


def test_json_of_another_form_is_distinguished_from_invalid_json() -> None:
    """JSON of an unexpected form is reported as such, and JSON of the expected form is decoded."""
    with pytest.raises(OwnError, match=r"^the body has another form: Expected `object`, got `array`$"):
        decode_json(OBJECT, b"[]", "the body", OwnError)
    assert decode_json(OBJECT, b"{}", "the body", OwnError) == decode(OBJECT, b"{}", OwnError) == {}


def test_a_long_reason_keeps_its_start_and_its_end() -> None:
    """A reason of up to 300 characters is reported whole; a longer one is cut to its first 200 and last 100, which have the place."""
    whole, long = "v" * 200 + "p" * 100, "v" * 201 + "p" * 100
    assert describe(ValueError(whole)) == whole
    assert describe(ValueError(long)) == "v" * 200 + "…" + "p" * 100


def test_a_long_text_is_cut() -> None:
    """A text is quoted up to its 100th character, or the caller's limit, and an ellipsis marks that it is longer."""
    assert EXCERPT_LENGTH == 100
    assert shorten("x" * 100) == "x" * 100
    assert shorten("x" * 101) == "x" * 100 + "…"
    assert (shorten("abc", 3), shorten("abcd", 3)) == ("abc", "abc…")


SHOWN: list[tuple[object, str]] = [
    ("a\n", r"'a\n'"),
    ("x" * 101, f"'{'x' * 100}…'"),
    (True, "True"),
    (None, "None"),
    (0.5, "0.5"),
    (2**64, "18446744073709551616"),
    (-(2**64), "-18446744073709551616"),
    (0, "0"),
    (2**64 + 1, "a number of more than 20 digits"),
    (-(2**64) - 1, "a number of more than 20 digits"),
    ([1] * 1000, "a list"),
    ({}, "a dict"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_a_value_is_shown_in_bounded_length(value: object, text: str) -> None:
    """An error shows a submitted value as Python writes it; for a huge number or a container only its kind."""
    assert excerpt(value) == text


def test_threads_that_read_a_type_first_at_the_same_time_do_not_crash() -> None:
    """Ingest and the follower of ``admin`` judge root and targets in threads; msgspec alone crashed four of ten such processes."""
    processes = [subprocess.Popen([sys.executable, "-c", RACE]) for _ in range(8)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 8


def test_types_are_described_when_modules_are_imported() -> None:
    """Only ``decoding.converter`` calls ``msgspec.convert``, and no function makes a decoder at its first call."""
    sources = {file: file.read_text() for folder in ("tufline", "services") for file in (ROOT / folder).rglob("*.py")}
    converting = [file.name for file, text in sources.items() if "msgspec.convert" in text]
    assert converting == ["decoding.py"]
    indented = [file.name for file, text in sources.items() if re.search(r"^ +\S.*\bmsgspec\.\w+\.(Decoder|decode)\(", text, re.MULTILINE)]
    allowed = {"codec.py", "decoding.py", "request_json.py"}  # called at import, or by the event loop alone
    assert set(indented) <= allowed
