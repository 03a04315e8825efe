"""The keys of each role, and the reading of root and targets that people sign. Pure.

In: root and targets as files or decoded objects. Out: python-tuf's objects, and the keys and the threshold that each role needs. Root and
targets are rare and small, so all of this uses python-tuf's own API.
"""

import copy
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Targets

from tufline.decoding import describe, shorten
from tufline.errors import MetadataError, UnreadableMetadataError
from tufline.metadata import canonical, envelope
from tufline.metadata.key_uris import ONLINE_KEY_URI

ROLE_FIELD: Final = "x-tufline-role"
"""The field of a key object in root: its value ``bins`` marks a key of the bins, if targets is online and the bins have their own keys."""

BINS: Final = "bins"

NO_BINS: Final = "targets does not delegate to hash bins (delegations.succinct_roles, TAP 15)"

SignedRole = TypeVar("SignedRole", Root, Targets)


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """The keys and the threshold of a role.

    Attributes:
        keys: keyid to public key.
        threshold: how many of them must sign.
    """

    keys: Mapping[str, Key]
    threshold: int

    @property
    def online(self) -> dict[str, str]:
        """Keyid to the URI of the private key, for the keys that have a URI."""
        uris = {keyid: key.unrecognized_fields.get(ONLINE_KEY_URI) for keyid, key in self.keys.items()}
        return {keyid: uri for keyid, uri in uris.items() if isinstance(uri, str) and uri}

    def are_met_by(self, keyids: Iterable[str]) -> bool:
        """Return whether enough of the keys signed.

        Args:
            keyids: the keyids of all valid signatures.
        """
        return are_enough(self.keys.keys(), self.threshold, keyids)

    def verify(self, role: str, content: envelope.MetaFile) -> None:
        """Verify that enough of the keys signed a file.

        Args:
            role: the role's name, for the error message.
            content: the role's file.

        Raises:
            MetadataError: if too few keys signed it.
        """
        envelope.verify_threshold(role, content, dict(self.keys), list(self.keys), self.threshold)


def are_enough(known: AbstractSet[str], threshold: int, keyids: Iterable[str]) -> bool:
    """Return whether enough of a role's keys signed.

    Args:
        known: the keyids of the role.
        threshold: how many of them must sign.
        keyids: the keyids of all valid signatures.
    """
    return len(known & set(keyids)) >= threshold


def same_keys(first: RoleKeys, second: RoleKeys) -> bool:
    """Return whether two roles have the same keys and threshold.

    Args:
        first: the keys of a role.
        second: the keys of another role, or of the same role at another time.
    """
    return first.keys.keys() == second.keys.keys() and first.threshold == second.threshold


def root_keys(root: Root, role: str) -> RoleKeys:
    """Return the keys of a top-level role.

    Args:
        root: the trusted root.
        role: ``root``, ``targets``, ``snapshot`` or ``timestamp``.

    Returns:
        The role's keys and threshold.
    """
    of_role = root.roles[role]
    return RoleKeys({keyid: root.keys[keyid] for keyid in of_role.keyids if keyid in root.keys}, of_role.threshold)


def catch_all_of(targets: Targets) -> DelegatedRole | None:
    """Return the catch-all role, to which targets delegates instead of the bins if there are custom roles.

    Args:
        targets: top-level targets.

    Returns:
        The last role that targets names, if that one takes paths by their hash; otherwise None.
    """
    named = [*targets.delegations.roles.values()] if targets.delegations is not None and targets.delegations.roles else []
    return named[-1] if named and named[-1].path_hash_prefixes is not None else None


def bin_keys(targets: Targets) -> RoleKeys:
    """Return the keys of the bins.

    Args:
        targets: the trusted top-level targets.

    Returns:
        The keys and threshold of its ``succinct_roles``, or of the catch-all role, which has the same.

    Raises:
        MetadataError: if it does not delegate to hash bins.
    """
    of_bins: Role | None = catch_all_of(targets)
    if of_bins is None and targets.delegations is not None:
        of_bins = targets.delegations.succinct_roles
    if of_bins is None or targets.delegations is None:
        raise MetadataError(NO_BINS)
    keys = targets.delegations.keys
    return RoleKeys({keyid: keys[keyid] for keyid in of_bins.keyids if keyid in keys}, of_bins.threshold)


