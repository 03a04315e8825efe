"""The roles below targets as a client knows them: who delegates to them, and by which keys their files were verified. Pure.

Targets delegates to the bins, or to custom roles and to a catch-all role, which delegates to the bins (``tufline.metadata.delegations``).
The signer writes the first version of a new role before the targets that name it; a deleted role stays in every snapshot, in its last
version. Clients read neither file, and no key that clients know verifies it: ``UndelegatedError``. Such a file is published only because a
snapshot names it, so that the origin has everything that its snapshot names. Once targets names the role, the file counts only if the keys
of these targets verify it.

In: targets and the files of other roles, in the order of the log. Out: whether a commit's targets, snapshot and these files fit together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from tuf.api.metadata import SuccinctRoles, Targets

from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.bins import MAX_BIN_BYTES
from tufline.trust import roles
from tufline.trust.delegated import Delegated, read_delegated
from tufline.trust.roles import RoleKeys
from tufline_publisher.errors import EarlyError, UndelegatedError, UntrustedError

MAX_FILE_BYTES: Final = MAX_BIN_BYTES + 100_000
"""The largest accepted file, in bytes: a bin's content with its signatures."""

TARGETS_KEPT: Final = 16
"""How many versions of targets are remembered: a commit that waits may name an older one than the newest."""

FILES_KEPT: Final = 8
"""How many versions of a role are remembered as verified; a file of an older version is verified again when a commit names it."""


def read_file(role: str, kind: str, version: int, content: bytes) -> envelope.MetaFile:
    """Read a file, and refuse one that clients would reject whatever keys they trust.

    Args:
        role: name of the file's role.
        kind: the expected ``_type``.
        version: the version recorded on the log.
        content: bytes of the file.

    Returns:
        The file's signed part and its signatures, which are not verified here.

    Raises:
        MetadataError: if a client would refuse it.
    """
    if len(content) > MAX_FILE_BYTES:
        raise MetadataError(f"{role} is {len(content)} bytes, more than clients accept ({MAX_FILE_BYTES})")
    file = envelope.disassemble(content)
    common = envelope.read_common(file.signed)
    if common.type != kind or common.version != version:
        raise MetadataError(f"{role} version {version} describes itself as {common.type} version {common.version}")
    envelope.parse_expires(common.expires)
    if not file.signatures:
        raise MetadataError(f"{role} version {version} has no signature")
    return file


def verify(role: str, file: envelope.MetaFile, keys: RoleKeys) -> None:
    """Verify that enough keys signed a file.

    Args:
        role: name of the file's role.
        file: the file.
        keys: the keys of the role.

    Raises:
        UntrustedError: if too few of them did.
    """
    try:
        keys.verify(role, file)
    except MetadataError as error:
        raise UntrustedError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Parent:
    """A version of targets, as far as it delegates.

    Attributes:
        version: the version of targets.
        delegated: the roles to which it delegates.
        named: name to keys, for the roles that it names one by one: the custom roles, and the catch-all role.
        bins: how the names of the bins start.
    """

    version: int
    delegated: Delegated
    named: Mapping[str, RoleKeys]
    bins: str

    @classmethod
    def read(cls, targets: Targets) -> "Parent":
        """Read the delegations of targets.

        Args:
            targets: the signed part of targets.

        Returns:
            The roles to which it delegates.

        Raises:
            MetadataError: if it does not delegate to hash bins.
        """
        delegated = read_delegated(targets)
        catch_all = delegated.catch_all
        named = {**delegated.custom, **({} if catch_all is None else {catch_all: delegated.bins})}
        return cls(targets.version, delegated, named, f"{catch_all or _bins_of(targets).name_prefix}-")

    def keys_of(self, role: str) -> RoleKeys | None:
        """Return the keys of a role.

        Args:
            role: the name of any role.

        Returns:
            Its keys; None if targets delegates neither to it nor to a role that does.
        """
        return self.delegated.bins if role.startswith(self.bins) else self.named.get(role)

    def has_keys(self, role: str, keys: RoleKeys) -> bool:
        """Return whether targets names a role by certain keys.

        Args:
            role: the name of a custom role, or of the catch-all role.
            keys: the keys.
        """
        found = self.named.get(role)
        return found is not None and roles.same_keys(found, keys)


@dataclass(frozen=True, slots=True)
class Verified:
    """How a file was verified.

    Attributes:
        keys: the keys that verified it.
        bins: the bins to which it delegates; None if it is not the catch-all role.
    """

    keys: RoleKeys
    bins: SuccinctRoles | None = None


def _bins_of(parent: Targets) -> SuccinctRoles:
    if parent.delegations is None or parent.delegations.succinct_roles is None:
        raise MetadataError(roles.NO_BINS)
    return parent.delegations.succinct_roles


