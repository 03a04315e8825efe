"""The chain of trust as a client follows it, over the files of the log. Pure.

In: metadata files in the order of the log. Out: what they say, once signature, version, type and form are what a client accepts; everything
else is refused by an error, and changes nothing. What is refused for its signatures alone may be accepted under keys that come later, and
has an error of its own.
"""

from dataclasses import dataclass

import msgspec
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.decoding import decode
from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.bins import MAX_BIN_BYTES
from tufline.metadata.snapshot import read_snapshot
from tufline.trust import rules
from tufline.trust.rules import RoleKeys
from tufline_publisher.errors import UntrustedError

MAX_FILE_BYTES = MAX_BIN_BYTES + 100_000
"""The largest file: a bin's content with its signatures."""


class _SnapshotRef(msgspec.Struct):
    length: int
    version: int
    hashes: dict[str, str]


class _SignedTimestamp(msgspec.Struct):
    meta: dict[str, _SnapshotRef]


@dataclass(frozen=True, slots=True)
class Named:
    """The snapshot that a timestamp names.

    Attributes:
        version: of the snapshot.
        length: of its file, in bytes.
        sha256: of its file.
    """

    version: int
    length: int
    sha256: str


_timestamp_decoder = msgspec.json.Decoder(_SignedTimestamp)


def read_named(signed: bytes | msgspec.Raw) -> Named:
    """Read which snapshot a timestamp names.

    Args:
        signed: the signed part of a timestamp file.

    Returns:
        The snapshot.

    Raises:
        MetadataError: if it names none.
    """
    meta = decode(_timestamp_decoder, signed, lambda reason: MetadataError(f"timestamp does not name a snapshot: {reason}")).meta
    try:
        named = meta["snapshot.json"]
        return Named(named.version, named.length, named.hashes["sha256"])
    except KeyError as error:
        raise MetadataError(f"timestamp does not name a snapshot: {error} is missing") from error


def read_file(role: str, kind: str, version: int, content: bytes) -> envelope.MetaFile:
    """Read a file, and refuse one that no client would accept, whatever keys it trusts.

    Args:
        role: its name.
        kind: the type that it must say.
        version: that the log says it has.
        content: the file.

    Returns:
        The file, taken apart; its signatures are not verified.

    Raises:
        MetadataError: if a client would refuse it.
    """
    if len(content) > MAX_FILE_BYTES:
        raise MetadataError(f"{role} is {len(content)} bytes, more than clients take")
    file = envelope.disassemble(content)
    common = envelope.read_common(file.signed)
    if common.type != kind or common.version != version:
        raise MetadataError(f"{role} version {version} says it is {common.type} version {common.version}")
    envelope.parse_expires(common.expires)
    if not file.signatures:
        raise MetadataError(f"{role} version {version} has no signature")
    return file


def stands_under(root: bytes, timestamp: bytes, snapshot: bytes) -> bool:
    """Say whether clients that have a root accept a commit.

    Args:
        root: the file of that root.
        timestamp: the file.
        snapshot: the file that it names.

    Returns:
        Whether the root's keys signed both.
    """
    keys_of = rules.parse(Root, root).signed
    try:
        for role, content in ((Timestamp.type, timestamp), (Snapshot.type, snapshot)):
            rules.root_keys(keys_of, role).verify(role, envelope.disassemble(content))
    except MetadataError:
        return False
    return True


