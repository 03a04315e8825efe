"""Faults observed in RSTUF when it is killed or has many concurrent clients: each is a test of the same name.

The failures and figures come from a run of RSTUF 1.0 (worker 1.0.2, API 1.0.1) on two cores, and from its users' reports.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.server import Running, artifact, dev, lengths, run_tufline, start_dev, wait_until

pytestmark = pytest.mark.slow

BINS = ("--bins", "64")


def post(server: Running, paths: list[str], number: int = 1) -> dict[str, Any]:
    """Announce artifacts, and return the answer's data."""
    body = {"artifacts": [artifact(path, number) for path in paths]}
    data: dict[str, Any] = server.client.request("POST", "/api/v1/artifacts/", body)["data"]
    return data


def files(data: Path) -> int:
    """Count the files of an origin."""
    return sum(1 for _ in (data / "origin" / "metadata").iterdir())


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_in_a_publication_loses_no_artifact(tmp_path: Path, seed: int) -> None:
    """If the process is killed during a publication, all 600 artifacts become live; RSTUF lost 104 that its database called published."""
    data = tmp_path / "data"
    chance = random.Random(seed)
    paths = [f"p/{number}" for number in range(600)]
    server = start_dev(data, *BINS)
    try:
        before = files(data)
        post(server, paths)
        some = chance.randint(1, 60)
        wait_until(lambda: files(data) >= before + some, f"{some} files of the publication (seed {seed})")
        server.kill()
        server = start_dev(data, *BINS)
        wait_until(lambda: server.client.request("GET", "/api/v1/status")["backlog"] == 0, f"all is live (seed {seed})")
        seen = lengths(server, tmp_path / "client", paths)
        assert [path for path in paths if path not in seen] == [], f"lost (seed {seed})"
        assert server.stop() == 0
        checked = run_tufline("fsck", "--data", data, cwd=tmp_path)
        assert checked.returncode == 0, f"seed {seed}: {checked.stdout}{checked.stderr}"
    finally:
        server.process.kill()
        server.process.wait()


def test_every_accepted_task_runs(tmp_path: Path) -> None:
    """If the process is killed right after it accepted tasks, every task is done after the restart; in RSTUF some never ran."""
    server = start_dev(tmp_path / "data", *BINS)
    try:
        tasks = {post(server, [f"p/{number}"])["task_id"]: f"p/{number}" for number in range(40)}
        server.kill()
        server = start_dev(tmp_path / "data", *BINS)
        for task, path in tasks.items():
            result = server.client.wait_for_task(task, time.monotonic() + 30)
            assert result["status"] is True
            assert result["details"]["added_artifacts"] == [path]
    finally:
        server.process.kill()
        server.process.wait()


def test_no_lock_outlives_its_holder(tmp_path: Path) -> None:
    """After a kill during a publication, artifacts are live seconds after the restart; RSTUF's lock blocked everything for up to 500 s."""
    data = tmp_path / "data"
    server = start_dev(data, *BINS)
    try:
        before = files(data)
        post(server, [f"p/{number}" for number in range(600)])
        wait_until(lambda: files(data) > before, "the publication has begun")
        server.kill()
        server = start_dev(data, *BINS)
        result = server.client.wait_for_task(post(server, ["next"])["task_id"], time.monotonic() + 20)
        assert result["status"] is True
        assert lengths(server, tmp_path / "client", ["next"]) == {"next": 1}
    finally:
        server.process.kill()
        server.process.wait()


def test_concurrent_clients_get_right_answers(tmp_path: Path) -> None:
    """16 concurrent clients get only correct answers; with RSTUF 65 % of the answers were wrong 404s."""
    with dev(tmp_path / "data", *BINS) as server:

        def ask(client: int) -> list[str]:
            paths = []
            for number in range(12):
                path = f"c{client}/{number}"
                task = post(server, [path], number)["task_id"]
                assert server.client.request("GET", "/api/v1/bootstrap/")["data"]["state"] == "finished"
                result = server.client.wait_for_task(task, time.monotonic() + 60)
                assert result["details"]["added_artifacts"] == [path]
                paths.append(path)
            return paths

        with ThreadPoolExecutor(16) as pool:
            paths = [path for some in pool.map(ask, range(16)) for path in some]
        assert lengths(server, tmp_path / "client", paths) == {path: int(path.partition("/")[2]) for path in paths}