class DelegatedRoles:
    """The delegated roles, as a client knows them that has followed the log so far."""

    def __init__(self) -> None:
        """Know no targets yet."""
        self._parents: dict[int, Parent] = {}
        self._newest: Parent | None = None
        self._last: Parent | None = None
        self._verified: dict[str, dict[int, Verified]] = {}
        self._unread: dict[str, int] = {}

    @property
    def newest_targets(self) -> int:
        """Version of the newest trusted targets; 0 before there are any."""
        return self._newest.version if self._newest else 0

    def take_targets(self, parent: Parent) -> None:
        """Trust a version of targets.

        Args:
            parent: its delegations; calls follow the order of the log.
        """
        self._last = self._parents[parent.version] = parent
        if self._newest is None or parent.version > self._newest.version:
            self._newest = parent
        while len(self._parents) > TARGETS_KEPT:
            del self._parents[min(self._parents)]

    def is_named(self, role: str) -> bool:
        """Return whether the newest targets names a role, as it does custom roles and the catch-all role.

        Args:
            role: name of the role.
        """
        return self._newest is not None and role in self._newest.named

    def verify(self, role: str, version: int, content: bytes) -> Verified:
        """Verify a file by the keys of the newest targets, or else of the targets that were read last.

        Args:
            role: name of the file's role.
            version: the version recorded on the log.
            content: bytes of the file.

        Returns:
            How it was verified.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if the signatures are the reason.
            UndelegatedError: if neither targets delegates to the role.
        """
        if self._newest is None or self._last is None:
            raise UntrustedError(f"{role} comes before any targets that delegate to it")
        # A publisher that reads the log again passes old targets; the files that follow may be signed only for the newest targets.
        if self._last is self._newest or self._last.keys_of(role) is None:
            return self._verify_under(self._newest, role, version, content)
        try:
            return self._verify_under(self._newest, role, version, content)
        except UntrustedError:
            return self._verify_under(self._last, role, version, content)

    def take(self, role: str, version: int, content: bytes, targets: int | None = None) -> None:
        """Verify a file, and remember by which keys.

        Args:
            role: name of the file's role.
            version: the version recorded on the log.
            content: bytes of the file.
            targets: the version of targets whose keys must verify it; None as for ``verify``.

        Raises:
            MetadataError: if a client would refuse it.
            UntrustedError: if the signatures are the reason.
            UndelegatedError: if targets does not delegate to the role.
        """
        if targets is None:
            found = self.verify(role, version, content)
        else:
            found = self._verify_under(self._parents[targets], role, version, content)
        if not any(role in parent.named for parent in self._parents.values()):
            return  # a bin, of which there are many: the signer signs them by the keys of all targets that a commit may name
        of_role = self._verified.setdefault(role, {})
        of_role[version] = found
        if len(of_role) > FILES_KEPT:
            del of_role[min(of_role)]
        if self._unread.get(role) == version:
            del self._unread[role]

    def take_unread(self, role: str, version: int, content: bytes) -> None:
        """Accept a file that a snapshot names and no client reads.

        Args:
            role: name of the file's role, to which targets does not delegate.
            version: the version recorded on the log.
            content: bytes of the file.

        Raises:
            MetadataError: if it is not a file of that role and version.
        """
        read_file(role, Targets.type, version, content)
        self._unread[role] = version

    def unverified(self, versions: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
        """Find the roles of a commit in a version that clients would refuse, for all that is known.

        Args:
            versions: role name to version, as the commit's snapshot names them.
            published: the same of the published commit; empty if its files can't be relied on.

        Returns:
            Their names: custom roles, or the catch-all role. A role of the published commit is verified if it has the same keys.

        Raises:
            MetadataError: if the snapshot lacks a role in which clients look, or its targets is unknown.
        """
        version = versions.get(Targets.type, 0)
        is_same_targets = published.get(Targets.type) == version
        parent, before = self._parents.get(version), self._parents.get(published.get(Targets.type, 0))
        if parent is None:
            if not is_same_targets:
                raise MetadataError(f"its snapshot names targets version {version}, which is not on the log any more")
            return [role for role, unread in self._unread.items() if versions.get(role) == unread != published.get(role)]
        found: list[str] = []
        for role, keys in parent.named.items():
            if role not in versions:
                raise MetadataError(f"its snapshot names no version of {role}, to which targets version {version} delegates")
            is_published = published.get(role) == versions[role]
            if is_published and (is_same_targets or (before is not None and before.has_keys(role, keys))):
                continue
            verified = self._verified.get(role, {}).get(versions[role])
            if verified is None or not roles.same_keys(verified.keys, keys):
                found.append(role)
            elif verified.bins is not None and (lost := [name for name in verified.bins.get_roles() if name not in versions]):
                raise MetadataError(f"its snapshot lacks {len(lost)} bins to which {role} delegates, such as {lost[0]}")
        return found

    def _verify_under(self, parent: Parent, role: str, version: int, content: bytes) -> Verified:
        file = read_file(role, Targets.type, version, content)
        keys = parent.keys_of(role)
        if keys is None:
            raise UndelegatedError(f"targets version {parent.version} does not delegate to {role}")
        if role == parent.delegated.catch_all:
            return Verified(keys, _verify_catch_all(role, content, keys))
        verify(role, file, keys)
        return Verified(keys)


def _verify_catch_all(role: str, content: bytes, keys: RoleKeys) -> SuccinctRoles:
    """Verify the catch-all role, and that it delegates to bins of its own name and keys, by which the bins were verified."""
    # The newlines of a PEM key are raw in the signed bytes, but escaped in the file.
    metadata = roles.parse(Targets, content)
    signatures = [envelope.SignatureEntry(keyid, signature.signature) for keyid, signature in metadata.signatures.items()]
    verify(role, envelope.MetaFile(signatures, msgspec.Raw(metadata.signed_bytes)), keys)
    bins = _bins_of(metadata.signed)
    if bins.name_prefix != role:
        raise MetadataError(f"{role} delegates to bins of another name, {bins.name_prefix!r}")
    if not roles.same_keys(roles.bin_keys(metadata.signed), keys):
        raise EarlyError(f"{role} delegates to its bins by other keys than targets names for it")
    return bins
