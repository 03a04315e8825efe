"""The log outlives the code: a log of an earlier version is opened, upgraded and served."""

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tufline.errors import ServerError
from tufline_testing.offline import new_key_file
from tufline_testing.server import Running, artifact, lengths, run_tufline, serve, wait_until

pytestmark = pytest.mark.slow

LOGS = sorted((Path(__file__).parents[1] / "fixtures" / "logs").glob("*.tar.xz"))


def unpack(archive: Path, directory: Path) -> dict[str, Any]:
    """Copy a repository of an earlier version into a directory, and return what must be live in the end."""
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    expected: dict[str, Any] = json.loads((directory / "expected.json").read_text())
    return expected


def settle(server: Running) -> None:
    """Wait until everything that is on the log is live."""
    wait_until(lambda: server.client.request("GET", "/readyz", accept_unavailable=True)["ready"], "not ready")
    wait_until(lambda: server.client.request("GET", "/api/v1/status")["backlog"] == 0, "the backlog stays")


def change(server: Running, call: str, artifacts: Sequence[Any]) -> None:
    """Send a request, and wait until it is live."""
    task = server.client.request("POST", f"/api/v1/artifacts/{call}", {"artifacts": artifacts})["data"]["task_id"]
    assert server.client.wait_for_task(task, deadline=float("inf"))["status"]


def rotate(server: Running, directory: Path) -> None:
    """Change the online key, with the keys and the root that the earlier version made."""
    keys, at = directory / "keys", ("--url", server.api)
    shutil.rmtree(directory / "rotation")
    begun = run_tufline("keys", "rotate", "rotation", "--new", new_key_file(keys, "third"), *at, cwd=directory)
    assert begun.returncode == 0, begun.stderr
    files = [path for name in ("root", "targets") if (path := directory / "rotation" / f"{name}.json").exists()]
    signing = [word for path in sorted((keys / "offline").glob("*-[12].pem")) for word in ("--key", path)]
    assert run_tufline("sign", *files, *signing, cwd=directory).returncode == 0
    done = run_tufline("keys", "rotate", "rotation", *at, cwd=directory)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("archive", LOGS, ids=lambda archive: archive.name.partition(".")[0])
def test_a_log_of_an_earlier_version_is_served_on(archive: Path, tmp_path: Path) -> None:
    """A repository that an earlier version left at SIGKILL continues: everything accepted is live, for its clients and its tasks."""
    expected = unpack(archive, tmp_path / "repository")
    live: dict[str, int] = expected["live"]
    odd = next(path for path in live if "%" in path)
    paths = [*live, *expected["gone"], "new"]
    with serve(tmp_path / "repository") as server:
        settle(server)
        assert lengths(server, tmp_path / "client", paths) == live
        for task in expected["tasks"]:
            assert server.client.request("GET", f"/api/v1/task/?task_id={task}")["data"]["state"] == "SUCCESS"
        change(server, "", [artifact("new", 1)])
        change(server, "delete", [odd])
        live = {path: length for path, length in {**live, "new": 1}.items() if path != odd}
        assert lengths(server, tmp_path / "client", paths) == live
        with pytest.raises(ServerError, match="%"):
            change(server, "", [artifact(odd, 1)])
        rotate(server, tmp_path / "repository")
        assert server.client.request("GET", "/api/v1/trust")["root"]["current"] == 3
        assert lengths(server, tmp_path / "client", paths) == live
    with serve(tmp_path / "repository") as server:
        settle(server)
        assert lengths(server, tmp_path / "newcomer", paths) == live
        assert server.stop() == 0
    for command in (("fsck",), ("audit", "verify")):
        checked = run_tufline(*command, cwd=tmp_path / "repository")
        assert checked.returncode == 0, f"{command}: {checked.stdout}{checked.stderr}"


def test_there_are_logs_of_earlier_versions() -> None:
    """The archives exist, so that the test above can't pass without any."""
    assert {archive.name for archive in LOGS} >= {
        f"{commit}-{mode}.tar.xz" for commit in ("70f6a18", "73c7b5f") for mode in ("pep458", "rstuf")
    }
