"""Signatures of custom roles whose keys only people have, over RSTUF's calls to list, sign and withdraw versions that wait.

In: signatures and withdrawals of requests. Out: records in the role's partition of ``artifacts``, whose only writer judges them in the
order of the log. What it would refuse is refused here already, with the same reasons. If two requests come at the same time, their tasks
have the reason.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web
from tuf.api.metadata import Metadata, Targets

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.errors import InvalidUpdateError
from tufline.metadata.delegations import Delegations
from tufline.records import CURRENT_RULES, OFFLINE_ROLES_SCHEMA, Changes, Proposed, RoleSignature, cursor, topics
from tufline.records.cursor import Task
from tufline.trust import offline_roles
from tufline.trust.admin_state import Bootstrapped
from tufline.trust.delegated import delegated_by, delegations_to
from tufline.trust.signing import Missing
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError, NotNowError
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer

LISTED: Final = 50
"""How many roles an answer lists at most."""

LISTED_BYTES: Final = 16_000_000
"""How many bytes of metadata it lists at most, unless one role has more."""


def repository_with(context: Context) -> Bootstrapped | None:
    """Return the repository if it has custom roles that people sign; otherwise None.

    Args:
        context: of the request.

    Raises:
        NotNowError: if what waits for people has not been read yet.
    """
    repository = context.admin.state.bootstrapped
    if repository is None or not repository.routing.delegations.offline:
        return None
    if not context.published_view.heads_known.is_set():
        raise NotNowError("what waits for signatures has not been read yet")
    return repository


async def listed(context: Context) -> tuple[dict[str, dict[str, Any]], dict[str, Missing]]:
    """Return the versions that wait, and the signatures that are missing; not more than ``LISTED``.

    Args:
        context: of the request.

    Returns:
        Role to metadata with the signatures so far; and role to the missing signatures.

    Raises:
        NotNowError: if one can't be read now.
    """
    metadata: dict[str, dict[str, Any]] = {}
    left: dict[str, Missing] = {}
    if (repository := repository_with(context)) is None:
        return metadata, left
    people, delegations, size = context.published_view.people, repository.routing.delegations, 0
    for role in people.waiting(delegations)[:LISTED]:
        proposed, signed = await context.published_view.next_version(role, repository.routing)
        content = offline_roles.assemble(signed, proposed.signatures)
        if (size := size + len(content)) > LISTED_BYTES and metadata:
            break
        missing = people.missing(role, delegations)
        if missing is not None:
            metadata[role], left[role] = await asyncio.to_thread(msgspec.json.decode, content), missing
    return metadata, left


def trusted_targets(repository: Bootstrapped, names: Iterable[str]) -> dict[str, Any]:
    """Make targets that delegate to roles that people sign, for RSTUF's command line: it looks there for the keys that may sign.

    Args:
        repository: the repository.
        names: the names of the roles.

    Returns:
        Metadata without signatures.
    """
    delegations = repository.routing.delegations
    listed = [role for name in names if (role := delegations.find(name)) is not None]
    keys = {keyid: delegations.keys[keyid] for role in listed for keyid in role.keyids}
    settings, root = repository.settings, repository.roots[-1].signed
    delegated = delegated_by(root, settings, Delegations(keys, tuple(listed)))
    return Metadata(Targets(expires=root.expires, delegations=delegations_to(delegated, settings))).to_dict()


def waits(context: Context, role: str) -> bool:
    """Return whether a version of a custom role waits for people.

    Args:
        context: of the request.
        role: any name.

    Raises:
        NotNowError: if what waits for people has not been read yet.
    """
    repository = repository_with(context)
    return repository is not None and role in context.published_view.people.waiting(repository.routing.delegations)


async def sign(context: Context, role: str, keyid: str, sig: str) -> web.Response:
    """Append a signature of a custom role.

    Args:
        context: of the request.
        role: the role, of which a version waits.
        keyid: the id of the key that signed.
        sig: the signature.

    Raises:
        BadRequestError: if it is not valid or not needed.
        NotNowError: if the version can't be read now.
    """
    repository = context.check_bootstrapped()
    proposed, signed = await context.published_view.next_version(role, repository.routing)
    signature = RoleSignature(role, proposed.version, proposed.sha256, keyid, sig)
    try:
        keys = offline_roles.find_keys(role, repository.routing.delegations)
        await asyncio.to_thread(offline_roles.sign, signature, proposed, signed, keys)
    except InvalidUpdateError as error:
        raise BadRequestError(f"the signature can't be accepted: {error}") from None
    return await _append(context, signature, Task.SIGN_ROLE, "Metadata sign accepted.")


async def withdraw(context: Context, role: str) -> web.Response:
    """Append the withdrawal of all signatures of a custom role's next version.

    Args:
        context: of the request.
        role: the role, of which a version waits.

    Raises:
        BadRequestError: if nobody has signed it.
    """
    proposed: Proposed | None = context.published_view.people.proposed(role)
    if proposed is None or not proposed.signatures:
        raise BadRequestError(f"nobody has signed the next version of {role}: undo an unwanted change by its opposite")
    return await _append(
        context, RoleSignature(role, proposed.version, proposed.sha256), Task.WITHDRAW_ROLE, "Metadata sign delete accepted."
    )


async def _append(context: Context, signature: RoleSignature, task: Task, text: str) -> web.Response:
    repository = context.check_bootstrapped()
    name = accept.name_request()
    record = Changes(v=OFFLINE_ROLES_SCHEMA, request=name, admin=repository.next_offset, changes=[], rules=CURRENT_RULES, sign=signature)
    partition = repository.routing.partition_of(signature.role)
    (position,) = await context.append([Message(topics.ARTIFACTS, name, records.encode(record), partition)])
    where = accept.make_cursor(task, context.bus.log_id, [position])
    return answer(SubmittedAnswer(Submitted(cursor.encode(where), moment_of(where.time)), text), 202)