def online_bin_keys(root: Root) -> RoleKeys:
    """Return the keys of the bins if targets is online (RSTUF's mode).

    Args:
        root: the trusted root.

    Returns:
        The keys that root marks with ``ROLE_FIELD``, any one of which suffices; if it marks none, the keys of targets. Clients learn of
        them from targets, as for any delegation.
    """
    marked = {keyid: key for keyid, key in root.keys.items() if key.unrecognized_fields.get(ROLE_FIELD) == BINS}
    return RoleKeys(marked, 1) if marked else root_keys(root, Targets.type)


def bins_prefix(targets: Mapping[str, Any]) -> str:
    """Return the prefix of the bins' names in submitted targets.

    Args:
        targets: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The name prefix.

    Raises:
        MetadataError: if it is not targets metadata that delegates to hash bins.
    """
    signed = parse(Targets, targets).signed
    if (catch_all := catch_all_of(signed)) is not None:
        return catch_all.name
    if signed.delegations is None or signed.delegations.succinct_roles is None:
        raise MetadataError(NO_BINS)
    return signed.delegations.succinct_roles.name_prefix


def parse(role: type[SignedRole], content: bytes | Mapping[str, Any]) -> Metadata[SignedRole]:
    """Read root or targets metadata with python-tuf.

    Args:
        role: ``Root`` or ``Targets``.
        content: the file's bytes, or the decoded object.

    Returns:
        The metadata, which has not been verified.

    Raises:
        MetadataError: if it is not metadata of that role.
    """
    try:
        if isinstance(content, bytes):
            metadata = Metadata[SignedRole].from_bytes(content)
        else:
            metadata = Metadata[SignedRole].from_dict(copy.deepcopy(dict(content)))
    except (RepositoryError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        detail = f"{shorten(str(error))} is missing" if isinstance(error, KeyError) else describe(error)
        raise MetadataError(f"not {role.type} metadata: {detail}") from error
    if not isinstance(metadata.signed, role):
        raise MetadataError(f"this is {metadata.signed.type} metadata, not {role.type}")
    return metadata


def verified(role: type[SignedRole], content: bytes | Mapping[str, Any], keys: RoleKeys) -> SignedRole:
    """Read root or targets metadata, and verify its signatures.

    Root and targets must always be verified by this function and never over the file's bytes: the newlines of a PEM key are raw in the
    signed bytes, but escaped in the file.

    Args:
        role: ``Root`` or ``Targets``.
        content: the file's bytes, or the decoded object.
        keys: the keys that must have signed it.

    Returns:
        The role.

    Raises:
        MetadataError: if it is not metadata of that role, or not signed by enough of the keys.
    """
    metadata = parse(role, content)
    verify(metadata, keys)
    return metadata.signed


def verify(metadata: Metadata[SignedRole], keys: RoleKeys) -> None:
    """Verify that enough keys signed root or targets.

    Args:
        metadata: what ``parse`` returned.
        keys: the keys that must have signed it.

    Raises:
        MetadataError: if too few of them did.
    """
    signatures = [envelope.SignatureEntry(keyid, signature.signature) for keyid, signature in metadata.signatures.items()]
    keys.verify(metadata.signed.type, envelope.MetaFile(signatures, msgspec.Raw(metadata.signed_bytes)))


def file_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Encode submitted metadata as the file that clients download.

    Args:
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The file's bytes.
    """
    return canonical.encode({"signatures": metadata["signatures"], "signed": metadata["signed"]})


def read_file(role: str, metadata: Mapping[str, Any]) -> tuple[bytes, envelope.CommonFields, list[str]]:
    """Read root or targets that people signed. Ingest checks submissions with the same code that the services read them with.

    Args:
        role: ``root`` or ``targets``.
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The file that clients download, the fields that all roles have, and the keyids of its signatures.

    Raises:
        UnreadableMetadataError: if it can't be published.
    """
    content = file_bytes(metadata)
    try:
        file = envelope.disassemble(content)
        return content, envelope.read_common(file.signed), [entry.keyid for entry in file.signatures]
    except MetadataError as error:
        raise UnreadableMetadataError(f"{role} can't be published: {error}") from error
