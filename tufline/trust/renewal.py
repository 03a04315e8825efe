"""The next versions of root and targets that people make: another lifetime, other key holders, other thresholds. Pure.

Only one version of one role is made at a time. Whatever it changes, it is released by one rule (docs/adr/0005): once everything that it
governs verifies under it. Online keys are replaced by ``tufline.trust.rotation``.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from tufline.errors import InvalidUpdateError, MetadataError
from tufline.trust import roles
from tufline.trust.roles import SignedRole
from tufline.trust.signing import SHOWN_KEYID

ROLES: Final = (Root.type, Targets.type)
"""The roles whose keys people hold."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """The changes to the keys of one role.

    Attributes:
        add: the public keys that are new.
        remove: the keyids of the keys to remove, or the first characters of these keyids.
        threshold: how many keys must sign from then on; None for no change.
    """

    add: Sequence[Key] = field(default_factory=tuple)
    remove: Sequence[str] = field(default_factory=tuple)
    threshold: int | None = None


def renewed(signed: SignedRole, expires: datetime) -> SignedRole:
    """Make the next version with the same content.

    Args:
        signed: the newest version.
        expires: when the next one expires.

    Returns:
        The next version.
    """
    following = copy.deepcopy(signed)
    following.version, following.expires = signed.version + 1, expires
    return following


def with_keys(root: Root, changes: Mapping[str, KeyChanges], expires: datetime) -> Root:
    """Make the next root, in which roles have other keys or thresholds.

    Args:
        root: the newest root.
        changes: role to its changes.
        expires: when the next version expires.

    Returns:
        The next version.

    Raises:
        InvalidUpdateError: if a change is not possible, with the reason and what to do.
    """
    following = renewed(root, expires)
    for role, change in changes.items():
        _check_role(root, role)
        keyids = [_find(root, role, keyid) for keyid in change.remove]
        for key in change.add:
            _check_new(root, role, key)
        for keyid in keyids:
            following.revoke_key(keyid, role)
        for key in change.add:
            following.add_key(copy.deepcopy(key), role)
        of_role = following.roles[role]
        threshold = of_role.threshold if change.threshold is None else change.threshold
        if not 1 <= threshold <= len(of_role.keyids):
            count = len(of_role.keyids)
            impossible = f"{role} would need {threshold} signatures, but it has {count} keys"
            raise InvalidUpdateError(f"{impossible}: add a key, or choose a threshold from 1 to {count}")
        of_role.threshold = threshold
    if following.roles == root.roles:
        raise InvalidUpdateError("no key and no threshold would change: tufline root renew signs the same keys again")
    return following


def must_be_signed_again(targets: Mapping[str, Any] | None, root: Root) -> bool:
    """Return whether people have to sign the newest targets again before a root can be released.

    Args:
        targets: the newest targets, ``{"signatures": […], "signed": {…}}``; None if the server signs them.
        root: the next root.
    """
    if targets is None:
        return False
    try:
        roles.verified(Targets, targets, roles.root_keys(root, Targets.type))
    except MetadataError:
        return True
    return False


def _check_role(root: Root, role: str) -> None:
    if role not in ROLES:
        raise InvalidUpdateError(f"people hold no keys of {role!r}: write root or targets; tufline keys rotate replaces an online key")
    if online := roles.root_keys(root, role).online:
        uri = next(iter(online.values()))
        raise InvalidUpdateError(f"{role} is signed by the online key {uri}: replace it with tufline keys rotate")


def _find(root: Root, role: str, start: str) -> str:
    found = [keyid for keyid in root.roles[role].keyids if keyid.startswith(start)]
    if not start or len(found) != 1:
        known = ", ".join(keyid[:SHOWN_KEYID] for keyid in root.roles[role].keyids)
        raise InvalidUpdateError(f"{start!r} names {len(found)} keys of {role}: its keys are {known}")
    return found[0]


def _check_new(root: Root, role: str, key: Key) -> None:
    if roles.RoleKeys({key.keyid: key}, 1).online:
        raise InvalidUpdateError(
            f"the key {key.keyid[:SHOWN_KEYID]} names a private key's URI: pass the key that tufline keys public prints"
        )
    for keyid in root.roles[role].keyids:
        if root.keys[keyid].keyval.get("public") == key.keyval.get("public"):
            raise InvalidUpdateError(f"{role} has the key {keyid[:SHOWN_KEYID]} already: add another one")
