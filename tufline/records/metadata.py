"""The topic ``metadata``: its records are the exact bytes of metadata files; key and headers say what goes with a file.

The key is the role, so that compaction keeps the newest version of each; but each version of root has a key of its own, as a client walks
from the root that it has through every later one.
"""

import re
from typing import Final

from tuf.api.metadata import Root

from tufline.bus import Record
from tufline.errors import RecordError

VERSION_HEADER: Final = "version"
"""Header of a record: the role's version, in decimal."""

VECTOR_HEADER: Final = "vector"
"""Header of a timestamp's record: the ``Vector`` that this commit covers, as JSON."""

_VERSION: Final = re.compile(r"[1-9][0-9]{0,15}")
_ROOT_SUFFIX: Final = f".{Root.type}"


def metadata_key(role: str, version: int) -> str:
    """Make the key of a file's record.

    Args:
        role: of the file.
        version: of the file, from 1.

    Returns:
        ``<version>.root`` for a root, otherwise the role.
    """
    return f"{version}{_ROOT_SUFFIX}" if role == Root.type else role


def role_of_key(key: str) -> str:
    """Read the role in the key of a file's record; no name of a role has a dot.

    Args:
        key: of any record of ``metadata``.

    Returns:
        The role.
    """
    return Root.type if key.endswith(_ROOT_SUFFIX) else key


def header_of(record: Record, name: str) -> str:
    """Read a header that a file's record must have.

    Args:
        record: of ``metadata``.
        name: of the header.

    Returns:
        Its value.

    Raises:
        RecordError: if it has none.
    """
    if name not in record.headers:
        raise RecordError(f"it has no header {name!r}")
    return record.headers[name]


def version_of(record: Record) -> int:
    """Read the version that the log says a file has.

    Args:
        record: of ``metadata``.

    Returns:
        The version, from 1.

    Raises:
        RecordError: if its header is not one.
    """
    text = header_of(record, VERSION_HEADER)
    if not _VERSION.fullmatch(text):
        raise RecordError(f"its header {VERSION_HEADER!r} is {text[:50]!r}, and not a version")
    return int(text)
