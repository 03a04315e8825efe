"""Snapshot and timestamp, encoded as they change.

A snapshot of 16,384 bins is half a megabyte, of which a commit changes a few entries: each entry is encoded when its version changes, and
the signed bytes are one join. Entries are version-only (with lengths and hashes the file would pass what clients accept); the timestamp
carries the snapshot's own length and hash, which also lifts the client's default limit for it.

In: versions, an expiry. Out: bytes to sign. No I/O, no clock.
"""

from bisect import insort

import msgspec

from tufline.decoding import decode
from tufline.errors import MetadataError
from tufline.metadata import canonical
from tufline.metadata.envelope import SPEC_VERSION, sha256


class _VersionOnly(msgspec.Struct):
    version: int


class _SignedSnapshot(msgspec.Struct):
    meta: dict[str, _VersionOnly]


_snapshot_decoder = msgspec.json.Decoder(_SignedSnapshot)


def read_snapshot(signed: bytes | msgspec.Raw) -> dict[str, int]:
    """Read which version of each role a snapshot names.

    Args:
        signed: the signed part of a snapshot file.

    Returns:
        Role name to version.

    Raises:
        MetadataError: if it is not a snapshot.
    """
    meta = decode(_snapshot_decoder, signed, lambda reason: MetadataError(f"not a snapshot: {reason}")).meta
    return {name.removesuffix(".json"): entry.version for name, entry in meta.items()}


class Snapshot:
    """Which version of each role the repository has, and the encoded form of that.

    A role that is in it stays in it for ever: clients refuse a snapshot that lost a name, and one in which a version went back.
    """

    __slots__ = ("_encoded", "_names", "_versions")

    def __init__(self, versions: dict[str, int] | None = None) -> None:
        """Start with some versions.

        Args:
            versions: role name to version, such as ``read_snapshot`` gives.
        """
        self._versions: dict[str, int] = {}
        self._names: list[str] = []
        self._encoded: dict[str, bytes] = {}
        for role, version in sorted((versions or {}).items()):
            self.set(role, version)

    def __len__(self) -> int:
        """Say how many roles it names."""
        return len(self._names)

    def version(self, role: str) -> int:
        """Say which version of a role it names.

        Args:
            role: a role name.

        Returns:
            The version; 0 if it does not name the role.
        """
        return self._versions.get(role, 0)

    def set(self, role: str, version: int) -> bool:
        """Name a newer version of a role; an older or equal one is passed over.

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
            version: of the snapshot.
            expires: as ``envelope.format_expires`` writes it.

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
        version: of the timestamp.
        expires: as ``envelope.format_expires`` writes it.
        snapshot_version: of the snapshot that it names.
        snapshot: that snapshot's file.

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
