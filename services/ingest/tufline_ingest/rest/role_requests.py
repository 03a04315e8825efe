"""Custom roles of a request, of a call about delegations or of a bootstrap: read, and counted."""

from typing import Any

from tufline.metadata.delegations import EXPIRE_POLICY, Delegation
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.request_json import whole
from tufline_ingest.rest.schemas.delegations import NewDelegations, NewRole


def read_roles(asked: NewDelegations, where: str) -> list[Delegation]:
    """Read the custom roles of a request.

    Args:
        asked: the roles and keys as sent.
        where: where they are in the request, for the message.

    Returns:
        The roles; ``tufline.trust.delegating`` judges them.

    Raises:
        BadRequestError: if a role has something that a custom role can't have.
    """
    return [_read_role(f"{where}.roles[{number}]", role) for number, role in enumerate(asked.roles)]


def keys_named(asked: NewDelegations) -> dict[str, dict[str, Any]]:
    """Return the keys of a request that its roles name: nothing else about keys is judged.

    Args:
        asked: the roles and keys as sent.
    """
    named = {keyid for role in asked.roles for keyid in role.keyids}
    return {keyid: key for keyid, key in asked.keys.items() if keyid in named}


def _read_role(where: str, role: NewRole) -> Delegation:
    if role.path_hash_prefixes is not None:
        raise BadRequestError(f"{where}.path_hash_prefixes must be null: custom roles are trusted for paths, and bins for hashes")
    return Delegation(
        name=role.name,
        paths=tuple(role.paths),
        terminating=role.terminating,
        keyids=tuple(role.keyids),
        threshold=whole(f"{where}.threshold", role.threshold),
        days=None if role.expire_policy is None else whole(f"{where}.{EXPIRE_POLICY}", role.expire_policy),
    )


def check_count(bins: int, custom: int, most: int) -> None:
    """Refuse more roles than clients should have to load.

    Args:
        bins: how many bins the repository has.
        custom: how many custom roles it ever had, with the new ones.
        most: the setting ``ingest.max_roles``.

    Raises:
        BadRequestError: if bins, custom roles and the catch-all role are more.
    """
    if (total := bins + custom + 1) > most:
        raise BadRequestError(
            f"the repository would have {total} roles: {bins} bins, one that delegates to them, and {custom} custom roles, also deleted "
            f"ones. Every client loads some 33 bytes for each, so at most {most} are accepted: use fewer roles with more paths, or raise "
            "ingest.max_roles"
        )
