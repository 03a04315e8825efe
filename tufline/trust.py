"""Trust: what a repository begins with, who may sign what, and the state that all services fold from the topic ``admin``.

Workflow. A bootstrap payload brings a root signed by its own threshold (TUF specification, 5.3.8) and settings. In PEP 458's mode it
brings targets too, signed offline, which delegate to the bins; in RSTUF's mode the root names an online key for targets, and the signer
makes them. ``check_bootstrap`` refuses at the edge what clients would refuse or the signer could not sign. ``fold`` is applied by every
service to the same records in the same order, so that all come to the same state; it takes the time from the record, so that they come to
it whenever they read it.

Root and targets are rare and small: all of it is python-tuf's own API. No I/O, no clock.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Delegations, Metadata, Root, SuccinctRoles, Targets
from tuf.api.serialization.json import CanonicalJSONSerializer

from tufline import canonical, metafile, records
from tufline.bins import BinLayout
from tufline.bus import Record
from tufline.errors import InvalidBootstrapError, InvalidInputError, MetadataError, RecordError, SchemaError
from tufline.records import Bootstrap, Settings

ONLINE_KEY_URI: Final = "x-rstuf-online-key-uri"
"""Field of a key object that says where the signer finds its private part (RSTUF's name for it)."""

MAX_ROOT_BYTES: Final = 500_000
"""The largest root we take: python-tuf's client refuses one over 512,000 bytes."""

MAX_TARGETS_BYTES: Final = 4_000_000
"""The largest top-level targets we take: python-tuf's client refuses 5,000,000 bytes."""

NO_BINS: Final = "targets does not delegate to hash bins (delegations.succinct_roles, TAP 15)"

SignedRole = TypeVar("SignedRole", Root, Targets)


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who signs a role.

    Attributes:
        keys: keyid to public key.
        threshold: how many of them must sign.
    """

    keys: Mapping[str, Key]
    threshold: int

    @property
    def online(self) -> dict[str, str]:
        """Keyid to the URI of its private part, of the keys that have one."""
        uris = {keyid: key.unrecognized_fields.get(ONLINE_KEY_URI) for keyid, key in self.keys.items()}
        return {keyid: uri for keyid, uri in uris.items() if isinstance(uri, str) and uri}

    def verify(self, role: str, content: metafile.MetaFile) -> None:
        """Verify that enough of the keys signed a file.

        Args:
            role: its name, for the message.
            content: the file.

        Raises:
            MetadataError: if not.
        """
        metafile.verify_threshold(role, content, dict(self.keys), list(self.keys), self.threshold)


def root_keys(root: Root, role: str) -> RoleKeys:
    """Say who signs a top-level role.

    Args:
        root: the trusted root.
        role: ``root``, ``targets``, ``snapshot`` or ``timestamp``.

    Returns:
        Its keys.
    """
    of_role = root.roles[role]
    return RoleKeys({keyid: root.keys[keyid] for keyid in of_role.keyids if keyid in root.keys}, of_role.threshold)


def bin_keys(targets: Targets) -> RoleKeys:
    """Say who signs the bins.

    Args:
        targets: the trusted top-level targets.

    Returns:
        The keys of its ``succinct_roles``.

    Raises:
        MetadataError: if it does not delegate to hash bins.
    """
    if targets.delegations is None or targets.delegations.succinct_roles is None:
        raise MetadataError(NO_BINS)
    of_bins, keys = targets.delegations.succinct_roles, targets.delegations.keys
    return RoleKeys({keyid: keys[keyid] for keyid in of_bins.keyids if keyid in keys}, of_bins.threshold)


def bins_prefix(targets: Mapping[str, Any]) -> str:
    """Say how the bins are named in targets that came in a request.

    Args:
        targets: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The name prefix.

    Raises:
        MetadataError: if it is not targets metadata that delegate to hash bins.
    """
    delegations = parse(Targets, targets).signed.delegations
    if delegations is None or delegations.succinct_roles is None:
        raise MetadataError(NO_BINS)
    return delegations.succinct_roles.name_prefix


def parse(role: type[SignedRole], content: bytes | Mapping[str, Any]) -> Metadata[SignedRole]:
    """Read root or targets metadata with python-tuf.

    Args:
        role: ``Root`` or ``Targets``.
        content: the file, or the object in it.

    Returns:
        The metadata; nothing about it is verified yet.

    Raises:
        MetadataError: if it is not metadata of that role.
    """
    try:
        if isinstance(content, bytes):
            metadata = Metadata[SignedRole].from_bytes(content)
        else:
            metadata = Metadata[SignedRole].from_dict(copy.deepcopy(dict(content)))
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise MetadataError(f"not {role.type} metadata: {detail}") from error
    if not isinstance(metadata.signed, role):
        raise MetadataError(f"this is {metadata.signed.type} metadata, not {role.type}")
    return metadata


def verified(role: type[SignedRole], content: bytes | Mapping[str, Any], keys: RoleKeys) -> SignedRole:
    """Read root or targets metadata, and verify its signatures.

    Always by this, never over the bytes of the file: a PEM key has newlines, which stand raw in what is signed and escaped in the file.

    Args:
        role: ``Root`` or ``Targets``.
        content: the file, or the object in it.
        keys: who must have signed it.

    Returns:
        The role.

    Raises:
        MetadataError: if it is not metadata of that role, or not signed by enough of the keys.
    """
    metadata = parse(role, content)
    signatures = [metafile.SignatureEntry(keyid, signature.signature) for keyid, signature in metadata.signatures.items()]
    keys.verify(role.type, metafile.MetaFile(signatures, msgspec.Raw(metadata.signed_bytes)))
    return metadata.signed


def file_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Write metadata that came as an object in a request as the file that clients get.

    Args:
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The file.
    """
    return canonical.encode({"signatures": metadata["signatures"], "signed": metadata["signed"]})


def _check(role: type[SignedRole], content: Mapping[str, Any], most_bytes: int, now: datetime) -> SignedRole:
    canonical.check(dict(content), f"metadata.{role.type}", newlines=True)
    signed = parse(role, content).signed
    size = len(file_bytes(content))
    if size > most_bytes:
        raise InvalidBootstrapError(f"{role.type} is {size} bytes; TUF clients take at most {most_bytes}")
    if signed.is_expired(now):
        raise InvalidBootstrapError(f"{role.type} has expired on {signed.expires:%Y-%m-%d}: sign a newer one")
    return signed


def _check_online(role: str, keys: RoleKeys) -> None:
    if len(keys.online) < keys.threshold:
        raise InvalidBootstrapError(
            f"{role} needs {keys.threshold} online key(s), but {len(keys.online)} of its keys say where the signer finds them: "
            f"add {ONLINE_KEY_URI!r} to the key object, such as 'fn:<file>' for a file in the signer's key directory"
        )


def _check_bins(settings: Settings, targets: Targets) -> None:
    keys = bin_keys(targets)
    of_bins = targets.delegations.succinct_roles if targets.delegations else None
    if of_bins is None or of_bins.bit_length != settings.layout.bit_length:
        found = 0 if of_bins is None else of_bins.number_of_bins
        raise InvalidBootstrapError(f"targets delegates to {found} bins, but settings.roles.bins says {settings.number_of_bins}")
    if of_bins.name_prefix != settings.name_prefix:
        raise InvalidBootstrapError(f"targets names its bins {of_bins.name_prefix!r}, but the settings say {settings.name_prefix!r}")
    _check_online("bins", keys)


def check_bootstrap(bootstrap: Bootstrap, now: datetime) -> None:
    """Refuse a beginning that clients would refuse, or that the signer could not go on from.

    Args:
        bootstrap: the payload.
        now: with a time zone.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    try:
        BinLayout.of(bootstrap.settings.number_of_bins)
        root = _check(Root, bootstrap.root, MAX_ROOT_BYTES, now)
        if not root.consistent_snapshot:
            raise InvalidBootstrapError("root must have consistent_snapshot true: clients would else read files that are being replaced")
        verified(Root, bootstrap.root, root_keys(root, Root.type))
        for role in ("timestamp", "snapshot"):
            _check_online(role, root_keys(root, role))
        if bootstrap.targets is None:
            _check_online("targets", root_keys(root, "targets"))
        else:
            _check(Targets, bootstrap.targets, MAX_TARGETS_BYTES, now)
            _check_bins(bootstrap.settings, verified(Targets, bootstrap.targets, root_keys(root, Targets.type)))
    except InvalidBootstrapError:
        raise
    except (InvalidInputError, MetadataError, ValueError) as error:
        raise InvalidBootstrapError(str(error)) from error


def make_targets(root: Root, settings: Settings, version: int, expires: datetime) -> tuple[bytes, bytes]:
    """Make targets that are online (RSTUF's mode): nothing but the delegation to the bins.

    Args:
        root: the trusted root.
        settings: what was settled at bootstrap.
        version: of targets.
        expires: when it expires.

    Returns:
        The canonical bytes to sign, and the same as it stands in the file; see ``verified``.
    """
    online = root_keys(root, Targets.type)
    layout = settings.layout
    bins = SuccinctRoles(list(online.keys), online.threshold, layout.bit_length, layout.name_prefix)
    targets = Targets(
        version=version,
        spec_version=metafile.SPEC_VERSION,
        expires=expires.astimezone(UTC).replace(microsecond=0),
        delegations=Delegations(keys=dict(online.keys), succinct_roles=bins),
    )
    return CanonicalJSONSerializer().serialize(targets), canonical.encode(targets.to_dict())


@dataclass(frozen=True, slots=True)
class AdminState:
    """What all records of ``admin`` up to an offset come to.

    Attributes:
        next_offset: of the next record to apply.
        bootstrap: the one that counts; None before.
        bootstrap_offset: of its record in ``admin``; -1 before.
        refused: offset of a record that did not count, to the reason.
    """

    next_offset: int = 0
    bootstrap: Bootstrap | None = None
    bootstrap_offset: int = -1
    refused: Mapping[int, str] = field(default_factory=dict)


def fold(state: AdminState, record: Record) -> AdminState:
    """Apply one record of ``admin``.

    Args:
        state: before it.
        record: the next one.

    Returns:
        The state after it. A record that can't count (a second bootstrap, say) changes nothing but ``refused``.

    Raises:
        SchemaError: if it has a newer schema: this version must not go on.
    """
    state = replace(state, next_offset=record.offset + 1)
    try:
        content = records.decode(records.admin_decoder, record.value)
        if state.bootstrap is not None:
            raise InvalidBootstrapError("the repository had been bootstrapped already")
        check_bootstrap(content, datetime.fromtimestamp(record.time / 1000, UTC))
    except SchemaError:
        raise
    except (InvalidBootstrapError, RecordError) as error:
        return replace(state, refused={**state.refused, record.offset: str(error)})
    return replace(state, bootstrap=content, bootstrap_offset=record.offset)
