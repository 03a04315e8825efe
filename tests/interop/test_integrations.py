"""Repositories with an integration of RSTUF make the same calls to Tufline, in their order, and read what they expect from the answers.

Each test follows the requests of published code, which its docstring names; none of that code is here.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import Rest, rest

WAREHOUSE_POLLS = 20
"""How often Warehouse asks for a task, a second apart, before it reports a failure."""

UNFINISHED = {"PENDING", "PRE_RUN", "RUNNING", "RECEIVED", "STARTED"}
"""States after which both integrations ask again. Of these Warehouse does not know PRE_RUN."""


def of_rstuf(tmp_path: Path) -> dict[str, Any]:
    """Make a bootstrap as RSTUF's ceremony does, which names no client profile."""
    payload = make_bootstrap(tmp_path / "keys", bins=8, mode="rstuf").payload
    del payload["settings"]["client_profile"]
    return payload


async def poll(server: Rest, path: str, polls: int, delay: float = 0.0) -> str:
    """Ask for a task until it is finished, and return its last state; the integrations read nothing else of the answer."""
    for _ in range(polls):
        status, answer = await server.ask("GET", path)
        assert status == 200, answer
        state: str = answer["data"]["state"]
        if state not in UNFINISHED - {"PRE_RUN"}:
            return state
        await asyncio.sleep(delay)
    raise AssertionError(f"not finished after {polls} polls")


def started(status: int, answer: Any) -> str:
    """Return the task id of an answer, of which the integrations need a 2xx and ``data.task_id``."""
    assert status == 202, answer
    task_id: str = answer["data"]["task_id"]
    return task_id


async def test_warehouse_bootstraps(tmp_path: Path) -> None:
    """Warehouse posts a bootstrap without a slash at the end, and polls its task; a second bootstrap is an HTTP error.

    pypi/warehouse, warehouse/cli/tuf.py at abec53d1641d09a5030f28fcb7d2daf8f16c20fd (the command ``tuf bootstrap``), which calls
    ``post_bootstrap`` and ``wait_for_success`` of warehouse/tuf/__init__.py at 3d827655c20ab4ec005bdb54617850275f10c950.
    """
    payload = of_rstuf(tmp_path)
    async with rest(tmp_path, whole=True) as server:
        task_id = started(*await server.ask("POST", "/api/v1/bootstrap", payload))
        assert await poll(server, f"/api/v1/task?task_id={task_id}", WAREHOUSE_POLLS, 1.0) == "SUCCESS"
        status, _ = await server.ask("POST", "/api/v1/bootstrap", payload)
        assert status >= 400


async def test_warehouse_updates_a_project(tmp_path: Path) -> None:
    """Warehouse adds the page of a project by its name, with blake2b-256 alone; before the bootstrap it gets an HTTP error, not a 200.

    pypi/warehouse, warehouse/tuf/__init__.py at 07df63524d131ca6d0fda40437ea06bd520bb2c3 (``update_metadata``, ``post_artifacts``,
    ``wait_for_success``). There the list is still called ``targets``, as in RSTUF's API then; since RSTUF 1.0 it is ``artifacts``.
    """
    payload = of_rstuf(tmp_path)
    async with rest(tmp_path, whole=True) as server:
        for number, page in enumerate((b"<a>demo-1.0</a>", b"<a>demo-1.0</a><a>demo-1.1</a>")):
            digest = hashlib.blake2b(page, digest_size=32).hexdigest()
            request = {"artifacts": [{"path": "demo", "info": {"length": len(page), "hashes": {"blake2b-256": digest}}}]}
            if not number:
                status, _ = await server.ask("POST", "/api/v1/artifacts", request)
                assert status == 404
                bootstrap = started(*await server.ask("POST", "/api/v1/bootstrap", payload))
                assert await poll(server, f"/api/v1/task?task_id={bootstrap}", WAREHOUSE_POLLS, 1.0) == "SUCCESS"
            task_id = started(*await server.ask("POST", "/api/v1/artifacts", request))
            assert await poll(server, f"/api/v1/task?task_id={task_id}", WAREHOUSE_POLLS, 1.0) == "SUCCESS"
            _, live = await server.ask("GET", "/api/v1/artifacts/demo")
            assert (live["length"], live["hashes"]) == (len(page), {"blake2b-256": digest})


@pytest.mark.parametrize("mode", ["rstuf", "pep458"])
async def test_rubygems_pushes_and_yanks_a_gem(tmp_path: Path, mode: str) -> None:
    """RubyGems adds a gem with sha256, checks the task, removes the gem, checks again; a removal that finds nothing succeeds as well.

    rubygems/rubygems.org, lib/rstuf/client.rb at 0177c2c545dc21b11cfc2b0798577cbd5fe2618e; app/jobs/rstuf/add_job.rb and remove_job.rb at
    226ff8b479d60b7329422d1ac5283fcab6e51fa0; app/jobs/rstuf/check_job.rb at 0075acf307dacf18868060e367f18bd3c824985d, which asks up to ten
    times, later each time.
    """
    payload = of_rstuf(tmp_path) if mode == "rstuf" else make_bootstrap(tmp_path / "keys", bins=8, mode=mode).payload
    gem, content = "rails-8.0.0.gem", b"gem"
    target = {"info": {"length": len(content), "hashes": {"sha256": hashlib.sha256(content).hexdigest()}}, "path": gem}
    async with rest(tmp_path, whole=True) as server:
        await server.task(started(*await server.ask("POST", "/api/v1/bootstrap/", payload)))
        for path, request, is_live in (
            ("/api/v1/artifacts/", {"artifacts": [target]}, True),
            ("/api/v1/artifacts/delete", {"artifacts": [gem]}, False),
            ("/api/v1/artifacts/delete", {"artifacts": [gem]}, False),
        ):
            task_id = started(*await server.ask("POST", path, request))
            assert await poll(server, f"/api/v1/task/?task_id={task_id}", 10, 0.5) == "SUCCESS"
            status, _ = await server.ask("GET", f"/api/v1/artifacts/{gem}")
            assert status == (200 if is_live else 404)
