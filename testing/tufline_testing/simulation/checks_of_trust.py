"""The checks of root, targets and the lifetimes of online roles at the end of a schedule."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from tufline import records
from tufline.bus import Bus
from tufline.metadata.envelope import parse_expires
from tufline.records import topics
from tufline.records.metadata import VECTOR_HEADER, VERSION_HEADER
from tufline.trust import online
from tufline.trust.admin_state import AdminState
from tufline.trust.roles import BINS
from tufline_testing.log import newest_heads, read_all
from tufline_testing.simulation.expected_trust import ExpectedTrust

TOLERANCE = 1.06
"""By which factor a version may be valid for longer than its role's lifetime: such a small difference is left alone."""


async def check_shown(bus: Bus, origin: Path, expected: ExpectedTrust) -> None:
    """Check that only valid versions of root and targets were released, and that the origin has no root besides them."""
    released: dict[str, bytes] = {}
    valid: dict[str, Sequence[Metadata[Any]]] = {Root.type: expected.roots}
    if expected.targets:
        valid[Targets.type] = expected.targets
    for record in await read_all(bus, topics.METADATA):
        role, version = record.key.split(".")[-1], int(record.headers[VERSION_HEADER])
        if role not in valid:
            continue
        assert version <= len(valid[role]), f"{role} {version} is released, but only {len(valid[role])} are valid"
        of_version = valid[role][version - 1]
        content = json.loads(record.value)
        assert content["signed"] == of_version.signed.to_dict(), f"another {role} {version} is released than enough keys signed"
        if role == Root.type:
            released[f"{version}.root.json"] = record.value
    shown = _read_roots(origin)
    assert shown.items() <= released.items(), f"the origin has {sorted(shown)}, and released are {sorted(released)}"


async def too_long(bus: Bus, state: AdminState, now: datetime) -> list[str]:
    """Return the roles of the signer whose newest version is valid for longer than the role's lifetime."""
    assert state.bootstrapped is not None
    settings, custom = state.bootstrapped.bootstrap.settings, state.bootstrapped.routing.delegations.roles
    days = {**settings.expiration_days, **state.lifetimes}
    bins = {settings.layout.name(index) for index in range(settings.number_of_bins)}
    of_signer, found = online.online_roles(state), []
    heads = await newest_heads(bus)
    if not custom:
        heads.pop(settings.name_prefix, None)  # the catch-all role of deleted custom roles; nothing delegates to it
    for key, head in heads.items():
        role = BINS if key in bins else key
        lifetime = timedelta(days=days.get(role, 0))
        if role in of_signer and parse_expires(head.expires) > now + TOLERANCE * lifetime:
            found.append(f"{key} expires on {head.expires}, but is to be valid for {lifetime.days} days")
    return found


async def waiting_renewals(bus: Bus, state: AdminState) -> list[str]:
    """Return the renewals that no commit covers yet."""
    committed = [record for record in await read_all(bus, topics.METADATA) if VECTOR_HEADER in record.headers]
    vector = records.decode(records.vector_decoder, committed[-1].headers[VECTOR_HEADER].encode())
    return [f"no commit covers the renewal at offset {offset}" for offset in state.renewals if offset >= vector.admin]


async def check_renewals(bus: Bus, state: AdminState) -> None:
    """Check that no commit covered a renewal before each of its roles had a new version."""
    assert state.bootstrap is not None
    layout = state.bootstrap.settings.layout
    bins = [layout.name(index) for index in range(layout.number_of_bins)]
    waiting, covered = {**state.renewals}, list[tuple[int, str, int]]()
    versions: dict[str, list[tuple[int, int]]] = {}
    for record in await read_all(bus, topics.METADATA):
        versions.setdefault(record.key, []).append((record.offset, int(record.headers[VERSION_HEADER])))
        if record.key != Timestamp.type or VECTOR_HEADER not in record.headers:
            continue
        vector = records.decode(records.vector_decoder, record.headers[VECTOR_HEADER].encode())
        for offset in [offset for offset in waiting if offset < vector.admin]:
            renewal = waiting.pop(offset)
            names = [name for role in renewal.roles for name in (bins if role == BINS else [role])]
            covered += [(record.offset, name, renewal.since) for name in names]
    assert not waiting, f"no commit covers the renewals {sorted(waiting)}, which the last one covers"
    for commit, name, since in covered:
        before = [one for one in versions[name] if one[0] <= commit]
        after = [version for offset, version in versions[name] if offset > commit]
        # The log drops superseded versions: if the next version is missing, it was made before the commit, or soon after.
        is_dropped = bool(after) and (not before or after[0] > before[-1][1] + 1)
        is_new = bool(before) and before[-1][0] >= since
        assert is_new or is_dropped, f"a commit covers a renewal before {name} had a new version"


def _read_roots(origin: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in origin.glob("*.root.json")}
