"""Trust: the rules for a bootstrap, for root and for targets.

A bootstrap payload has settings, and a root signed by its own threshold (TUF specification, 5.3.8). In PEP 458's mode it also has targets,
signed offline, which delegates to the bins; in RSTUF's mode the root names an online key for targets, and the signer makes targets.
``check_bootstrap`` refuses a bootstrap that clients would refuse, or whose roles the signer could not sign. ``tufline.trust.acceptance``
does the same for the versions that follow, with the checks in this module.

Root and targets are rare and small, so all of this uses python-tuf's own API. No I/O, no clock.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from tuf.api.metadata import Delegations, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import CanonicalJSONSerializer

from tufline.errors import InvalidBootstrapError, InvalidInputError, MetadataError
from tufline.metadata import canonical, envelope, key_uris, profiles
from tufline.metadata.bins import BinLayout
from tufline.metadata.delegations import Delegations as CustomDelegations
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.profiles import Profile
from tufline.records import FIRST_RULES, Bootstrap, Settings
from tufline.records.partitioning import check_partitions, partition_bits
from tufline.trust import client_rules
from tufline.trust.delegated import delegated_by, delegations_to, delegations_to_bins, read_delegated
from tufline.trust.roles import BINS, RoleKeys, SignedRole, bin_keys, catch_all_of, online_bin_keys, parse, read_file, root_keys, verified

MAX_BYTES: Final[Mapping[str, int]] = MappingProxyType({Root.type: 500_000, Targets.type: 4_000_000})
"""The largest root and top-level targets that are accepted: python-tuf's client refuses more than 512,000 and 5,000,000 bytes."""

MAX_EXPIRATION_DAYS: Final = 3_650
"""The longest lifetime of metadata that is accepted, in days."""


def check_submitted(role: type[SignedRole], content: Mapping[str, Any], now: datetime) -> SignedRole:
    """Refuse submitted root or targets that clients would refuse even with all signatures.

    Args:
        role: ``Root`` or ``Targets``.
        content: the object, ``{"signatures": […], "signed": {…}}``.
        now: a time with a time zone.

    Returns:
        The role, which still has to pass ``check_form`` and ``verified``.

    Raises:
        MetadataError: with the reason.
        InvalidInputError: if it has no canonical form.
    """
    canonical.check(dict(content), f"metadata.{role.type}", newlines=True)
    signed = parse(role, content).signed
    size, most_bytes = len(read_file(role.type, content)[0]), MAX_BYTES[role.type]
    if size > most_bytes:
        raise MetadataError(f"{role.type} has {size} bytes, but TUF clients accept at most {most_bytes}")
    if signed.is_expired(now):
        raise MetadataError(f"{role.type} expired on {signed.expires:%Y-%m-%d}: sign a newer version")
    return signed


def check_form(signed: Root | Targets, content: Mapping[str, Any], rules: int, profile: Profile, known: Collection[str] = ()) -> None:
    """Refuse root or targets that not all clients read the same way.

    Args:
        signed: the signed part, read by python-tuf.
        content: the object, ``{"signatures": […], "signed": {…}}``.
        rules: the version of the rules to apply.
        profile: the repository's profile.
        known: the keyids of the previous root.

    Raises:
        MetadataError: with the reason.
    """
    if rules == FIRST_RULES:
        return
    client_rules.check(content, profile, known)
    envelope.parse_expires(content["signed"]["expires"])
    if canonical.encode(signed.to_dict()) != canonical.encode(content["signed"]):
        raise MetadataError(f"python-tuf would write this {signed.type} differently: sign the form that its to_dict() returns")


def check_online(role: str, keys: RoleKeys, rules: int) -> None:
    """Refuse keys of a role that the signer can't find.

    Args:
        role: the role's name, for the error message.
        keys: its keys and threshold.
        rules: the version of the rules to apply.

    Raises:
        MetadataError: with the reason and what to do.
    """
    if rules > FIRST_RULES:
        for keyid, uri in keys.online.items():
            try:
                key_uris.check(uri)
            except InvalidInputError as error:
                raise MetadataError(f"the signer can't find the key {keyid[:12]} of {role}: {error}") from error
    if len(keys.online) < keys.threshold:
        raise MetadataError(
            f"{role} needs {keys.threshold} online key(s), but {len(keys.online)} of its keys have a URI by which the signer finds them: "
            f"add {ONLINE_KEY_URI!r} to the key object, such as 'vault:<mount>/<key>#<version>' for a key in Vault, or 'fn:<file>' for a "
            f"file in the signer's key directory"
        )


def check_root_roles(root: Root, *, targets_online: bool, rules: int) -> None:
    """Refuse a root under which clients or the signer would fail.

    Args:
        root: the submitted root.
        targets_online: whether the signer makes targets.
        rules: the version of the rules to apply.

    Raises:
        MetadataError: with the reason and what to do.
    """
    if not root.consistent_snapshot:
        raise MetadataError("root must have consistent_snapshot true: otherwise clients would read files that are being replaced")
    for role in (Timestamp.type, Snapshot.type, *([Targets.type] if targets_online else [])):
        check_online(role, root_keys(root, role), rules)
    if targets_online:
        check_online(BINS, online_bin_keys(root), rules)


