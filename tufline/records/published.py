"""The records of ``published``: which commit an origin has."""

from typing import Final

import msgspec

from tufline.records.codec import Versioned, decoder
from tufline.records.vector import Vector


class FileRef(msgspec.Struct, frozen=True):
    """A reference to a file in ``metadata``.

    Attributes:
        version: the role's version in the file.
        offset: the offset of the file's record in ``metadata``.
        sha256: the digest of the file, in lower-case hexadecimal.
    """

    version: int
    offset: int
    sha256: str


class Published(Versioned, frozen=True, kw_only=True):
    """Topic ``published``, key: origin. A commit was published at an origin.

    Attributes:
        origin: the configured name of the origin.
        timestamp: the timestamp file of the commit.
        snapshot: the snapshot file that the timestamp names.
        vector: which records the commit covers.
        next_offset: the offset in ``metadata`` below which the publisher has read everything.
    """

    origin: str
    timestamp: FileRef
    snapshot: FileRef
    vector: Vector
    next_offset: int


published_decoder: Final[msgspec.json.Decoder[Published]] = decoder(Published)
