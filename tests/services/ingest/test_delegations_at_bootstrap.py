"""A repository that begins with custom roles, in addition to bins or in place of them, as RSTUF's bootstrap can."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tufline import records
from tufline.bus import Message
from tufline.records import DELEGATIONS_SCHEMA, Bootstrap, BootstrapStarted, topics
from tufline_testing.delegating import read_admin, settle
from tufline_testing.log import eventually, read_all
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, artifact, bulk_line, rest

ARTIFACTS, BOOTSTRAP = "/api/v1/artifacts", "/api/v1/bootstrap"
DEV = {"name": "dev", "terminating": True, "keyids": [], "threshold": 1, "paths": ["dev/*"], "x-rstuf-expire-policy": 7}


def with_roles(path: Path, *roles: Any, bins: bool = True) -> dict[str, Any]:
    """Make a payload with custom roles."""
    payload = copy.deepcopy(make_bootstrap(path / "keys", bins=8, mode="rstuf").payload)
    payload["settings"]["roles"]["delegations"] = {"keys": {}, "roles": [*roles]}
    if not bins:
        payload["settings"]["roles"]["bins"] = None
    return payload


@pytest.mark.parametrize("bins", [True, False])
@pytest.mark.parametrize("complete", [True, False])
async def test_the_first_version_of_the_delegations_is_part_of_the_bootstrap(tmp_path: Path, bins: bool, complete: bool) -> None:
    """Its record stops older versions of Tufline, also if signatures are missing; without bins each partition has one that stays empty."""
    payload = with_roles(tmp_path, DEV, bins=bins)
    if not complete:
        del payload["metadata"]["root"]["signatures"][1:]
    async with rest(tmp_path) as server:
        status, answer = await server.ask("POST", BOOTSTRAP, payload)
        assert (status, answer["message"]) == (202, "Bootstrap accepted."), answer
        record = read_admin((await read_all(server.bus, topics.ADMIN))[-1])
        assert isinstance(record, Bootstrap)
        assert record.delegations is not None
        assert (record.v, record.signing, [role.name for role in record.delegations.roles]) == (DELEGATIONS_SCHEMA, not complete, ["dev"])
        assert (record.settings.only_custom, record.settings.number_of_bins) == ((False, 8) if bins else (True, PARTITIONS))
        assert record.settings.expiration_days["bins"] == payload["settings"]["roles"]["bins" if bins else "targets"]["expiration"]


async def test_without_bins_only_paths_of_custom_roles_are_accepted(tmp_path: Path) -> None:
    """Any other path is refused with the paths that the roles have; a removal never is."""
    async with rest(tmp_path) as server:
        assert (await server.ask("POST", BOOTSTRAP, with_roles(tmp_path, DEV, bins=False)))[0] == 202
        await server.bus.append([Message(topics.ADMIN, "begun", records.encode(BootstrapStarted(bootstrap=0)))])
        await settle(server.bus)

        async def is_finished() -> bool:
            return bool((await server.ask("GET", BOOTSTRAP))[1]["data"]["state"] == "finished")

        await eventually(is_finished)
        assert (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("dev/a")]}))[0] == 202
        status, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("dev/b"), artifact("other")]})
        assert status == 422
        assert "artifacts[1] ('other') can't be accepted: no custom role is trusted for this path" in answer["detail"]
        assert "dev/*" in answer["detail"]
        lines = bulk_line(path="other", info=artifact("a")["info"]) + b"\n" + bulk_line(path="other", op="remove")
        _, bulk = await server.ask("POST", f"{ARTIFACTS}/bulk", lines)
        assert (bulk["data"]["accepted"], bulk["data"]["refused"]) == (1, 1)
        assert (await server.ask("POST", f"{ARTIFACTS}/delete", {"artifacts": ["other"]}))[0] == 202


async def test_roles_at_bootstrap_are_judged_and_counted(tmp_path: Path) -> None:
    """A payload with a role that could not be added later is refused, and leaves no trace."""
    payload = with_roles(tmp_path)
    async with rest(tmp_path, max_roles=10) as server:
        before = await server.on_log()
        for roles, says in (
            ([DEV | {"name": "1.root"}], "can't be the name of a file"),
            ([DEV, DEV], "names a role twice"),
            ([DEV | {"path_hash_prefixes": ["0"]}], "settings.roles.delegations.roles[0].path_hash_prefixes must be null"),
            ([DEV | {"paths": ["dev/[a]"]}], "clients read differently"),
            ([DEV | {"keyids": ["ab"]}], "there is no such key"),
            ([DEV, DEV | {"name": "other"}], "would have 11 roles"),
        ):
            payload["settings"]["roles"]["delegations"]["roles"] = roles
            status, answer = await server.ask("POST", BOOTSTRAP, payload)
            assert (status, says in answer["detail"]) == (422, True), answer
        assert await server.on_log() == before