def check_bins(settings: Settings, targets: Targets, rules: int) -> None:
    """Refuse targets that does not delegate to the repository's bins, or whose bins the signer can't sign.

    Args:
        settings: the repository's settings.
        targets: the submitted targets.
        rules: the version of the rules to apply.

    Raises:
        MetadataError: with the reason and what to do.
    """
    keys, catch_all = bin_keys(targets), catch_all_of(targets)
    if catch_all is not None:
        if catch_all.name != settings.name_prefix:
            raise MetadataError(f"the catch-all role is named {catch_all.name!r}, but must have the name {settings.name_prefix!r}")
        for role, of_role in read_delegated(targets).custom.items():
            check_online(role, of_role, rules)
        check_online(BINS, keys, rules)
        return
    of_bins = targets.delegations.succinct_roles if targets.delegations else None
    if of_bins is None or of_bins.bit_length != settings.layout.bit_length:
        found = 0 if of_bins is None else of_bins.number_of_bins
        raise MetadataError(f"targets delegates to {found} bins, but settings.roles.bins says {settings.number_of_bins}")
    if of_bins.name_prefix != settings.name_prefix:
        raise MetadataError(f"targets names its bins {of_bins.name_prefix!r}, but the settings say {settings.name_prefix!r}")
    check_online(BINS, keys, rules)


def profile_of(bootstrap: Bootstrap) -> Profile:
    """Return the client profile of a repository.

    Args:
        bootstrap: the repository's bootstrap.

    Returns:
        The profile that its settings name; if they name none, the one that its keys suggest.
    """
    return bootstrap.settings.client_profile or profiles.profile_of(bootstrap.root, bootstrap.targets)


def check_settings(bootstrap: Bootstrap) -> None:
    """Refuse settings with an invalid number of bins, or under which services could disagree about a bin's partition.

    Args:
        bootstrap: the payload.

    Raises:
        ValueError: with the reason and what to do.
    """
    settings = bootstrap.settings
    layout = BinLayout.of(settings.number_of_bins)
    if settings.partition_bits is None:
        return
    check_partitions(settings.partitions)
    most = partition_bits(settings.partitions, layout.number_of_bins)
    if not 0 <= settings.partition_bits <= most:
        raise ValueError(f"partition_bits is {settings.partition_bits}, but must be from 0 to {most}")
    if bootstrap.v < settings.schema:
        raise ValueError(f"a bootstrap with partition_bits must have schema version {settings.schema}, not {bootstrap.v}")


def check_unsigned(bootstrap: Bootstrap, now: datetime) -> tuple[Root, Targets | None]:
    """Refuse a bootstrap that clients would refuse even with all signatures, or whose roles the signer could not sign.

    Args:
        bootstrap: the payload.
        now: a time with a time zone.

    Returns:
        Root, and targets if it is signed offline; whether enough keys signed them is not checked.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    rules, profile = bootstrap.rules, profile_of(bootstrap)
    try:
        check_settings(bootstrap)
        root = check_submitted(Root, bootstrap.root, now)
        check_root_roles(root, targets_online=bootstrap.targets is None, rules=rules)
        check_form(root, bootstrap.root, rules, profile)
        if bootstrap.targets is None:
            return root, None
        targets = check_submitted(Targets, bootstrap.targets, now)
        check_bins(bootstrap.settings, targets, rules)
        check_form(targets, bootstrap.targets, rules, profile)
    except (InvalidInputError, MetadataError, ValueError) as error:
        raise InvalidBootstrapError(str(error)) from error
    return root, targets


def check_bootstrap(bootstrap: Bootstrap, now: datetime) -> None:
    """Refuse a bootstrap that clients would refuse, or whose roles the signer could not sign.

    Args:
        bootstrap: the payload.
        now: a time with a time zone.

    Raises:
        InvalidBootstrapError: with the reason and what to do.
    """
    root, targets = check_unsigned(bootstrap, now)
    try:
        verified(Root, bootstrap.root, root_keys(root, Root.type))
        if targets is not None and bootstrap.targets is not None:
            verified(Targets, bootstrap.targets, root_keys(root, Targets.type))
    except MetadataError as error:
        raise InvalidBootstrapError(str(error)) from error


def make_targets(root: Root, settings: Settings, custom: CustomDelegations, version: int, expires: datetime) -> tuple[bytes, bytes]:
    """Make online targets (RSTUF's mode), which has only delegations.

    Args:
        root: the trusted root.
        settings: the settings from the bootstrap.
        custom: the custom delegations.
        version: the version of targets.
        expires: when it expires.

    Returns:
        The canonical bytes to sign, and the same content in the form of the file; see ``verified``.
    """
    return _encode_targets(delegations_to(delegated_by(root, settings, custom), settings), version, expires)


def make_catch_all(online: RoleKeys, settings: Settings, version: int, expires: datetime) -> tuple[bytes, bytes]:
    """Make the catch-all role, which delegates every path to its bin (``tufline.metadata.delegations``).

    Args:
        online: the keys of the bins.
        settings: the settings from the bootstrap.
        version: the version of the role.
        expires: when it expires.

    Returns:
        As ``make_targets``.
    """
    return _encode_targets(delegations_to_bins(online, settings), version, expires)


def _encode_targets(delegations: Delegations, version: int, expires: datetime) -> tuple[bytes, bytes]:
    expires = expires.astimezone(UTC).replace(microsecond=0)
    targets = Targets(version=version, spec_version=envelope.SPEC_VERSION, expires=expires, delegations=delegations)
    return CanonicalJSONSerializer().serialize(targets), canonical.encode(targets.to_dict())
