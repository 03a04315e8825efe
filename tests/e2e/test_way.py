"""The path of an artifact through the real command line: to a TUF client, across restarts and kills."""

import asyncio
import json
import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.config.settings import DEFAULT_PARTITIONS
from tufline.errors import TuflineError
from tufline.records import topics
from tufline_testing.server import TUFLINE, Running, artifact, dev, lengths, run_tufline, serve, start_dev, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("mode", "scheme"), [("pep458", "ecdsa"), ("rstuf", "ed25519")])
def test_the_whole_way(tmp_path: Path, mode: str, scheme: str) -> None:
    """Files are imported, live, listed by status, downloaded and verified as a client, and removed, by the commands of the README."""
    files = tmp_path / "files"
    for number in range(40):
        (files / f"d{number % 3}").mkdir(parents=True, exist_ok=True)
        (files / f"d{number % 3}" / f"{number} ä.txt").write_text(f"content {number}")
    with dev(tmp_path / "data", "--bins", "16", "--mode", mode, "--scheme", scheme, "--targets", files) as server:
        at = ("--url", server.api)
        imported = run_tufline("import", files, *at, cwd=tmp_path)
        assert (imported.returncode, imported.stdout) == (0, "40 live, 0 refused\n"), imported.stderr
        again = run_tufline("import", files, *at, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        status = run_tufline("status", *at, cwd=tmp_path)
        assert status.returncode == 0
        assert "finished" in status.stdout
        verified = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "verified: 40 targets in 16 bins" in verified.stdout
        got = run_tufline("download", server.metadata, "d1/1 ä.txt", "--root", server.root, "--out", "out", cwd=tmp_path)
        assert got.returncode == 0, got.stderr
        assert (tmp_path / "out" / "1 ä.txt").read_text() == "content 1"
        (tmp_path / "out" / "4 ä.txt").write_text("of another time")
        more = ("d1/1 ä.txt", "d1/4 ä.txt", "d1/4 ä.txt", "d2/2 ä.txt")
        got = run_tufline("download", server.metadata, *more, "--root", server.root, "--out", "out", cwd=tmp_path)
        assert (got.returncode, got.stdout) == (0, "out/1 ä.txt\nout/4 ä.txt\nout/2 ä.txt\n"), got.stderr
        assert [(tmp_path / "out" / f"{number} ä.txt").read_text() for number in (1, 2, 4)] == ["content 1", "content 2", "content 4"]
        (tmp_path / "out" / "5 ä.txt").mkdir()
        taken = run_tufline("download", server.metadata, "d2/5 ä.txt", "--root", server.root, "--out", "out", cwd=tmp_path)
        assert (taken.returncode, "can't be saved: Is a directory" in taken.stderr) == (1, True), taken.stderr
        for changed in ("content X", "content 1, and more"):
            (files / "d1" / "1 ä.txt").write_text(changed)
            refused = run_tufline("download", server.metadata, "d1/1 ä.txt", "--root", server.root, "--out", "out2", cwd=tmp_path)
            assert refused.returncode == 1
            assert "not what the repository vouches for" in refused.stderr
        removed = run_tufline("remove", "d1/1 ä.txt", *at, cwd=tmp_path)
        assert removed.stdout == "1 removed\n"
        gone = run_tufline("download", server.metadata, "d1/1 ä.txt", "--root", server.root, cwd=tmp_path)
        assert "does not list" in gone.stderr


def test_a_fixed_import_continues(tmp_path: Path) -> None:
    """All refused lines are counted, however many; fixed and imported again, every one is live, and no journal remains."""
    good = [json.dumps(artifact(f"p/{number}", number)) for number in range(2300)]
    (tmp_path / "source.ndjson").write_text("\n".join([good[0], *(line.replace("p/", "/p/") for line in good[1:2000]), *good[2000:]]))
    with dev(tmp_path / "data", "--bins", "4") as server:
        command = ("import", "source.ndjson", "--url", server.api)
        first = run_tufline(*command, cwd=tmp_path)
        assert (first.returncode, first.stdout) == (1, "301 live, 1999 refused\n"), first.stderr
        assert first.stderr.count("refused: ") == 20
        (tmp_path / "source.ndjson").write_text("\n".join(good[1:]))
        again = run_tufline(*command, cwd=tmp_path)
        assert (again.returncode, again.stdout) == (0, "2299 live, 0 refused\n"), again.stderr
        verified = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert "verified: 2300 targets" in verified.stdout
    assert not list(tmp_path.glob(".tufline-import*"))


def test_verify_reports_everything_that_is_wrong(tmp_path: Path) -> None:
    """Verify names every bin that is changed, old, cut off or missing, and ends with exit code 1."""
    with dev(tmp_path / "data", "--bins", "8") as server:
        assert run_tufline("add", "a=data.log", "--url", server.api, cwd=tmp_path).returncode == 0
        origin = tmp_path / "data" / "origin" / "metadata"
        role = server.client.request("GET", "/api/v1/artifacts/a")["role"]
        others = [path for path in sorted(origin.glob("1.bins-*.json")) if role not in path.name]
        (origin / f"2.{role}.json").write_bytes((origin / f"1.{role}.json").read_bytes())
        others[0].write_bytes(others[0].read_bytes().replace(b'"targets":{}', b'"targets": {}'))
        others[1].write_bytes(others[1].read_bytes()[:50])
        others[2].unlink()
        found = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert found.returncode == 1
        said = {line.partition(":")[0]: line for line in found.stdout.splitlines()}
        assert "version is 1, and the snapshot names 2" in said[role]
        assert "not in canonical form" in said[others[0].name.split(".")[1]]
        assert "a client refuses it" in said[others[1].name.split(".")[1]]
        assert "HTTP 404" in said[others[2].name.split(".")[1]]
        assert "4 findings in 8 bins" in found.stderr
        with (origin / "2.snapshot.json").open("a") as snapshot:
            snapshot.write(" ")
        longer = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert longer.returncode == 1
        assert "a TUF client refuses this repository" in longer.stderr


def test_init_and_serve_with_own_keys(tmp_path: Path) -> None:
    """A configured server is bootstrapped with the keys and payload of ``tufline init``, and nothing is overwritten."""
    config = tmp_path / "tufline.toml"
    made = run_tufline("init", "--out", "keys", "--unencrypted", "--bins", "8", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "keys" / "offline" / "root-1.pem").stat().st_mode & 0o077 == 0
    assert run_tufline("init", "--out", "keys", "--unencrypted", "--bins", "8", cwd=tmp_path).returncode == 2
    config.write_text(
        "[bus]\nurl = 'embedded:log.db'\n[ingest]\nport = 0\n[web]\nport = 0\n[signer]\nkey_dir = 'keys/online'\n"
        "[publisher]\ndirectory = 'origin'\n"
    )
    shown = run_tufline("config", "--json", cwd=tmp_path, env={"TUFLINE_SIGNER__COMMIT_INTERVAL": "0.5"})
    assert '"source": "TUFLINE_SIGNER__COMMIT_INTERVAL"' in shown.stdout
    assert '"source": "tufline.toml"' in shown.stdout
    with serve(tmp_path) as server, (tmp_path / "keys" / "bootstrap.json").open() as payload:
        answer = server.client.request("POST", "/api/v1/bootstrap/", json.load(payload))
        result = server.client.wait_for_task(answer["data"]["task_id"], deadline=float("inf"))
        assert result["status"], result
        assert run_tufline("add", "a=tufline.toml", "--url", server.api, cwd=tmp_path).stdout == "1 live\n"
        origin = tmp_path / "origin"
        assert (origin / "timestamp.json").exists()
        assert (origin / "1.root.json").exists()


@pytest.mark.parametrize("seed", range(4))
def test_kill_at_any_moment_loses_nothing(tmp_path: Path, seed: int) -> None:
    """After SIGKILL at random moments, everything accepted becomes live, and nothing goes back.

    One thread announces each path with growing numbers: in the end a client must see at least the last accepted number, and at most the
    last one sent.
    """
    chance = random.Random(seed)
    accepted: dict[str, int] = {}
    sent: dict[str, int] = {}
    stop = threading.Event()
    current: list[Running] = [start_dev(tmp_path / "data", "--bins", "8")]

    def announce(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            paths = [f"t{thread}/p{other}" for other in random.Random(f"{seed}/{thread}/{number}").sample(range(12), 4)]
            sent.update(dict.fromkeys(paths, number))
            try:
                current[0].client.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact(path, number) for path in paths]})
            except TuflineError:
                stop.wait(0.05)
            else:
                accepted.update(dict.fromkeys(paths, number))

    try:
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(announce, thread) for thread in range(4)]
            try:
                for _ in range(3):
                    stop.wait(chance.uniform(0.1, 1.0))
                    current[0].kill()
                    current[0] = start_dev(tmp_path / "data", "--bins", "8")
                stop.wait(0.5)
            finally:
                stop.set()  # otherwise the pool would wait indefinitely, and hide the reason
            for thread in running:
                thread.result()
        server = current[0]
        wait_until(lambda: server.client.request("GET", "/api/v1/status")["backlog"] == 0, f"backlog stays (seed {seed})")
        seen = lengths(server, tmp_path / "client", sorted(sent))
        assert accepted, f"nothing was accepted (seed {seed})"
        for path, number in accepted.items():
            assert number <= seen[path] <= sent[path], f"{path}: accepted {number}, sent {sent[path]}, live {seen[path]} (seed {seed})"
        verified = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert verified.returncode == 0, f"seed {seed}: {verified.stdout}"
    finally:
        current[0].process.kill()
        current[0].process.wait()


