"""Snapshot and timestamp compared with python-tuf."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import MetaFile, Snapshot, Timestamp
from tuf.api.serialization.json import CanonicalJSONSerializer

from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.snapshot import Snapshot as Content
from tufline.metadata.snapshot import SnapshotRef, encode_timestamp, read_snapshot, read_timestamp

EXPIRES = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
roles = st.sampled_from(["targets", "bins-0", "bins-a", "bins-0a", "bins-ff", "other", "bins", "bins-0.x"])


@given(st.lists(st.tuples(roles, st.integers(1, 50)), min_size=1, max_size=40))
def test_snapshot_bytes_equal_python_tuf(updates: list[tuple[str, int]]) -> None:
    """After any sequence of versions the signed bytes are python-tuf's; a version never goes back and no name is lost."""
    mine, newest = Content(), dict[str, int]()
    for role, version in updates:
        assert mine.set(role, version) == (version > newest.get(role, 0))
        newest[role] = max(newest.get(role, 0), version)
    meta = {f"{role}.json": MetaFile(version) for role, version in newest.items()}
    signed = mine.encode(9, envelope.format_expires(EXPIRES))
    assert signed == CanonicalJSONSerializer().serialize(Snapshot(9, envelope.SPEC_VERSION, EXPIRES, meta))
    assert read_snapshot(signed) == newest
    assert {role: mine.version(role) for role in newest} == newest
    assert mine.version("never named") == 0
    assert len(mine) == len(newest)
    assert Content(read_snapshot(signed)).encode(9, envelope.format_expires(EXPIRES)) == signed


@given(st.binary(max_size=100), st.integers(1, 2**31))
def test_timestamp_bytes_equal_python_tuf(snapshot: bytes, version: int) -> None:
    """The timestamp names the snapshot's version, length and hash, in exactly the bytes of python-tuf."""
    meta = MetaFile(version, len(snapshot), {"sha256": hashlib.sha256(snapshot).hexdigest()})
    mine = encode_timestamp(3, envelope.format_expires(EXPIRES), version, snapshot)
    assert mine == CanonicalJSONSerializer().serialize(Timestamp(3, envelope.SPEC_VERSION, EXPIRES, meta))
    assert read_timestamp(mine) == SnapshotRef(version, len(snapshot), hashlib.sha256(snapshot).hexdigest())


@pytest.mark.parametrize("content", [b"", b"{}", b'{"meta":{"a.json":{}}}', b'{"meta":{"a.json":{"version":"1"}}}'])
def test_an_invalid_snapshot_is_refused(content: bytes) -> None:
    """Bytes that are not a snapshot raise MetadataError."""
    with pytest.raises(MetadataError, match="not a snapshot"):
        read_snapshot(content)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({}, "'snapshot.json' is missing"),
        ({"snapshot.json": {"version": 1, "length": 2, "hashes": {"sha512": "00"}}}, "'sha256' is missing"),
        ({"snapshot.json": {"version": 1}}, "length"),
        ({"snapshot.json": {"version": "1", "length": 2, "hashes": {"sha256": "00"}}}, "version"),
    ],
    ids=["no snapshot", "no SHA-256", "no length", "version is a text"],
)
def test_a_timestamp_that_names_no_snapshot_is_refused(meta: dict[str, object], reason: str) -> None:
    """A timestamp that does not name a snapshot with its length and SHA-256 raises MetadataError, which says what is missing."""
    with pytest.raises(MetadataError, match=f"timestamp does not name a snapshot: .*{reason}"):
        read_timestamp(json.dumps({"meta": meta}).encode())
