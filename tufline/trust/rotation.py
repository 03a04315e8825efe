"""The next versions of root and targets with another online key in place of one: what people then sign offline. Pure.

Out of each role that has it the old key goes, and the new one comes; thresholds stay. The new versions name the new key alone: until they
are shown the signer signs with both (``tufline_signer.signing.key_selection``), so one signing by people is enough.
"""

import copy
from datetime import datetime

from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Root, Targets

from tufline.metadata import keyids
from tufline.trust import rules


def _is_of_bins(keyid: str, root: Root) -> bool:
    return keyid in root.keys and root.keys[keyid].unrecognized_fields.get(rules.ROLE_FIELD) == rules.BINS


def in_place_of(old: str, root: Root, new: Key) -> Key:
    """Say how a key stands in the metadata that comes in place of another one.

    Args:
        old: keyid of the key to replace.
        root: the newest one.
        new: the key in its place.

    Returns:
        The key; where the old one was the own key of online bins, marked as that is, with a keyid that covers the mark.
    """
    if not _is_of_bins(old, root) or not isinstance(new, SSlibKey) or rules.ROLE_FIELD in new.unrecognized_fields:
        return copy.deepcopy(new)
    return keyids.with_fields(new, **{rules.ROLE_FIELD: rules.BINS})


def next_root(root: Root, old: str, new: Key, expires: datetime) -> Root | None:
    """Make the root in which a key is another one.

    Args:
        root: the newest one.
        old: keyid of the key to replace.
        new: the key in its place.
        expires: of the new version.

    Returns:
        The next version; None if no role has the key.
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
    """Make the targets in which a key of the bins is another one.

    Args:
        targets: the newest ones.
        old: keyid of the key to replace.
        new: the key in its place.
        expires: of the new version.

    Returns:
        The next version; None if the bins do not have the key.
    """
    delegations = targets.delegations
    if delegations is None or delegations.succinct_roles is None or old not in delegations.succinct_roles.keyids:
        return None
    following = copy.deepcopy(targets)
    following.revoke_key(old)
    following.add_key(new)
    following.version, following.expires = targets.version + 1, expires
    return following
