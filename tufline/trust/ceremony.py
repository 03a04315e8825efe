"""The ceremony that starts a repository: it makes the keys, and signs the bootstrap payload with them.

There are two modes. In PEP 458's mode, root and targets are signed offline, each by a threshold of keys; targets delegates to the bins,
which are signed online, as are snapshot and timestamp. In RSTUF's mode, targets is made and signed online too, by the signer. Each online
role has the key that the plan names (for example in Vault); the other online roles share a key that is made here, for a file.
"""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Delegations, Metadata, Role, Root, Snapshot, SuccinctRoles, Targets, Timestamp

from tufline.metadata.bins import DEFAULT_NAME_PREFIX, BinLayout
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import with_fields
from tufline.metadata.profiles import STANDARD
from tufline.trust.roles import BINS, ROLE_FIELD

PEP458: Final = "pep458"
RSTUF: Final = "rstuf"

ONLINE_KEY_FILE: Final = "online.pem"

DEFAULT_DAYS: Final[Mapping[str, int]] = MappingProxyType({"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "bins": 7})
"""Lifetimes of the roles' metadata, in days: long where people sign, short where the signer renews."""

ONLINE_ROLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {PEP458: ("timestamp", "snapshot", BINS), RSTUF: ("timestamp", "snapshot", BINS, "targets")}
)
"""The roles that are signed online in each mode."""

KEY_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Plan:
    """The initial keys and settings of a repository.

    Attributes:
        bins: the number of bins; a power of two, 2 to 16,384.
        mode: ``PEP458`` or ``RSTUF``.
        scheme: the scheme of all new keys: ``ecdsa`` (P-256) or ``ed25519``.
        root_keys: how many root keys to make.
        root_threshold: how many of them must sign.
        targets_keys: how many targets keys to make; only used in PEP 458's mode.
        targets_threshold: how many of them must sign.
        days: role to lifetime, in days.
        online: online role to its public key, with the URI of the private key; the other online roles share a new key.
        profile: the clients that must be able to read the repository (``tufline.metadata.profiles``).
    """

    bins: int
    mode: str = PEP458
    scheme: str = "ecdsa"
    root_keys: int = 3
    root_threshold: int = 2
    targets_keys: int = 3
    targets_threshold: int = 2
    days: Mapping[str, int] = field(default_factory=lambda: DEFAULT_DAYS)
    online: Mapping[str, Key] = field(default_factory=dict)
    profile: str = STANDARD


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key pair.

    Attributes:
        signer: signs with the private key, and has the public key.
        pem: the private key as unencrypted PKCS#8 PEM.
    """

    signer: CryptoSigner
    pem: bytes

    def encrypted(self, passphrase: str | None) -> bytes:
        """Return the private key as PKCS#8 PEM.

        Args:
            passphrase: encrypts it; None for no encryption.
        """
        if passphrase is None:
            return self.pem
        private = load_pem_private_key(self.pem, None)
        return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))


@dataclass(frozen=True, slots=True)
class Ceremony:
    """The keys of a new repository, and the metadata that they signed.

    Attributes:
        root: the root keys.
        targets: the targets keys; empty in RSTUF's mode.
        online: the new online key; None if the plan names a key for every online role.
        root_json: the signed root, which clients start from.
        payload: the body for POST /api/v1/bootstrap/.
    """

    root: list[NewKey]
    targets: list[NewKey]
    online: NewKey | None
    root_json: bytes
    payload: dict[str, Any]


def make_key(scheme: str, uri: str | None = None) -> NewKey:
    """Make a key pair.

    Args:
        scheme: ``ecdsa`` or ``ed25519``.
        uri: the URI by which the signer finds the private key; None for an offline key.

    Returns:
        The pair.
    """
    private = Ed25519PrivateKey.generate() if scheme == "ed25519" else generate_private_key(SECP256R1())
    signer = CryptoSigner(private)
    if uri is not None:
        signer = CryptoSigner(private, with_fields(signer.public_key, **{ONLINE_KEY_URI: uri}))
    return NewKey(signer, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def hold(plan: Plan, now: datetime | None = None) -> Ceremony:
    """Make all keys, and sign the first metadata of a repository.

    Args:
        plan: the initial keys and settings.
        now: the time from which lifetimes count; None for the current time.

    Returns:
        The keys and the payload.

    Raises:
        ValueError: if the number of bins is not valid, a threshold exceeds the number of keys, or a key is named for an offline role.
    """
    root_keys = [make_key(plan.scheme) for _ in range(plan.root_keys)]
    targets_keys = [make_key(plan.scheme) for _ in range(plan.targets_keys)] if plan.mode == PEP458 else []
    made, online = _online_keys(plan)
    metadata = first_metadata(plan, _publics(root_keys), _publics(targets_keys), online, now or datetime.now(UTC))
    _sign(metadata[Root.type], root_keys[: plan.root_threshold])
    if Targets.type in metadata:
        _sign(metadata[Targets.type], targets_keys[: plan.targets_threshold])
    return Ceremony(root_keys, targets_keys, made, metadata[Root.type].to_bytes(), payload(plan, metadata))


def first_metadata(
    plan: Plan, root_keys: Sequence[Key], targets_keys: Sequence[Key], online: Mapping[str, Key], now: datetime
) -> dict[str, Metadata[Any]]:
    """Make the first root of a repository, and the first targets if people sign it.

    Args:
        plan: the initial settings; its numbers of keys are not used.
        root_keys: the public keys of root.
        targets_keys: the public keys of targets; none in RSTUF's mode.
        online: the public key of each online role, with the URI of the private key.
        now: the time from which lifetimes count.

    Returns:
        Role to its metadata, without signatures.

    Raises:
        ValueError: if the number of bins is not valid, or a threshold exceeds the number of keys.
    """
    layout, began = BinLayout.of(plan.bins), now.replace(microsecond=0)
    # By default python-tuf puts the roles in the order of a set, which differs from process to process.
    roles_of_root = {role: Role([], 1) for role in (Root.type, Targets.type, Snapshot.type, Timestamp.type)}
    root = Root(expires=began + timedelta(days=plan.days["root"]), roles=roles_of_root, consistent_snapshot=True)
    _assign_keys(root, Root.type, root_keys, plan.root_threshold)
    if plan.mode == PEP458:
        _assign_keys(root, Targets.type, targets_keys, plan.targets_threshold)
    else:
        _assign_keys(root, Targets.type, [online[Targets.type]], 1)
    for role in (Snapshot.type, Timestamp.type):
        _assign_keys(root, role, [online[role]], 1)
    of_bins = online[BINS]
    if plan.mode == RSTUF and of_bins.keyid not in root.roles[Targets.type].keyids:
        of_bins = _marked_for_bins(of_bins)
        root.keys[of_bins.keyid] = of_bins
    metadata: dict[str, Metadata[Any]] = {Root.type: Metadata(root)}
    if plan.mode == PEP458:
        bins = SuccinctRoles([of_bins.keyid], 1, layout.bit_length, DEFAULT_NAME_PREFIX)
        delegations = Delegations({of_bins.keyid: of_bins}, succinct_roles=bins)
        metadata[Targets.type] = Metadata(Targets(expires=began + timedelta(days=plan.days["targets"]), delegations=delegations))
    return metadata


def payload(plan: Plan, metadata: Mapping[str, Metadata[Any]]) -> dict[str, Any]:
    """Make the body for POST /api/v1/bootstrap/.

    Args:
        plan: the initial settings.
        metadata: role to its first metadata, with signatures.

    Returns:
        The body.
    """
    roles: dict[str, dict[str, int]] = {role: {"expiration": days} for role, days in plan.days.items()}
    roles["bins"]["number_of_delegated_bins"] = plan.bins
    return {
        "settings": {"roles": roles, "client_profile": plan.profile},
        "metadata": {role: signed.to_dict() for role, signed in metadata.items()},
        "timeout": 300,
    }


def _online_keys(plan: Plan) -> tuple[NewKey | None, dict[str, Key]]:
    roles = ONLINE_ROLES[plan.mode]
    for role in plan.online:
        if role not in roles:
            raise ValueError(f"{role} has no online key in the mode {plan.mode}: name keys only for {', '.join(roles)}")
    online = {role: copy.deepcopy(key) for role, key in plan.online.items()}
    if online.keys() == set(roles):
        return None, online
    made = make_key(plan.scheme, f"fn:{ONLINE_KEY_FILE}")
    return made, {role: online.get(role, made.signer.public_key) for role in roles}


def _marked_for_bins(key: Key) -> Key:
    assert isinstance(key, SSlibKey)
    return with_fields(key, **{ROLE_FIELD: BINS})


def _publics(keys: list[NewKey]) -> list[Key]:
    return [key.signer.public_key for key in keys]


def _assign_keys(root: Root, role: str, keys: Sequence[Key], threshold: int) -> None:
    if not 1 <= threshold <= len(keys):
        raise ValueError(f"a threshold of {threshold} for {role} can't be met by {len(keys)} keys")
    for key in keys:
        root.add_key(key, role)
    root.roles[role].threshold = threshold


def _sign(metadata: Metadata[Any], keys: list[NewKey]) -> None:
    for key in keys:
        metadata.sign(key.signer, append=True)


def write_private(path: Path, pem: bytes) -> None:
    """Write a private key to a new file that only its owner can read.

    Args:
        path: the file, which must not exist.
        pem: the private key.

    Raises:
        FileExistsError: if the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)


def write(ceremony: Ceremony, out: Path, passphrase: str | None) -> None:
    """Write keys and payload: ``offline/``, ``online/`` if an online key was made, ``root.json``, ``bootstrap.json``.

    The online key is not encrypted, because a signer reads it without a person to type a passphrase.

    Args:
        ceremony: the keys and the payload.
        out: the directory; no file in it is overwritten.
        passphrase: encrypts the offline keys; None for no encryption.

    Raises:
        FileExistsError: if one of the files exists.
    """
    for role, keys in (("root", ceremony.root), ("targets", ceremony.targets)):
        for number, key in enumerate(keys, 1):
            write_private(out / "offline" / f"{role}-{number}.pem", key.encrypted(passphrase))
    if ceremony.online is not None:
        write_private(out / "online" / ONLINE_KEY_FILE, ceremony.online.pem)
    for name, content in (("root.json", ceremony.root_json), ("bootstrap.json", json.dumps(ceremony.payload, indent=1).encode())):
        with (out / name).open("xb") as file:
            file.write(content)
