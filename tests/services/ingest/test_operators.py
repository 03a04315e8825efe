"""The endpoints of ingest for operators: health, status and backlog; and the description of the API."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.records import topics
from tufline_cli.exit_codes import Exit
from tufline_ingest import routes
from tufline_ingest.views.published import COUNTED_GAP
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, artifact, bootstrapped, rest
from tufline_testing.server import run_tufline

ARTIFACTS, BOOTSTRAP = "/api/v1/artifacts", "/api/v1/bootstrap"


@pytest.mark.parametrize("count", [0, 1, COUNTED_GAP, COUNTED_GAP + 1])
async def test_backlog_is_what_waits(tmp_path: Path, count: int) -> None:
    """The status reports how many records are accepted but not live, and how long the oldest has waited."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), clock=lambda: utc_now() - timedelta(seconds=100))
    async with bootstrapped(tmp_path, bus=bus):
        pass
    async with rest(tmp_path, bus=bus) as server:
        for _ in range(count):
            assert (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("a")]}))[0] == 202
        said = (await server.ask("GET", "/api/v1/status"))[1]
        assert said["backlog"] == count
        assert 100 <= said["waiting_seconds"] < 160 if count else said["waiting_seconds"] == 0
        shown = await asyncio.to_thread(run_tufline, "status", "--url", server.url, cwd=tmp_path, env={"COLUMNS": "200"})
        assert shown.returncode == Exit.OK, shown.stderr
        assert ("/readyz of signer and publisher" in shown.stdout) is (count > 0)
    await bus.close()


async def test_status_before_the_repository(tmp_path: Path) -> None:
    """Before the bootstrap, and until it is published, the status reports what is not ready."""
    payload = make_bootstrap(tmp_path / "keys", bins=4).payload
    async with rest(tmp_path) as server:
        before = await asyncio.to_thread(run_tufline, "status", "--url", server.url, cwd=tmp_path)
        assert (before.returncode, "there is no repository yet" in before.stderr) == (Exit.UNREACHABLE, True)
        assert (await server.ask("POST", BOOTSTRAP, payload))[0] == 202
        begun = await asyncio.to_thread(run_tufline, "status", "--url", server.url, cwd=tmp_path)
        assert (begun.returncode, "the repository is not published yet" in begun.stderr) == (Exit.UNREACHABLE, True)
        server.health.problem("ingest", "it is asleep")
        asleep = await asyncio.to_thread(run_tufline, "status", "--url", server.url, cwd=tmp_path)
        assert (asleep.returncode, "not everything is ready: ingest: it is asleep" in asleep.stderr) == (Exit.UNREACHABLE, True)


async def test_questions_of_operators_are_answered(tmp_path: Path) -> None:
    """Health, readiness, metrics, status and the API's description answer operators' questions."""
    async with bootstrapped(tmp_path) as server:
        assert await server.ask("GET", "/healthz") == (200, {"alive": True})
        status, ready = await server.ask("GET", "/readyz")
        assert (status, ready["ready"]) == (200, True)
        assert {"ingest", "publisher.origin", "signer.bins.0", "signer.commits"} <= ready["parts"].keys()
        server.health.problem("signer.bins.0", "the key is missing: put it there")
        status, ready = await server.ask("GET", "/readyz")
        assert (status, ready["parts"]["signer.bins.0"]) == (503, "the key is missing: put it there")
        _, said = await server.ask("GET", "/api/v1/status")
        assert (said["bootstrap"], said["number_of_bins"], said["backlog"]) == ("finished", 8, 0)
        assert set(said["expires"]) == {"root", "targets", "snapshot", "timestamp", "bins"}
        assert "signer.bins.0" in said["problems"]
        async with server.session.get(server.url + "/metrics") as response:
            shown = await response.text()
        assert "tufline_ingest_request_seconds_count" in shown
        assert "tufline_signer_bins_total" in shown


async def test_every_described_call_is_routed(tmp_path: Path) -> None:
    """Every call in the API's description is answered by a handler, with and without the slash at the end."""
    async with rest(tmp_path) as server:
        assert (await server.ask("GET", "/api/v1/openapi.json"))[1] == routes.description()
        for method, path in ((route.method, route.path) for route in routes.ROUTES):
            for shown in {path.rstrip("/"), path.rstrip("/") + "/"} if "{" not in path else {path.format(path="x")}:
                async with server.session.request(method, server.url + shown) as response:
                    assert response.status != 405, f"{method} {shown}"
                    if response.status == 404:
                        assert "openapi.json" not in await response.text(), f"{method} {shown} is not routed"


async def test_described_requests_are_accepted(tmp_path: Path) -> None:
    """The request examples in the API's description are accepted unchanged."""
    shown = {route.path: route.request for route in routes.ROUTES if route.method == "POST" and "/artifacts/" in route.path}
    assert len(shown) == 4
    async with bootstrapped(tmp_path) as server:
        for path, body in shown.items():
            example = None if body is None else body.example
            content = example.encode() if isinstance(example, str) else example
            assert (await server.ask("POST", path, content))[0] == 202, path