class Chain:
    """What a client that has followed the log so far trusts."""

    def __init__(self) -> None:
        """Trust nothing yet: the first root is taken as it comes, as a client's own is."""
        self._root: Root | None = None
        self._root_file = b""
        self._targets_version = 0
        self._newest_bins: RoleKeys | None = None
        self._bins: RoleKeys | None = None

    @property
    def root_version(self) -> int:
        """Version of the trusted root; 0 before there is one."""
        return self._root.version if self._root else 0

    @property
    def targets_version(self) -> int:
        """Version of the newest trusted targets; 0 before there are any."""
        return self._targets_version

    def check_root(self, version: int, content: bytes) -> None:
        """Take a root, as a client does: signed by the one before and by itself, one version higher (TUF specification, 5.3).

        Args:
            version: that the log says it has.
            content: the file.

        Raises:
            MetadataError: if a client would refuse it.
        """
        root = rules.parse(Root, content).signed
        if root.version != version or (self._root is not None and version > self._root.version + 1):
            raise MetadataError(f"root has version {root.version} after {self.root_version}")
        rules.verified(Root, content, rules.root_keys(root, Root.type))
        if version == self.root_version and content != self._root_file:
            raise MetadataError(f"root {version} is another one than the trusted root {version}")
        if version <= self.root_version:
            return  # a link of the chain that brought us here; clients that come from further back still need it
        if self._root is not None:
            rules.verified(Root, content, rules.root_keys(self._root, Root.type))
        self._root, self._root_file = root, content

    def check_targets(self, version: int, content: bytes) -> None:
        """Take top-level targets.

        Args:
            version: that the log says it has.
            content: the file.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if it would do so for the signatures.
        """
        targets = rules.parse(Targets, content).signed
        if targets.version != version:
            raise MetadataError(f"targets has version {targets.version}, not {version}")
        bins = rules.bin_keys(targets)
        try:
            rules.verified(Targets, content, self._keys(Targets.type))
        except MetadataError as error:
            raise UntrustedError(str(error)) from error
        self._bins = bins
        if version > self._targets_version:
            self._targets_version, self._newest_bins = version, bins

    def check_bin(self, role: str, version: int, content: bytes) -> None:
        """Check a bin.

        Args:
            role: its name.
            version: that the log says it has.
            content: the file.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if it would do so for the signatures.
        """
        if self._bins is None or self._newest_bins is None:
            raise UntrustedError(f"{role} comes before any targets that delegate to it")
        # Who reads the log again comes by old targets; what stands behind them may be signed for the newest alone.
        try:
            self._check(role, Targets.type, version, content, self._newest_bins)
        except UntrustedError:
            if self._bins is self._newest_bins:
                raise
            self._check(role, Targets.type, version, content, self._bins)

    def read_snapshot(self, version: int, content: bytes) -> dict[str, int]:
        """Check a snapshot.

        Args:
            version: that the log says it has.
            content: the file.

        Returns:
            Role name to version.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if it would do so for the signatures.
        """
        return read_snapshot(self._check(Snapshot.type, Snapshot.type, version, content, self._keys(Snapshot.type)))

    def read_timestamp(self, version: int, content: bytes) -> Named:
        """Check a timestamp.

        Args:
            version: that the log says it has.
            content: the file.

        Returns:
            The snapshot that it names.

        Raises:
            MetadataError: if a client would refuse it.
        """
        return read_named(self._check(Timestamp.type, Timestamp.type, version, content, self._keys(Timestamp.type)))

    def is_valid(self, role: str, version: int, content: bytes) -> bool:
        """Say whether clients accept a versioned file, which may be of another log than the one followed.

        Args:
            role: whose it is; not root.
            version: that its name has.
            content: the file.
        """
        try:
            if role == Targets.type:
                rules.verified(Targets, content, self._keys(Targets.type))
            elif role == Snapshot.type:
                self.read_snapshot(version, content)
            else:
                self.check_bin(role, version, content)
        except MetadataError:
            return False
        return True

    def _keys(self, role: str) -> RoleKeys:
        if self._root is None:
            raise UntrustedError(f"{role} comes before any root")
        return rules.root_keys(self._root, role)

    def _check(self, role: str, kind: str, version: int, content: bytes, keys: RoleKeys) -> msgspec.Raw:
        file = read_file(role, kind, version, content)
        try:
            keys.verify(role, file)
        except MetadataError as error:
            raise UntrustedError(str(error)) from error
        return file.signed
