"""Custom roles whose keys only people have: their next versions, and the signatures of these. Pure.

In: a role's newest version, its pending changes, and signatures one by one. Out: the bytes to sign, the same in each process; and the
signatures so far, or the reason why one is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tufline.errors import BinFullError, InvalidUpdateError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.metadata.delegations import Delegation, Delegations
from tufline.metadata.envelope import SignatureEntry
from tufline.metadata.target import TargetEntry
from tufline.records import Proposed, RoleSignature
from tufline.records.routing import AcceptedDelegations
from tufline.trust import client_rules
from tufline.trust.delegated import keys_of
from tufline.trust.roles import RoleKeys
from tufline.trust.signing import SHOWN_KEYID, Missing

NOT_LISTED: Final = "GET /api/v1/metadata/sign lists the versions that wait"


class PendingChange(NamedTuple):
    """A change of a role that people sign, and its position on the log: the ``nth`` of the record at ``offset``.

    Without an entry, ``path`` is removed.
    """

    offset: int
    nth: int
    role: str
    path: str
    entry: bytes | None


def kept_since(versions: Sequence[AcceptedDelegations], role: str, since: int, admin: int) -> list[Delegation]:
    """Return what a role has been by the versions of the delegations between two offsets.

    Args:
        versions: the versions of the delegations.
        role: the role's name.
        since: an offset in ``admin``.
        admin: a later one.

    Returns:
        The role by each version that has it.
    """
    found = (version.delegations.find(role) for version in versions if since <= version.offset < admin)
    return [delegation for delegation in found if delegation is not None]


def next_content(base: Bin, kept: Sequence[Delegation], changes: Iterable[PendingChange]) -> Bin:
    """Make the content of a role's next version.

    Args:
        base: the content of the version before; changed in place.
        kept: what the role has been since that version: paths that one of these does not match are dropped.
        changes: the pending changes.

    Returns:
        The content.
    """
    base.keep(lambda path: all(delegation.matches(path) for delegation in kept))
    for change in sorted(changes, key=lambda change: (change.offset, change.nth)):
        if change.entry is None:
            base.remove(change.path)
        else:
            try:
                base.add(TargetEntry(change.path, change.entry))
            except BinFullError:  # it fitted when it was accepted, before signatures were withdrawn; the others must not wait for it
                continue
    return base


def missing(proposed: Proposed, keys: RoleKeys) -> Missing:
    """Return the signatures that a version still needs.

    Args:
        proposed: the version.
        keys: the role's keys.
    """
    unsigned = sorted(keys.keys.keys() - proposed.signatures.keys())
    return Missing(keys.threshold - len(proposed.signatures), {keyid: keys.keys[keyid] for keyid in unsigned})


def find_keys(role: str, delegations: Delegations) -> RoleKeys:
    """Return the keys of a role that people sign.

    Args:
        role: its name.
        delegations: the newest delegations.

    Raises:
        InvalidUpdateError: if there is no such role, or the signer signs it.
    """
    delegation = delegations.find(role)
    if delegation is None:
        raise InvalidUpdateError(f"there is no custom role {role[:64]!r}: {NOT_LISTED}")
    if role not in delegations.offline:
        raise InvalidUpdateError(f"the signer signs the custom role {role!r} itself: {NOT_LISTED}")
    return keys_of(delegation, delegations)


def check_current(signature: RoleSignature, proposed: Proposed | None) -> Proposed:
    """Refuse a signature, or a withdrawal, that is not of the version that waits.

    Args:
        signature: the signature.
        proposed: the version that waits; None if none does.

    Returns:
        The version that waits.

    Raises:
        InvalidUpdateError: with the reason and what to do.
    """
    if proposed is None or not proposed.version:
        raise InvalidUpdateError(f"no version of {signature.role[:64]!r} waits for signatures: {NOT_LISTED}")
    if (signature.version, signature.sha256) != (proposed.version, proposed.sha256):
        raise InvalidUpdateError(
            f"{signature.role} version {signature.version} is not the one that waits now, which has other content: read and sign the one "
            "that GET /api/v1/metadata/sign returns"
        )
    return proposed


def sign(signature: RoleSignature, proposed: Proposed | None, signed: bytes, keys: RoleKeys) -> dict[str, str]:
    """Judge a signature.

    Args:
        signature: the signature.
        proposed: the version that waits; None if none does.
        signed: the bytes to sign.
        keys: the role's keys in the newest delegations.

    Returns:
        Keyid to signature, with the new one.

    Raises:
        InvalidUpdateError: if it is not valid or not needed, with the reason and what to do.
    """
    proposed, keyid = check_current(signature, proposed), signature.keyid
    name = f"{signature.role} version {proposed.version}"
    key = keys.keys.get(keyid)
    if key is None:
        raise InvalidUpdateError(f"the signature's keyid {keyid[:64]!r} is not one of the keys that sign {name}: sign with one of those")
    if keyid in proposed.signatures:
        raise InvalidUpdateError(f"the key {keyid[:SHOWN_KEYID]} has signed {name} already: sign with another one")
    if not envelope.is_signed_by(key, SignatureEntry(keyid, signature.sig), signed):
        raise InvalidUpdateError(
            f"the signature by the key {keyid[:SHOWN_KEYID]} is not valid for {name}: sign exactly the metadata that "
            "GET /api/v1/metadata/sign returns"
        )
    signatures = {**proposed.signatures, keyid: signature.sig}
    try:
        client_rules.check_signatures([{"keyid": one, "sig": sig} for one, sig in signatures.items()], keys.keys)
    except MetadataError as error:
        raise InvalidUpdateError(str(error)) from error
    return signatures


def assemble(signed: bytes, signatures: Mapping[str, str]) -> bytes:
    """Make the file of a version, or what it has so far.

    Args:
        signed: the bytes to sign.
        signatures: keyid to signature.

    Returns:
        The file.
    """
    return envelope.assemble(signed, [SignatureEntry(keyid, sig) for keyid, sig in signatures.items()])
