"""Replacing an online key: makes the next versions of root and targets, which people then sign offline. Pure.

In each role that has the old key, the new one replaces it; thresholds stay. The new versions name only the new key. Until they are
published the signer signs with both (``tufline_signer.signing.key_selection``), so people need to sign only once.
"""

import copy
from datetime import datetime

from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Role, Root, Targets

from tufline.metadata import keyids
from tufline.trust import roles


def _is_of_bins(keyid: str, root: Root) -> bool:
    return keyid in root.keys and root.keys[keyid].unrecognized_fields.get(roles.ROLE_FIELD) == roles.BINS


def in_place_of(old: str, root: Root, new: Key) -> Key:
    """Return the form that a new key has in the metadata when it replaces another one.

    Args:
        old: the keyid of the key to replace.
        root: the newest root.
        new: the new key.

    Returns:
        The key. If the old key is marked as the separate key of online bins, the new one has the same mark, and a keyid that covers it.
    """
    if not _is_of_bins(old, root) or not isinstance(new, SSlibKey) or roles.ROLE_FIELD in new.unrecognized_fields:
        return copy.deepcopy(new)
    return keyids.with_fields(new, **{roles.ROLE_FIELD: roles.BINS})


def next_root(root: Root, old: str, new: Key, expires: datetime) -> Root | None:
    """Make the next root, in which a new key replaces an old one.

    Args:
        root: the newest root.
        old: the keyid of the key to replace.
        new: the new key.
        expires: when the new version expires.

    Returns:
        The next version; None if no role has the old key.
    """
    roles = [role for role, of_role in root.roles.items() if old in of_role.keyids]
    is_of_bins = _is_of_bins(old, root)
    if not roles and not is_of_bins:
        return None
    following, key = copy.deepcopy(root), in_place_of(old, root, new)
    for role in roles:
        following.revoke_key(old, role)
        following.add_key(key, role)
    if is_of_bins:
        following.keys.pop(old, None)
        following.keys[key.keyid] = key
    following.version, following.expires = root.version + 1, expires
    return following


def next_targets(targets: Targets, old: str, new: Key, expires: datetime) -> Targets | None:
    """Make the next targets, in which a new key of the bins, or of custom roles, replaces an old one.

    Args:
        targets: the newest targets.
        old: the keyid of the key to replace.
        new: the new key.
        expires: when the new version expires.

    Returns:
        The next version; None if neither the bins nor a custom role have the old key.
    """
    delegations = targets.delegations
    if delegations is None:
        return None
    named: list[tuple[str | None, Role]] = [*(delegations.roles or {}).items()]
    if delegations.succinct_roles is not None:
        named = [(None, delegations.succinct_roles)]
    having = [role for role, of_role in named if old in of_role.keyids]
    if not having:
        return None
    following = copy.deepcopy(targets)
    for role in having:
        following.revoke_key(old, role)
        following.add_key(new, role)
    following.version, following.expires = targets.version + 1, expires
    return following
