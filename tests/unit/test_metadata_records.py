"""The key and headers of a file's record in the topic ``metadata``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tufline.bus import Record
from tufline.errors import RecordError
from tufline.records.metadata import metadata_key, role_of_key, version_of

ROLES = st.sampled_from(["root", "targets", "snapshot", "timestamp"]) | st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
VERSIONS = st.integers(1, 2**31 - 1)


@given(ROLES, VERSIONS)
def test_a_key_names_its_role(role: str, version: int) -> None:
    """The role is read back from the key of its record, whatever its version."""
    assert role_of_key(metadata_key(role, version)) == role


@given(ROLES, VERSIONS, VERSIONS)
def test_compaction_keeps_every_root_and_one_of_each_other_role(role: str, one: int, other: int) -> None:
    """All versions of a role have the same key, so that older ones may be deleted; versions of root have different keys, and all stay."""
    assert (metadata_key(role, one) == metadata_key(role, other)) == (role != "root" or one == other)


def record(headers: dict[str, str]) -> Record:
    return Record("metadata", 0, 0, 0, "snapshot", b"{}", headers)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "01", "one", " 1", "1\n", "\uff11", "9" * 17])
def test_an_invalid_version_is_refused(text: str) -> None:
    """A header that is not a version in Tufline's form is an error of the record."""
    with pytest.raises(RecordError, match="not a version"):
        version_of(record({"version": text}))


def test_a_record_must_have_a_version() -> None:
    """A record without a version is refused, and the error names the missing header; otherwise the version is returned."""
    with pytest.raises(RecordError, match="no header 'version'"):
        version_of(record({}))
    assert version_of(record({"version": "12"})) == 12