def test_stop_and_start_goes_on(tmp_path: Path) -> None:
    """SIGTERM ends the process with exit code 0; a task id answered before is answered after the restart."""
    with dev(tmp_path / "data", "--bins", "4") as server:
        task = server.client.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a", 1)]})["data"]["task_id"]
        assert server.stop() == 0, server.log.read_text()
    with dev(tmp_path / "data", "--bins", "4") as server:
        result = server.client.wait_for_task(task, deadline=float("inf"))
        assert result["details"]["added_artifacts"] == ["a"]
        assert lengths(server, tmp_path / "client", ["a"]) == {"a": 1}


async def leave_what_nobody_reads(log: Path) -> None:
    """Append a record of a newer version to ``admin``: this one waits there until it is upgraded."""
    bus = await open_embedded(log, topics.topics(DEFAULT_PARTITIONS))
    await bus.append([Message(topics.ADMIN, "newer", b'{"kind":"newer","v":99}')])
    await bus.close()


def test_a_signal_ends_the_wait_for_the_beginning(tmp_path: Path) -> None:
    """SIGTERM ends ``tufline dev`` with exit code 0 while an unreadable log prevents the bootstrap."""
    data, log = tmp_path / "data", tmp_path / "dev.log"
    with dev(data, "--bins", "4") as server:
        assert server.stop() == 0
    asyncio.run(leave_what_nobody_reads(data / "log.db"))
    command = [TUFLINE, "dev", "--data", str(data), "--port", "0", "--web-port", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: b'"status": 503' in log.read_bytes() or process.poll() is not None, "it does not wait")
            assert process.poll() is None, log.read_text()
            process.terminate()
            assert process.wait(timeout=20) == 0, log.read_text()
        finally:
            process.kill()


