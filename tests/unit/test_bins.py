"""Bins have the same bytes as those of python-tuf, whatever a repository announces."""

import collections
import itertools
import json
import string
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, SuccinctRoles, TargetFile, Targets
from tuf.api.serialization.json import CanonicalJSONSerializer

from tufline.errors import BinFullError, InvalidTargetError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.bins import MAX_BIN_BYTES, Bin, BinLayout, find_target
from tufline.metadata.paths import check_path
from tufline.metadata.target import Target, TargetEntry, encode_entry

EXPIRES = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)

NASTY = "\"\\/{}[]:,'<>&%?#é\u2028\ufffd\uffee日本 aA0-_.~"
"""Characters with a special order, escape or encoding."""


def acceptable(path: str) -> bool:
    try:
        check_path(path)
    except InvalidTargetError:
        return False
    return True


characters = st.sampled_from(NASTY) | st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"])
paths = st.text(characters, min_size=1, max_size=20).filter(acceptable)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from(NASTY), max_size=6), inner, max_size=3),
    max_leaves=6,
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
targets = st.builds(
    Target,
    paths,
    st.integers(0, 2**53),
    st.fixed_dictionaries({"sha256": digests}, optional={"sha512": st.text("0123456789abcdef", min_size=128, max_size=128)}),
    st.none() | st.dictionaries(st.text(string.ascii_letters + '"\\é', max_size=6), json_values, max_size=3),
)
operations = st.lists(st.tuples(st.sampled_from(["add", "remove"]), targets), max_size=30)


def oracle_bytes(content: dict[str, Target], version: int) -> bytes:
    """Return python-tuf's own canonical bytes of a bin."""
    entries = {
        path: TargetFile(target.length, dict(target.hashes), path, {"custom": target.custom} if target.custom is not None else None)
        for path, target in content.items()
    }
    signed = Targets(version=version, spec_version=envelope.SPEC_VERSION, expires=EXPIRES, targets=entries)
    return CanonicalJSONSerializer().serialize(signed)


@given(operations, st.lists(paths, max_size=5))
def test_bytes_equal_python_tuf(sequence: list[tuple[str, Target]], reused: list[str]) -> None:
    """After any sequence of adds, replacements and removals the signed bytes are those of python-tuf, also when read back in between."""
    mine, content = Bin(), dict[str, Target]()
    for number, (operation, announced) in enumerate(sequence):
        target = announced
        if reused and number % 2:
            target = Target(reused[number % len(reused)], target.length, target.hashes, target.custom)
        if operation == "add":
            assert mine.add(encode_entry(target)) == (content.get(target.path) != target)
            content[target.path] = target
        else:
            assert mine.remove(target.path) == (target.path in content)
            content.pop(target.path, None)
        if number % 7 == 3:
            size = mine.size
            mine = Bin.decode(mine.encode(number, envelope.format_expires(EXPIRES)))
            assert mine.size == size
    signed = mine.encode(7, envelope.format_expires(EXPIRES))
    assert signed == oracle_bytes(content, 7)
    assert len(mine) == len(content)
    for path, target in content.items():
        assert find_target(signed, path) == target
    loaded = Metadata[Targets].from_bytes(envelope.assemble(signed, []))
    assert loaded.signed_bytes == signed


@given(st.integers(1, 14), paths)
def test_layout_equals_python_tuf(bit_length: int, path: str) -> None:
    """A path's bin and the bin's name are those that TAP 15 clients compute."""
    layout = BinLayout(bit_length)
    oracle = SuccinctRoles(["k"], 1, bit_length, "bins")
    assert layout.name(layout.index_of(path)) == oracle.get_role_for_target(path)
    assert layout.number_of_bins == oracle.number_of_bins


@pytest.mark.parametrize("bins", [2, 16, 256, 2048, 16_384])
def test_layout_has_the_number_of_bins(bins: int) -> None:
    """A layout has the configured number of bins, under the names that clients look for."""
    layout = BinLayout.of(bins)
    assert layout.number_of_bins == bins
    assert [layout.name(index) for index in range(bins)] == list(SuccinctRoles(["k"], 1, layout.bit_length, "bins").get_roles())


