"""The artifacts that a repository may announce, and the reasons for refusals."""

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata import canonical
from tufline.metadata.paths import check_encoded_path, check_path
from tufline.metadata.target import HEX_DIGITS, Target, TargetRules, parse_target, parse_target_json

GOOD = {"sha256": "ab" * 32}

REFUSED_PATHS = {
    "empty": ("", "empty"),
    "absolute": ("/etc/passwd", "absolute"),
    "only a slash": ("/", "absolute"),
    "dots at the start": ("../a", "'..'"),
    "dots inside": ("a/../b", "'..'"),
    "dots at the end": ("a/..", "'..'"),
    "single dot": ("a/./b", "'.'"),
    "double slash": ("a//b", "empty segment"),
    "slash at the end": ("a/", "empty segment"),
    "NUL": ("a\0b", "control character"),
    "newline": ("a\nb", "control character"),
    "DEL": ("a\x7fb", "control character"),
    "C1": ("a\x85b", "control character"),
    "lone surrogate": ("a\ud800b", "lone surrogate"),
    "low surrogate": ("\udfff", "lone surrogate"),
    "beyond the basic plane": ("a\U0001f600", "basic plane"),
    "too long": ("a" * 1025, "1025 bytes"),
    "too long in UTF-8": ("é" * 513, "1026 bytes"),
    "not a string": (7, "must be a string"),
}
READ_DIFFERENTLY = {
    "percent": ("100%", "'%' at position 3.*encoded_paths"),
    "percent-encoded": ("torch-2.0%2Bcpu.whl", "'%'"),
    "encoded dots": ("%2e%2e/a", "'%'"),
    "query": ("a?b", r"'\?'.*query"),
    "fragment": ("a#b", "'#'.*fragment"),
    "backslash": ("a\\b", "JavaScript"),
    "space at the end": ("a ", "white space"),
    "space at the start": (" a", "white space"),
    "no-break space at the end": ("a\u00a0", "white space"),
    "property of an object": ("constructor", "JavaScript"),
    "prototype of an object": ("__proto__", "JavaScript"),
}
"""Paths that the first rules accepted, although a client fetches them from another URL, or not at all."""

REFUSED_ENCODED = {
    "cut off": ("a%2", "not followed by two"),
    "alone": ("100%", "not followed by two"),
    "no digits": ("a%zz", "not followed by two"),
    "small letters": ("a%2b", "not followed by two"),
    "a letter": ("a%41", "'A'.*never encode"),
    "a slash": ("a%2Fb", "'/'.*never encode"),
    "dots": ("%2E%2E/a", r"'\.'.*never encode"),
    "no UTF-8": ("a%FF", "does not decode to UTF-8"),
    "half of a character": ("a%C3b", "does not decode to UTF-8"),
    "control character": ("a%0A", "control character"),
    "beyond the basic plane": ("a%F0%9F%98%80", "basic plane"),
    "query": ("a%2Bb?c", "query"),
    "white space at the end": ("a%2Bb ", "white space"),
    "dot segment": ("a%2Bb/../c", r"'\.\.'"),
}
REFUSED_LENGTHS = {
    "negative": -1,
    "beyond 2^53": 2**53 + 1,
    "float": 1.5,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "float beyond 2^53": 1e300,
    "boolean": True,
    "text": "1e3",
    "negative text": "-1",
    "text beyond 2^53": str(2**53 + 1),
    "long text": "1" * 30,
    "digits that are not ASCII": "١٢",
    "none": None,
    "empty text": "",
}
REFUSED_HASHES: dict[str, tuple[object, str]] = {
    "none": (None, "at least one"),
    "empty": ({}, "at least one"),
    "list": ([], "at least one"),
    "unknown algorithm": ({"md5": "0" * 32}, "not one of"),
    "not enabled": ({"blake2b-256": "0" * 64}, "hash_algorithms"),
    "too short": ({"sha256": "0" * 63}, "64 hexadecimal"),
    "too long": ({"sha256": "0" * 65}, "64 hexadecimal"),
    "of another algorithm": ({"sha256": "0" * 128}, "64 hexadecimal"),
    "not hexadecimal": ({"sha256": "g" * 64}, "64 hexadecimal"),
    "with a newline": ({"sha256": "0" * 63 + "\n"}, "64 hexadecimal"),
    "number": ({"sha256": 5}, "64 hexadecimal"),
    "one of two bad": ({"sha256": "0" * 64, "sha512": "0"}, "sha512"),
}
REFUSED_CUSTOMS: dict[str, tuple[Any, str]] = {
    "list": ([1], "an object"),
    "string": ("x", "an object"),
    "float": ({"a": 1.5}, "float"),
    "deep float": ({"a": [{"b": 0.1}]}, r"custom\['a'\]\[0\]\['b'\] is a float"),
    "big integer": ({"a": 2**53 + 1}, "2^53".replace("^", r"\^")),
    "control character": ({"a": "\x01"}, "control character"),
    "control character in a key": ({"\x01": 1}, "control character"),
    "lone surrogate": ({"a": "\ud800"}, "lone surrogate"),
    "key beyond the basic plane": ({"\U0001f600": 1}, "basic plane"),
    "too large": ({"a": "x" * 4096}, "at most 4096"),
}


