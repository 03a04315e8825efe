"""Custom roles of a request, of a call about delegations or of a bootstrap: read, and counted."""

from typing import Any

from tuf.api.metadata import Targets

from tufline.metadata.delegations import EXPIRE_POLICY, Delegation
from tufline.records import Bootstrap, NewMetadata
from tufline.trust import roles
from tufline.trust.admin_state import AdminState
from tufline.trust.delegated import read_custom
from tufline.trust.delegating import first_routing
from tufline.trust.signing import Proposal
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


def check_count(before: AdminState, after: AdminState, most: int) -> None:
    """Refuse a record that gives the repository more roles than clients should have to load. It may take long: call it in a thread.

    A version that waits for signatures counts when it is submitted, and again when the last signature makes it valid: another process may
    have accepted it. A record that adds no role is never refused, so that a lower limit does not stop a new root, or a deletion.

    Args:
        before: the state before the record.
        after: the state after the record.
        most: the setting ``ingest.max_roles``.

    Raises:
        BadRequestError: if bins, custom roles and the catch-all role are more.
    """
    bins, valid, custom = _count(after)
    bins_before, valid_before, custom_before = _count(before)
    is_more = bins > bins_before or valid - valid_before or custom - custom_before
    if is_more and custom and (total := bins + len(custom) + 1) > most:
        raise BadRequestError(
            f"the repository would have {total} roles: {bins} bins, one that delegates to them, and {len(custom)} custom roles, also "
            f"deleted ones. Every client loads some 33 bytes for each, so at most {most} are accepted: use fewer roles with more paths, or "
            "raise ingest.max_roles"
        )


def _count(state: AdminState) -> tuple[int, frozenset[str], frozenset[str]]:
    """Return how many bins there are, the custom roles that are valid, and those with what waits for signatures."""
    valid = state.routing.custom_names if state.routing is not None else frozenset()
    match state.open_proposal("bootstrap", "targets"):
        case Proposal(record=Bootstrap() as bootstrap):  # it replaces what there is
            return bootstrap.settings.number_of_bins, valid, first_routing(bootstrap, 0).custom_names
        case Proposal(record=NewMetadata(metadata=metadata)):
            waiting = {role.name for role in read_custom(roles.parse(Targets, metadata).signed).roles}
        case _:
            waiting = set()
    bins = state.bootstrap.settings.number_of_bins if state.bootstrap is not None else 0
    return bins, valid, valid | waiting
