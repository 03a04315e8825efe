"""``ingest.max_roles``: a repository gets no more roles, whichever way they come in, and what adds no role is never refused."""

import copy
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

from tufline.clock import utc_now
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Settings
from tufline.trust.ceremony import Ceremony
from tufline.trust.delegated import with_custom
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import resign, signature
from tufline_testing.rest import PARTITIONS, Rest, bootstrapped, rest

BOOTSTRAP, CALL, METADATA, SIGN = "/api/v1/bootstrap", "/api/v1/delegations", "/api/v1/metadata", "/api/v1/metadata/sign"
BINS = 8
MOST = BINS + 2


def custom(*names: str) -> dict[str, Any]:
    """Make the body of a call that adds roles."""
    return {"delegations": {"roles": [{"name": name, "terminating": False, "threshold": 1, "paths": [f"{name}/*"]} for name in names]}}


def delegating_to(held: Ceremony, version: int, names: Iterable[str], signers: int) -> dict[str, Any]:
    """Make targets with custom roles, signed by some key holders."""
    first = Metadata[Targets].from_dict(copy.deepcopy(held.payload["metadata"]["targets"]))
    (keyid,) = first.signed.delegations.succinct_roles.keyids  # type: ignore[union-attr]
    key = first.signed.delegations.keys[keyid].to_dict()  # type: ignore[union-attr]
    roles = Delegations({keyid: key}, tuple(Delegation(name=name, paths=(f"{name}/*",), keyids=(keyid,)) for name in names))
    following = with_custom(first.signed, Settings(BINS, "bins", PARTITIONS, {}), roles, first.signed.expires)
    following.version = version
    made = {"signatures": [], "signed": following.to_dict()}
    resign(made, [one.signer for one in held.targets[:signers]])
    return made


@asynccontextmanager
async def two_processes(path: Path, payload: Any) -> AsyncIterator[tuple[Rest, Rest]]:
    """Run all services over a repository, and a second ingest with a lower limit."""
    async with bootstrapped(path, payload=payload) as server, rest(path / "limited", bus=server.bus, max_roles=MOST) as limited:
        yield server, limited


async def check_refused(server: Rest, path: str, body: Any, total: int = MOST + 1) -> None:
    """Check that a request is refused because of the limit."""
    status, answer = await server.ask("POST", path, body)
    assert (status, f"would have {total} roles: 8 bins" in str(answer), "ingest.max_roles" in str(answer)) == (422, True, True), answer


@pytest.mark.parametrize("signers", [1, 2])
async def test_at_the_bootstrap(tmp_path: Path, signers: int) -> None:
    """Also if targets that people sign names the roles, and signatures are missing."""
    held = make_bootstrap(tmp_path / "keys", bins=BINS, mode="pep458")
    payload = copy.deepcopy(held.payload)
    async with rest(tmp_path, max_roles=MOST) as server:
        payload["metadata"]["targets"] = delegating_to(held, 1, ["dev", "doc"], signers)
        await check_refused(server, BOOTSTRAP, payload)
        payload["metadata"]["targets"] = delegating_to(held, 1, ["dev"], signers)
        status, answer = await server.ask("POST", BOOTSTRAP, payload)
        assert status == 202, answer


async def test_by_the_last_signature(tmp_path: Path) -> None:
    """Another process, with a higher limit, accepted the version that waits; it can be withdrawn."""
    held = make_bootstrap(tmp_path / "keys", bins=BINS, mode="pep458")
    async with two_processes(tmp_path, held.payload) as (server, limited):
        assert (await server.ask("POST", CALL, custom("dev", "doc")))[0] == 202
        _, waiting = await limited.ask("GET", SIGN)
        first, last = [
            {"role": "targets", "signature": signature(waiting["data"]["metadata"]["targets"], key.signer)} for key in held.targets[:2]
        ]
        assert (await limited.ask("POST", SIGN, first))[0] == 202
        await check_refused(limited, SIGN, last)
        assert (await limited.ask("POST", f"{SIGN}/delete", {"role": "targets"}))[0] == 202


async def test_by_calls_and_targets_that_wait_for_signatures(tmp_path: Path) -> None:
    """They are refused before anyone signs; a number that the limit allows is accepted."""
    held = make_bootstrap(tmp_path / "keys", bins=BINS, mode="pep458")
    async with two_processes(tmp_path, held.payload) as (_, limited):
        await check_refused(limited, CALL, custom("dev", "doc"))
        for signers in (1, 2):
            await check_refused(limited, METADATA, {"metadata": {"targets": delegating_to(held, 2, ["dev", "doc"], signers)}})
        assert (await limited.ask("POST", CALL, custom("dev")))[0] == 202


async def test_what_adds_no_role_is_not_refused(tmp_path: Path) -> None:
    """A repository with more roles than a lower limit can still delete a role, and get a new root."""
    held = make_bootstrap(tmp_path / "keys", bins=BINS, mode="rstuf")
    async with two_processes(tmp_path, held.payload) as (server, limited):
        assert (await server.ask("POST", CALL, custom("dev", "doc")))[0] == 202
        await check_refused(limited, CALL, custom("other"), MOST + 2)
        assert (await limited.ask("POST", f"{CALL}/delete", {"delegations": {"roles": [{"name": "doc"}]}}))[0] == 202
        root = copy.deepcopy(held.payload["metadata"]["root"])
        root["signed"] |= {
            "version": 2,
            "expires": utc_now().replace(microsecond=0, year=utc_now().year + 1).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        resign(root, [key.signer for key in held.root[:2]])
        status, answer = await limited.ask("POST", METADATA, {"metadata": {"root": root}})
        assert status == 202, answer