@pytest.mark.parametrize("bins", [0, 1, 3, 1000, 32_768, -2])
def test_other_numbers_of_bins_are_refused(bins: int) -> None:
    """Only powers of two from 2 to 16,384 are valid numbers of bins."""
    with pytest.raises(ValueError, match="power of two"):
        BinLayout.of(bins)


def test_full_bin_refuses_and_stays() -> None:
    """A change that would exceed clients' limit for a bin is refused, and the bin stays unchanged."""
    mine = Bin()
    big = {"filling": ["x" * 1000] * 4}
    entries = (encode_entry(Target(f"p/{number}", 1, {"sha256": "0" * 64}, big)) for number in itertools.count())

    with pytest.raises(BinFullError, match="more bins"):
        collections.deque(map(mine.add, entries), maxlen=0)
    full = len(mine)
    with pytest.raises(BinFullError, match="more bins"):
        mine.add(next(entries))
    assert len(mine) == full
    signed = mine.encode(1, envelope.format_expires(EXPIRES))
    assert MAX_BIN_BYTES - 10_000 < len(signed) < MAX_BIN_BYTES + 1_000
    assert mine.remove("p/0")
    assert mine.add(encode_entry(Target("q", 1, {"sha256": "0" * 64})))


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_the_largest_bin(spare: int) -> None:
    """Entries of 4,000,000 bytes with their commas fit into a bin, and one byte more does not."""

    def entry(path: str, size: int) -> TargetEntry:
        least = len(encode_entry(Target(path, 1, {"sha256": "0" * 64}, {"filling": ""})).encoded)
        return encode_entry(Target(path, 1, {"sha256": "0" * 64}, {"filling": "x" * (size - least)}))

    mine = Bin()
    assert mine.add(entry("a", 1_000))
    assert mine.add(entry("b", 1_000))
    last = entry("c", 4_000_000 - 2 * 1_000 - len(",,") - spare)
    if spare < 0:
        with pytest.raises(BinFullError):
            mine.add(last)
    else:
        assert mine.add(last)


def test_an_unchanged_entry_changes_nothing() -> None:
    """Announcing an unchanged artifact changes nothing and costs no new version; any other entry of the path replaces it."""
    mine = Bin()
    for length in (5, 3, 7):
        entry = encode_entry(Target("a", length, {"sha256": "0" * 64}))
        assert mine.add(entry)
        assert not mine.add(entry)
        target = find_target(mine.encode(1, envelope.format_expires(EXPIRES)), "a")
        assert target is not None
        assert target.length == length


def test_memory_is_not_underestimated() -> None:
    """A bin's reported memory is at least its real memory, and not several times that: the signer's cache budget relies on it."""
    signed = Bin()
    for number in range(2_000):
        signed.add(encode_entry(Target(f"packages/{number}/some-package-1.0.{number}.tar.gz", number, {"sha256": "0" * 64})))
    content = signed.encode(1, envelope.format_expires(EXPIRES))
    tracemalloc.start()
    try:
        read = Bin.decode(content)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= read.memory <= 2 * taken


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"targets":[]}', b'{"targets":{"a":'])
def test_an_invalid_bin_is_refused(content: bytes) -> None:
    """Bytes that are not a bin raise MetadataError, both when read back and when searched."""
    with pytest.raises(MetadataError, match="not a bin"):
        Bin.decode(content)
    with pytest.raises(MetadataError, match="not a bin"):
        find_target(content, "a")


def test_sorted_by_raw_path() -> None:
    """Entries are sorted by the raw path, in a case where sorting the encoded entries would differ."""
    mine = Bin()
    raw = ["a", 'a"', "a!", "a\\", "a]", "aé", "a\uffee"]
    for path in reversed(raw):
        mine.add(encode_entry(Target(path, 1, {"sha256": "0" * 64})))
    signed = mine.encode(1, envelope.format_expires(EXPIRES))
    assert list(json.loads(signed)["targets"]) == sorted(raw)
