"""The topic ``metadata``: its records are the exact bytes of metadata files; the key and the headers have the file's attributes.

The key is the role, so that compaction keeps the newest version of each role. But each version of root has its own key, as a client needs
every version after the root that it has.
"""

import re
from typing import Final

from tuf.api.metadata import Root

from tufline.bus import Record
from tufline.errors import RecordError

VERSION_HEADER: Final = "version"
"""The header with the role's version, in decimal."""

VECTOR_HEADER: Final = "vector"
"""The header of a timestamp's record with the ``Vector`` of its commit, as JSON."""

_VERSION: Final = re.compile(r"[1-9][0-9]{0,15}")
_ROOT_SUFFIX: Final = f".{Root.type}"


def metadata_key(role: str, version: int) -> str:
    """Make the key of a file's record.

    Args:
        role: the file's role.
        version: the file's version, from 1.

    Returns:
        ``<version>.root`` for a root, otherwise the role.
    """
    return f"{version}{_ROOT_SUFFIX}" if role == Root.type else role


def role_of_key(key: str) -> str:
    """Read the role from the key of a file's record; no role name has a dot.

    Args:
        key: the key of any record of ``metadata``.

    Returns:
        The role.
    """
    return Root.type if key.endswith(_ROOT_SUFFIX) else key


def header_of(record: Record, name: str) -> str:
    """Read a header that a file's record must have.

    Args:
        record: a record of ``metadata``.
        name: the header's name.

    Returns:
        The header's value.

    Raises:
        RecordError: if the record does not have the header.
    """
    if name not in record.headers:
        raise RecordError(f"it has no header {name!r}")
    return record.headers[name]


def version_of(record: Record) -> int:
    """Read the version of a file from its record's header.

    Args:
        record: a record of ``metadata``.

    Returns:
        The version, from 1.

    Raises:
        RecordError: if the header is missing, or is not a version.
    """
    text = header_of(record, VERSION_HEADER)
    if not _VERSION.fullmatch(text):
        raise RecordError(f"its header {VERSION_HEADER!r} is {text[:50]!r}, which is not a version")
    return int(text)
