"""Snapshot and timestamp, encoded incrementally.

A snapshot of 16,384 bins is half a megabyte, of which a commit changes a few entries: each entry is encoded when its version changes, and
one join makes the signed bytes. Entries have only a version (with lengths and hashes the file would be larger than clients accept). The
timestamp has the snapshot's length and hash, so that clients accept a snapshot larger than their default limit.

In: versions, an expiry. Out: bytes to sign. Signed bytes are read back by ``read_snapshot`` and ``read_timestamp``. No I/O, no clock.
"""

from bisect import insort
from dataclasses import dataclass

import msgspec

from tufline.decoding import decode
from tufline.errors import MetadataError
from tufline.metadata import canonical
from tufline.metadata.envelope import SPEC_VERSION, sha256


class _VersionOnly(msgspec.Struct):
    version: int


class _SignedSnapshot(msgspec.Struct):
    meta: dict[str, _VersionOnly]


class _FileOnly(msgspec.Struct):
    version: int
    length: int
    hashes: dict[str, str]


class _SignedTimestamp(msgspec.Struct):
    meta: dict[str, _FileOnly]


_snapshot_decoder = msgspec.json.Decoder(_SignedSnapshot)
_timestamp_decoder = msgspec.json.Decoder(_SignedTimestamp)


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """The snapshot that a timestamp names.

    Attributes:
        version: the snapshot's version.
        length: length of the snapshot file, in bytes.
        sha256: the snapshot file's digest, in hexadecimal.
    """

    version: int
    length: int
    sha256: str


def read_snapshot(signed: bytes | msgspec.Raw) -> dict[str, int]:
    """Read the version of each role that a snapshot names.

    Args:
        signed: the signed part of a snapshot file.

    Returns:
        Role name to version.

    Raises:
        MetadataError: if it is not a snapshot.
    """
    meta = decode(_snapshot_decoder, signed, lambda reason: MetadataError(f"not a snapshot: {reason}")).meta
    return {name.removesuffix(".json"): entry.version for name, entry in meta.items()}


def read_timestamp(signed: bytes | msgspec.Raw) -> SnapshotRef:
    """Read which snapshot a timestamp names.

    Args:
        signed: the signed part of a timestamp file.

    Returns:
        The snapshot.

    Raises:
        MetadataError: if it does not name a snapshot with its length and SHA-256.
    """
    meta = decode(_timestamp_decoder, signed, lambda reason: MetadataError(f"timestamp does not name a snapshot: {reason}")).meta
    try:
        named = meta["snapshot.json"]
        return SnapshotRef(named.version, named.length, named.hashes["sha256"])
    except KeyError as error:
        raise MetadataError(f"timestamp does not name a snapshot: {error} is missing") from error


class Snapshot:
    """The current version of each role, and its encoded form.

    A role is never removed and its version never decreases: clients refuse a snapshot that lost a name or in which a version went back.
    """

    __slots__ = ("_encoded", "_names", "_versions")

    def __init__(self, versions: dict[str, int] | None = None) -> None:
        """Start with some versions.

        Args:
            versions: role name to version, for example from ``read_snapshot``.
        """
        self._versions: dict[str, int] = {}
        self._names: list[str] = []
        self._encoded: dict[str, bytes] = {}
        for role, version in sorted((versions or {}).items()):
            self.set(role, version)

    def __len__(self) -> int:
        """Return the number of roles."""
        return len(self._names)

    def version(self, role: str) -> int:
        """Return the version of a role.

        Args:
            role: a role name.

        Returns:
            The version; 0 if the snapshot does not name the role.
        """
        return self._versions.get(role, 0)

    def set(self, role: str, version: int) -> bool:
        """Set a newer version of a role; an older or equal one is ignored.

        Args:
            role: a role name.
            version: from 1.

        Returns:
            Whether the snapshot changed.
        """
        known = self._versions.get(role, 0)
        if version <= known:
            return False
        name = f"{role}.json"
        if not known:
            insort(self._names, name)
        self._versions[role] = version
        self._encoded[name] = canonical.encode(name) + b':{"version":%d}' % version
        return True

    def encode(self, version: int, expires: str) -> bytes:
        """Write the bytes to sign (TUF specification, 4.4).

        Args:
            version: the snapshot's version, from 1.
            expires: from ``envelope.format_expires``.

        Returns:
            Canonical JSON.
        """
        meta = b",".join(map(self._encoded.__getitem__, self._names))
        return b'{"_type":"snapshot","expires":"%s","meta":{%s},"spec_version":"%s","version":%d}' % (
            expires.encode(),
            meta,
            SPEC_VERSION.encode(),
            version,
        )


def encode_timestamp(version: int, expires: str, snapshot_version: int, snapshot: bytes) -> bytes:
    """Write the timestamp's bytes to sign (TUF specification, 4.6).

    Args:
        version: the timestamp's version, from 1.
        expires: from ``envelope.format_expires``.
        snapshot_version: the version of the snapshot that it names.
        snapshot: that snapshot's whole file.

    Returns:
        Canonical JSON.
    """
    return canonical.encode(
        {
            "_type": "timestamp",
            "expires": expires,
            "meta": {"snapshot.json": {"hashes": {"sha256": sha256(snapshot)}, "length": len(snapshot), "version": snapshot_version}},
            "spec_version": SPEC_VERSION,
            "version": version,
        }
    )