@pytest.mark.parametrize(("path", "reason"), REFUSED_PATHS.values(), ids=REFUSED_PATHS)
def test_refused_path(path: object, reason: str) -> None:
    """A path that is unsafe or not the same for all clients is refused with its reason."""
    with pytest.raises(InvalidTargetError, match=reason):
        parse_target(path, 1, GOOD)


@pytest.mark.parametrize(("path", "reason"), READ_DIFFERENTLY.values(), ids=READ_DIFFERENTLY)
def test_path_that_clients_read_differently(path: str, reason: str) -> None:
    """A new path that a client would fetch from another URL is refused with its reason; an existing one can still be used."""
    with pytest.raises(InvalidTargetError, match=reason):
        parse_target(path, 1, GOOD)
    assert check_path(path) == path


@pytest.mark.parametrize(("path", "reason"), REFUSED_ENCODED.values(), ids=REFUSED_ENCODED)
def test_refused_encoded_path(path: str, reason: str) -> None:
    """If target paths are URL paths, one that is not in the form that clients and servers agree about is refused."""
    with pytest.raises(InvalidTargetError, match=reason):
        parse_target(path, 1, GOOD, allowed=TargetRules(check_path=check_encoded_path))


@pytest.mark.parametrize("path", ["torch-2.0%2Bcpu.whl", "100%25", "a%3Fb%23c%5Cd", "%20a%20", "%C3%A4/é", "constructor%20", "plain"])
def test_accepted_encoded_path(path: str) -> None:
    """If target paths are URL paths, percent-encoded characters are accepted unchanged."""
    assert parse_target(path, 1, GOOD, allowed=TargetRules(check_path=check_encoded_path)).path == path


@pytest.mark.parametrize("length", REFUSED_LENGTHS.values(), ids=REFUSED_LENGTHS)
def test_refused_length(length: object) -> None:
    """A length that is not a whole number from 0 to 2^53 is refused."""
    with pytest.raises(InvalidTargetError, match="length must be"):
        parse_target("a", length, GOOD)


@pytest.mark.parametrize("length", [7, "7", "007", 7.0])
def test_accepted_length(length: object) -> None:
    """A length may be an integer, the same as a decimal string, or a number without a fraction, which JSON Schema calls an integer."""
    target = parse_target("a", length, GOOD)
    assert (target.length, type(target.length)) == (7, int)


@pytest.mark.parametrize(("hashes", "reason"), REFUSED_HASHES.values(), ids=REFUSED_HASHES)
def test_refused_hashes(hashes: object, reason: str) -> None:
    """Hashes that do not fit their algorithm, or that clients do not know, are refused."""
    with pytest.raises(InvalidTargetError, match=reason):
        parse_target("a", 1, hashes)


@pytest.mark.parametrize(("custom", "reason"), REFUSED_CUSTOMS.values(), ids=REFUSED_CUSTOMS)
def test_refused_custom(custom: object, reason: str) -> None:
    """A custom that clients would encode differently is refused, with the place of the fault."""
    with pytest.raises(InvalidTargetError, match=reason):
        parse_target("a", 1, GOOD, custom)


def test_deep_nesting_is_refused() -> None:
    """A value nested deeper than we follow is refused, and does not exhaust the stack."""
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInputError, match="nested"):
        canonical.check(deep, "it")


def test_a_value_may_have_sixteen_levels() -> None:
    """The deepest value that is accepted has sixteen lists or objects around it, in any mixture."""
    deepest: object = 1
    for number in range(16):
        deepest = [deepest] if number % 2 else {"k": deepest}
    canonical.check(deepest, "it")
    with pytest.raises(InvalidInputError, match="nested deeper than 16 levels"):
        canonical.check([deepest], "it")


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_that_every_client_reads_exactly(sign: int) -> None:
    """Integers up to 2^53 are accepted, positive and negative, and none beyond."""
    canonical.check(sign * 2**53, "it")
    with pytest.raises(InvalidInputError, match="beyond 2"):
        canonical.check(sign * (2**53 + 1), "it")


def test_newlines_are_accepted_where_they_are_asked_for() -> None:
    """Text may have newlines, as PEM does, only if the caller allows it; no other control characters, and no newline in a key."""
    canonical.check(["a\nb"], "it", newlines=True)
    for value, newlines in ((["a\nb"], False), (["a\rb"], True), (["a\tb"], True), (["a\x7fb"], True), ({"a\nb": 1}, True)):
        with pytest.raises(InvalidInputError, match="control character"):
            canonical.check(value, "it", newlines=newlines)
    with pytest.raises(InvalidInputError, match="control character"):
        canonical.check("a\nb", "it")