def test_two_processes_on_one_log(tmp_path: Path) -> None:
    """A second process on the same data ends immediately with the reason; the first one continues."""
    with dev(tmp_path / "data", "--bins", "4") as server:
        second = run_tufline("dev", "--data", tmp_path / "data", "--port", "0", "--web-port", "0", cwd=tmp_path)
        assert second.returncode == 3
        assert "open in another process" in second.stderr
        assert server.client.request("GET", "/readyz")["ready"]


@pytest.mark.parametrize("seed", range(2))
def test_kill_while_delegations_change_loses_nothing(tmp_path: Path, seed: int) -> None:
    """After SIGKILL in the middle of changes of custom roles, each accepted change is done, and so is each accepted artifact or refused.

    One thread announces each path with growing numbers. What a task refused must be sent again; of everything else a client must see at
    least the last accepted number.
    """
    chance = random.Random(seed)
    new = [{"name": name, "paths": paths} for name, paths in (("dev", ["d/*"]), ("both", ["d/*", "x/*"]))]
    accepted: dict[int, tuple[list[str], str]] = {}
    sent: dict[str, int] = {}
    stop = threading.Event()
    current: list[Running] = [start_dev(tmp_path / "data", "--bins", "8", "--mode", "rstuf")]

    def announce() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            paths = [f"{folder}/p{random.Random(f'{seed}/{number}').randrange(6)}" for folder in "dxo"]
            sent.update(dict.fromkeys(paths, number))
            try:
                answer = current[0].client.request("POST", "/api/v1/artifacts/", {"artifacts": [artifact(path, number) for path in paths]})
            except TuflineError:
                stop.wait(0.05)
            else:
                accepted[number] = paths, answer["data"]["task_id"]

    def task(task_id: str) -> dict[str, Any]:
        data: dict[str, Any] = current[0].client.request("GET", f"/api/v1/task/?task_id={task_id}")["data"]
        return data

    def is_done(task_id: str) -> bool:
        return task(task_id)["state"] in {"SUCCESS", "ERRORED"}

    try:
        with ThreadPoolExecutor(1) as pool:
            running, changes = pool.submit(announce), []
            try:
                for step in range(4):
                    call, roles = ("", new) if step % 2 == 0 else ("delete", [{"name": role["name"]} for role in new])
                    answer = current[0].client.request("POST", f"/api/v1/delegations/{call}", {"delegations": {"roles": roles}})
                    changes.append(answer["data"]["task_id"])
                    stop.wait(chance.uniform(0, 0.15))
                    current[0].kill()
                    current[0] = start_dev(tmp_path / "data", "--bins", "8", "--mode", "rstuf")
                stop.wait(0.5)
            finally:
                stop.set()
            running.result()
        server = current[0]
        for task_id in (*changes, *(task_id for _, task_id in accepted.values())):
            wait_until(partial(is_done, task_id), f"{task_id} is not done (seed {seed})")
        assert {task(task_id)["state"] for task_id in changes} == {"SUCCESS"}
        refused = {number: task(task_id)["result"]["details"]["invalid_paths"] for number, (_, task_id) in accepted.items()}
        seen = lengths(server, tmp_path / "client", sorted(sent))
        for number, (paths, _) in accepted.items():
            for path in paths:
                assert path in refused[number] or number <= seen[path] <= sent[path], f"{path}: {number}, {seen.get(path)} (seed {seed})"
        verified = run_tufline("verify", server.metadata, "--root", server.root, cwd=tmp_path)
        assert verified.returncode == 0, f"seed {seed}: {verified.stdout}"
    finally:
        current[0].process.kill()
        current[0].process.wait()
