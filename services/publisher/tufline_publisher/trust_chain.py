"""The chain of trust as a client follows it, over the files of the log. Pure.

In: metadata files in the order of the log. Out: their content, if a client accepts their signatures, version, type and format. Any other
file raises an error and changes nothing. A file whose only fault is its signatures may become valid under later keys, so it has its own
error: ``UntrustedError``.
"""

import msgspec
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.snapshot import SnapshotRef, read_snapshot, read_timestamp
from tufline.trust import roles
from tufline.trust.roles import RoleKeys
from tufline_publisher.delegated_roles import DelegatedRoles, Parent, read_file, verify
from tufline_publisher.errors import UntrustedError


def targets_named(snapshot: bytes) -> int:
    """Return the version of targets that a snapshot names; 0 for none.

    Args:
        snapshot: bytes of the snapshot file.

    Raises:
        MetadataError: if it is not a snapshot.
    """
    return read_snapshot(envelope.disassemble(snapshot).signed).get(Targets.type, 0)


def stands_under(root: bytes, timestamp: bytes, snapshot: bytes, targets: bytes) -> bool:
    """Return whether clients that trust a root accept a commit.

    Args:
        root: bytes of the root file.
        timestamp: bytes of the timestamp file.
        snapshot: bytes of the snapshot file that the timestamp names.
        targets: bytes of the targets file that the snapshot names.

    Returns:
        Whether the root's keys signed these files.
    """
    keys_of = roles.parse(Root, root).signed
    try:
        for role, content in ((Timestamp.type, timestamp), (Snapshot.type, snapshot)):
            roles.root_keys(keys_of, role).verify(role, envelope.disassemble(content))
        roles.verified(Targets, targets, roles.root_keys(keys_of, Targets.type))
    except MetadataError:
        return False
    return True


class TrustChain:
    """The trust of a client that has followed the log so far."""

    def __init__(self) -> None:
        """Trust nothing yet: the first root is trusted as it is, like the root that a client ships with."""
        self._root: Root | None = None
        self._root_file = b""
        self.delegated = DelegatedRoles()
        """The bins, the custom roles and the catch-all role."""

    @property
    def root_version(self) -> int:
        """Version of the trusted root; 0 before there is one."""
        return self._root.version if self._root else 0

    @property
    def targets_version(self) -> int:
        """Version of the newest trusted targets; 0 before there are any."""
        return self.delegated.newest_targets

    def check_root(self, version: int, content: bytes) -> None:
        """Accept a root as a client does: signed by the previous root and by itself, one version higher (TUF specification, 5.3).

        Args:
            version: the version recorded on the log.
            content: bytes of the root file.

        Raises:
            MetadataError: if a client would refuse it.
        """
        root = roles.parse(Root, content).signed
        if root.version != version or (self._root is not None and version > self._root.version + 1):
            raise MetadataError(f"root has version {root.version} after {self.root_version}")
        roles.verified(Root, content, roles.root_keys(root, Root.type))
        if version == self.root_version and content != self._root_file:
            raise MetadataError(f"root {version} differs from the trusted root {version}")
        if version <= self.root_version:
            return  # an earlier link of the chain, which clients with an older root still need
        if self._root is not None:
            roles.verified(Root, content, roles.root_keys(self._root, Root.type))
        self._root, self._root_file = root, content

    def check_targets(self, version: int, content: bytes) -> None:
        """Accept top-level targets. 10,000 custom roles take 0.2 s.

        Args:
            version: the version recorded on the log.
            content: bytes of the targets file.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if the signatures are the reason.
        """
        metadata = roles.parse(Targets, content)
        if metadata.signed.version != version:
            raise MetadataError(f"targets has version {metadata.signed.version}, not {version}")
        parent = Parent.read(metadata.signed)
        try:
            roles.verify(metadata, self._keys(Targets.type))
        except MetadataError as error:
            raise UntrustedError(str(error)) from error
        self.delegated.take_targets(parent)

    def read_snapshot(self, version: int, content: bytes) -> dict[str, int]:
        """Check a snapshot.

        Args:
            version: the version recorded on the log.
            content: bytes of the snapshot file.

        Returns:
            Role name to version.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if the signatures are the reason.
        """
        return read_snapshot(self._check(Snapshot.type, version, content, self._keys(Snapshot.type)))

    def read_timestamp(self, version: int, content: bytes) -> SnapshotRef:
        """Check a timestamp.

        Args:
            version: the version recorded on the log.
            content: bytes of the timestamp file.

        Returns:
            The snapshot that it names.

        Raises:
            MetadataError: if a client would refuse it.
        """
        return read_timestamp(self._check(Timestamp.type, version, content, self._keys(Timestamp.type)))

    def is_valid(self, role: str, version: int, content: bytes) -> bool:
        """Return whether clients accept a versioned file, which may come from another log than this one.

        Args:
            role: role of the file; not root.
            version: the version in the file's name.
            content: bytes of the file.
        """
        try:
            if role == Targets.type:
                roles.verified(Targets, content, self._keys(Targets.type))
            elif role == Snapshot.type:
                self.read_snapshot(version, content)
            else:
                self.delegated.verify(role, version, content)
        except MetadataError:
            return False
        return True

    def _keys(self, role: str) -> RoleKeys:
        if self._root is None:
            raise UntrustedError(f"{role} comes before any root")
        return roles.root_keys(self._root, role)

    def _check(self, role: str, version: int, content: bytes, keys: RoleKeys) -> msgspec.Raw:
        file = read_file(role, role, version, content)
        verify(role, file, keys)
        return file.signed