def test_a_fault_of_a_key_and_one_of_a_value_are_distinguished() -> None:
    """The message names the object that has a bad key, or the place of a bad value."""
    with pytest.raises(InvalidInputError, match=r"^a key of it\['a'\] has a control character \(U\+0001\) at position 1"):
        canonical.check({"a": {"b\x01": 1}}, "it")
    with pytest.raises(InvalidInputError, match=r"^it\['a'\]\['b'\] has a control character \(U\+0001\) at position 2"):
        canonical.check({"a": {"b": "cc\x01"}}, "it")


def test_accepted_in_one_form() -> None:
    """A decimal length and upper-case digests are accepted, and kept in the one form that clients compare."""
    target = parse_target('a/b c:d;e+"é', "1024", {"sha256": "AB" * 32}, {"k": [1, None, "😀"]})
    assert target == Target('a/b c:d;e+"é', 1024, GOOD, {"k": [1, None, "😀"]})
    assert parse_target("a", 2**53, {"blake2b-256": "0" * 64}, allowed=TargetRules(("blake2b-256",))).hashes == {"blake2b-256": "0" * 64}
    assert parse_target("x" * 1024, 0, GOOD).length == 0


def test_the_largest_custom() -> None:
    """A custom of 4096 bytes of canonical JSON is accepted, and one byte more is not."""
    around = len('{"k":""}')
    parse_target("a", 1, GOOD, {"k": "x" * (4096 - around)})
    with pytest.raises(InvalidTargetError, match="custom is 4097 bytes of canonical JSON; at most 4096 are allowed"):
        parse_target("a", 1, GOOD, {"k": "x" * (4097 - around)})


@pytest.mark.parametrize("algorithm", HEX_DIGITS)
def test_a_digest_has_the_length_of_its_algorithm(algorithm: str) -> None:
    """A digest of each known algorithm is accepted if allowed, and one that is a digit longer or shorter is refused."""
    digest = hashlib.blake2b(digest_size=32) if algorithm == "blake2b-256" else hashlib.new(algorithm)
    text, allowed = digest.hexdigest(), TargetRules((algorithm,))
    assert parse_target("a", 1, {algorithm: text}, allowed=allowed).hashes == {algorithm: text}
    for wrong in (text[1:], text + "0"):
        with pytest.raises(InvalidTargetError, match=f"the {algorithm} value is not {len(text)} hexadecimal digits"):
            parse_target("a", 1, {algorithm: wrong}, allowed=allowed)


accepted = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(accepted)
def test_canonical_equals_securesystemslib(value: Any) -> None:
    """Everything that ``check`` accepts is encoded as the OLPC canonical JSON that TUF signs, which is JSON that decodes to the same."""
    try:
        canonical.check(value, "it")
    except InvalidInputError:
        return
    assert canonical.encode(value).decode() == encode_canonical(value)
    assert msgspec.json.decode(canonical.encode(value)) == value


def test_a_fault_is_described_in_few_words() -> None:
    """A problem in a value is reported with its place, and long keys and values are truncated."""
    with pytest.raises(InvalidInputError) as caught:
        canonical.check({"k" * 100_000: [{"l" * 100_000: [0, 0.5]}]}, "it")
    assert len(str(caught.value)) < 500
    assert str(caught.value).endswith("…'][1] is a float, which canonical JSON does not have; write it as a string or an integer")
    with pytest.raises(InvalidTargetError) as refused:
        parse_target("a", 1, {"x" * 100_000: ""})
    assert len(str(refused.value)) < 500


SIZES = {
    "custom": ("1", '{"sha256":"00"}', "[" * 100_000),
    "hashes": ("1", "[" * 5000, "null"),
    "length": ("1" * 200, "{}", "null"),
}


@pytest.mark.parametrize(("what", "most_bytes"), [("length", 128), ("hashes", 4096), ("custom", 65_536)])
def test_the_longest_value_that_is_parsed(what: str, most_bytes: int) -> None:
    """JSON of the documented length is parsed, whatever it contains; one byte more is refused."""
    values = {"length": b"1", "hashes": msgspec.json.encode(GOOD), "custom": b"{}"}

    def read(length: int) -> Target:
        padded = values | {what: values[what].ljust(length)}
        return parse_target_json("a", padded["length"], padded["hashes"], padded["custom"])

    assert read(most_bytes) == read(0)
    with pytest.raises(InvalidTargetError, match=f"{what} is {most_bytes + 1} bytes of JSON; at most {most_bytes} are read"):
        read(most_bytes + 1)


@pytest.mark.parametrize("what", SIZES)
def test_size_is_judged_before_anything_is_parsed(what: str) -> None:
    """A target's value that is longer than any acceptable one is refused for its size, whatever its content."""
    length, hashes, custom = SIZES[what]
    with pytest.raises(InvalidTargetError, match=f"{what} is [0-9]+ bytes of JSON; at most"):
        parse_target_json("a", length.encode(), hashes.encode(), custom.encode())
