"""The REST API as repositories use it: RSTUF's messages, tasks, bulk lines, queries."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Reader, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import utc_now
from tufline.records import MAX_CHANGES_BYTES, Add, Remove, topics
from tufline_cli.exit_codes import Exit
from tufline_ingest import context, routes
from tufline_ingest.accept import make_messages
from tufline_ingest.rest import application
from tufline_ingest.views import recent_requests
from tufline_ingest.views.published import COUNTED_GAP
from tufline_testing.log import Published, announce, read_all, settings_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, Rest, artifact, bootstrapped, rest
from tufline_testing.server import run_tufline

ARTIFACTS, DELETE, BULK, BOOTSTRAP = (f"/api/v1/{call}" for call in ("artifacts", "artifacts/delete", "artifacts/bulk", "bootstrap"))


async def submit(server: Rest, path: str, body: Any, message: str) -> dict[str, Any]:
    """Send a change, check the answer against RSTUF's format, and return the finished task."""
    status, answer = await server.ask("POST", path, body)
    assert status == 202, answer
    assert answer["message"] == message
    assert answer["data"]["last_update"].endswith("Z")
    task = await server.task(answer["data"]["task_id"])
    assert task["task_id"] == answer["data"]["task_id"]
    return task


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kept_bytes", [0, recent_requests.KEPT_BYTES], ids=["read back", "from memory"])
async def test_add_query_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slash: str, kept_bytes: int) -> None:
    """An artifact is accepted, live, found and removed with RSTUF's messages and details, with and without the slash at the end."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", kept_bytes)
    async with bootstrapped(tmp_path) as server:
        odd = 'd/ä "quoted" +:;&41.whl'
        body = {"artifacts": [artifact("a", "12", custom={"k": 1}), artifact(odd, 7)]}
        task = await submit(server, ARTIFACTS + slash, body, "New Artifact(s) successfully submitted.")
        assert task["state"] == "SUCCESS"
        assert task["result"]["task"] == "add_artifacts"
        assert task["result"]["status"] is True
        assert sorted(task["result"]["details"]["added_artifacts"]) == ["a", odd]
        assert task["result"]["details"]["invalid_paths"] == []
        status, found = await server.ask("GET", f"{ARTIFACTS}/a")
        assert status == 200
        assert (found["length"], found["custom"], found["role"].startswith("bins-")) == (12, {"k": 1}, True)
        status, found = await server.ask("GET", f"{ARTIFACTS}/{quote(odd, safe='')}")
        assert (status, found["path"], found["length"]) == (200, odd, 7)
        task = await submit(server, DELETE + slash, {"artifacts": ["a", "never"]}, "Remove Artifact(s) successfully submitted.")
        assert task["result"]["task"] == "remove_artifacts"
        assert task["result"]["details"] == {"deleted_artifacts": ["a"], "not_found_artifacts": ["never"]}
        assert (await server.ask("GET", f"{ARTIFACTS}/a"))[0] == 404


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_request_without_artifacts_is_done(tmp_path: Path, slash: str) -> None:
    """A request that names no artifact is accepted as by RSTUF: its task is SUCCESS at once, and nothing of it is on the log."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        added = await submit(server, ARTIFACTS + slash, {"artifacts": []}, "New Artifact(s) successfully submitted.")
        removed = await submit(server, DELETE + slash, {"artifacts": []}, "Remove Artifact(s) successfully submitted.")
        assert (added["state"], removed["state"]) == ("SUCCESS", "SUCCESS")
        assert added["result"]["details"] == {"added_artifacts": [], "invalid_paths": [], "artifact_roles": []}
        assert removed["result"]["details"] == {"deleted_artifacts": [], "not_found_artifacts": []}
        assert added["result"]["last_update"].endswith("Z")
        assert await server.on_log() == before


async def test_nulls_are_accepted_and_left_out(tmp_path: Path) -> None:
    """RSTUF's clients may send null for what is optional, a timeout in any request, and find no null in any answer to RSTUF's calls."""

    def has_null(answer: Any) -> bool:
        inner = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else ()
        return answer is None or any(map(has_null, inner))

    payload = make_bootstrap(tmp_path / "keys", bins=8).payload
    async with rest(tmp_path, whole=True) as server:
        answers = [await server.ask("GET", BOOTSTRAP), await server.ask("POST", BOOTSTRAP, {**payload, "timeout": None})]
        await server.task(answers[1][1]["data"]["task_id"])
        for path, body in (
            (ARTIFACTS, {"artifacts": [artifact("a", custom=None)], "timeout": None}),
            (DELETE, {"artifacts": ["a", "b"], "timeout": None}),
        ):
            answers.append(await server.ask("POST", path, body))
            await server.task(answers[-1][1]["data"]["task_id"])
            answers.append(await server.ask("GET", f"/api/v1/task?task_id={answers[-1][1]['data']['task_id']}"))
        answers += [await server.ask("GET", call) for call in (BOOTSTRAP, "/api/v1/metadata/sign", "/api/v1/task?task_id=unknown")]
        assert {status for status, _ in answers} <= {200, 202}, answers
        assert not [answer for _, answer in answers if has_null(answer)]


async def test_an_old_path_stays_until_it_is_removed(tmp_path: Path) -> None:
    """A path that the first rules accepted stays live, is found, and can be removed by every call; nothing new is added under it."""
    old = ["100%.whl", "a?b", "a#b", "a\\b", "a "]
    async with bootstrapped(tmp_path) as server:
        settings = settings_of(8, PARTITIONS, {})
        await announce(server.bus, settings, [Add(path, 7, {"sha256": "ab" * 32}) for path in old])
        await submit(server, ARTIFACTS, {"artifacts": [artifact("new")]}, "New Artifact(s) successfully submitted.")
        for path in old:
            assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path, safe='')}"))[1]["length"] == 7
            status, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact(path)]})
            assert (status, "clients" in answer["detail"]) == (422, True), answer
        lines = [line(**artifact(old[0])), line(path=old[0], op="remove")]
        _, answer = await server.ask("POST", BULK, b"\n".join(lines))
        assert (answer["data"]["accepted"], [refused["line"] for refused in answer["data"]["refused_lines"]]) == (1, [1])
        await server.task(answer["data"]["task_id"])
        task = await submit(server, DELETE, {"artifacts": old[1:]}, "Remove Artifact(s) successfully submitted.")
        assert sorted(task["result"]["details"]["deleted_artifacts"]) == sorted(old[1:])
        for path in old:
            assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path, safe='')}"))[0] == 404


async def test_paths_that_are_url_paths(tmp_path: Path) -> None:
    """With ``encoded_paths`` a percent-encoded path is accepted, live and found as it is; one that is not well-formed is refused."""
    async with bootstrapped(tmp_path, encoded_paths=True) as server:
        path = "torch/torch-2.0%2Bcpu.whl"
        await submit(server, ARTIFACTS, {"artifacts": [artifact(path, 7)]}, "New Artifact(s) successfully submitted.")
        assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path)}"))[1]["path"] == path
        assert (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("100%")]}))[0] == 422


async def test_bootstrap_states(tmp_path: Path) -> None:
    """The bootstrap goes from available to finished; of several concurrent ones exactly one is accepted."""
    payload = make_bootstrap(tmp_path / "keys").payload
    async with rest(tmp_path, whole=True) as server:
        answers = await asyncio.gather(*(server.ask("POST", BOOTSTRAP, payload) for _ in range(5)))
        accepted = [answer for status, answer in answers if status == 202]
        assert sorted(status for status, _ in answers) == [202, 404, 404, 404, 404]
        assert accepted[0]["message"] == "Bootstrap accepted."
        result = await server.task(accepted[0]["data"]["task_id"])
        assert result["result"]["details"] == {"bootstrap": True}
        _, state = await server.ask("GET", BOOTSTRAP)
        assert state["message"] == "System LOCKED for bootstrap."
        assert (state["data"]["bootstrap"], state["data"]["state"]) == (True, "finished")
        assert (await server.task(state["data"]["id"]))["state"] == "SUCCESS"


async def test_bootstrap_without_signer_is_pre(tmp_path: Path) -> None:
    """Until the first metadata is published the state is pre, and changes are answered accordingly."""
    payload = make_bootstrap(tmp_path / "keys").payload
    async with rest(tmp_path) as server:
        status, answer = await server.ask("POST", BOOTSTRAP, payload)
        assert status == 202
        _, task = await server.ask("GET", f"/api/v1/task?task_id={answer['data']['task_id']}")
        assert task["data"] == {"task_id": answer["data"]["task_id"], "state": "RUNNING"}
        _, state = await server.ask("GET", BOOTSTRAP)
        assert state["data"]["state"] == "pre"
        status, refused = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("a")]})
        assert (status, refused["detail"]["error"]) == (404, "It requires bootstrap finished. State: pre")


async def test_last_of_one_request_counts(tmp_path: Path) -> None:
    """Within a request the order is kept: the last word about a path is live."""
    async with bootstrapped(tmp_path) as server:
        body = {"artifacts": [artifact("a", number) for number in range(1, 50)]}
        await submit(server, ARTIFACTS, body, "New Artifact(s) successfully submitted.")
        assert (await server.ask("GET", f"{ARTIFACTS}/a"))[1]["length"] == 49


async def test_task_outlives_the_service(tmp_path: Path) -> None:
    """A task id answered by one process is answered by the next one, with the same details."""
    async with bootstrapped(tmp_path) as server:
        task = await submit(server, ARTIFACTS, {"artifacts": [artifact("a")]}, "New Artifact(s) successfully submitted.")
    async with rest(tmp_path) as again:
        assert await again.task(task["task_id"]) == task


@dataclass
class HeldBus:
    """A bus that returns nothing from one topic for a while."""

    bus: EmbeddedBus
    topic: str
    released: asyncio.Event

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        reader = self.bus.reader(topic, partition, offset)
        return HeldReader(reader, self.released) if topic == self.topic else reader


@dataclass
class HeldReader:
    """A reader of a ``HeldBus``."""

    reader: Reader
    released: asyncio.Event

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        await self.released.wait()
        return await self.reader.fetch(max_wait=max_wait, max_bytes=max_bytes)


@dataclass
class LateBus(HeldBus):
    """A bus on which records appended to a topic become readable only once they are released."""

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        reader = self.bus.reader(topic, partition, offset)
        return LateReader(reader, self.released) if topic == self.topic else reader


@dataclass
class LateReader(HeldReader):
    """A reader of a ``LateBus``."""

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        batch = await self.reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        await self.released.wait()
        return batch


async def test_a_bootstrap_that_is_not_read_back_does_not_hold_up_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap is answered, and the next one is judged, even while the record can't be read back; the first one counts."""
    monkeypatch.setattr(context, "ADMIN_SECONDS", 0.2)
    payload = make_bootstrap(tmp_path / "keys").payload
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    released = asyncio.Event()
    released.set()
    async with rest(tmp_path, bus=LateBus(log, topics.ADMIN, released)) as server, asyncio.timeout(60):
        assert (await server.ask("GET", BOOTSTRAP))[0] == 200
        released.clear()
        for _ in range(2):
            status, answer = await server.ask("POST", BOOTSTRAP, payload)
            assert (status, "on the log" in answer["detail"]) == (503, True), answer
        released.set()
        while (state := (await server.ask("GET", BOOTSTRAP))[1]["data"])["state"] is None:
            await asyncio.sleep(0.01)
        assert state["state"] == "pre"
        assert (await server.ask("POST", BOOTSTRAP, payload))[0] == 404
    await log.close()


OF_ADMIN = [("GET", BOOTSTRAP), ("POST", BOOTSTRAP), ("POST", ARTIFACTS), ("GET", f"{ARTIFACTS}/a"), ("GET", "/api/v1/task?task_id=a")]
OF_HEADS = [("GET", "/api/v1/status"), ("GET", "/api/v1/trust")]


@pytest.mark.parametrize(
    ("topic", "requests"), [(topics.ADMIN, OF_ADMIN + OF_HEADS), (topics.PUBLISHED, OF_ADMIN + OF_HEADS), (topics.HEADS, OF_HEADS)]
)
async def test_nothing_is_said_before_the_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str, requests: list[tuple[str, str]]
) -> None:
    """Right after its start, ingest answers by the whole log or not at all; it never denies an existing repository."""
    async with bootstrapped(tmp_path):
        pass
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    released = asyncio.Event()
    body = {"artifacts": [artifact("a")]}
    async with rest(tmp_path, bus=HeldBus(log, topic, released)) as server:
        monkeypatch.setattr(application, "RESTORE_SECONDS", 0.05)
        for method, path in requests:
            status, answer = await server.ask(method, path, body)
            assert (status, "still being read" in answer["detail"]) == (503, True)
        status, answer = await server.ask("GET", "/readyz")
        assert (status, answer["parts"]["ingest.log"]) == (503, "reading what the log has")
        assert (await server.ask("GET", "/api/v1/openapi.json"))[0] == 200
        monkeypatch.setattr(application, "RESTORE_SECONDS", 60)
        held = asyncio.create_task(server.ask("GET", "/api/v1/status"))
        assert await asyncio.wait([held], timeout=0.1) == (set(), {held})
        released.set()
        assert (await held)[0] == 200
        assert (await server.ask("POST", ARTIFACTS, body))[0] == 202
        assert (await server.ask("GET", BOOTSTRAP))[1]["data"]["state"] == "finished"
        assert (await server.ask("GET", "/readyz"))[1]["parts"]["ingest.log"] == ""
    await log.close()


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


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


async def test_bulk_lines(tmp_path: Path) -> None:
    """Any number of bulk lines is accepted; refusals are reported by line and reason, and all other lines become live."""
    good = [line(**artifact(f"p/{number}", number)) for number in range(20_000)]
    bad = {
        5: (b"no json", "not JSON"),
        17: (line(**artifact("/absolute")), "absolute"),
        18: (b"x" * 20_000, "longer than 16384 bytes"),
        19_999: (line(path="a"), "info is missing"),
        20_001: (line(path="p/7", op="publish"), "op"),
    }
    lines = list(good)
    for number in sorted(bad):
        lines.insert(number - 1, bad[number][0])
    lines.insert(100, b"  ")
    bad_shifted = {number + (number > 100): says for number, (_, says) in bad.items()}
    lines.append(line(path="p/3", op="remove"))
    async with bootstrapped(tmp_path) as server:
        status, answer = await server.ask("POST", BULK, b"\n".join(lines))
        assert status == 202
        data = answer["data"]
        assert (data["accepted"], data["refused"]) == (20_001, len(bad))
        for refused in data["refused_lines"]:
            assert bad_shifted[refused["line"]] in refused["reason"]
        assert (await server.task(data["task_id"]))["state"] == "SUCCESS"
        assert (await server.ask("GET", f"{ARTIFACTS}/p/3"))[0] == 404
        assert (await server.ask("GET", f"{ARTIFACTS}/p/19999"))[1]["length"] == 19_999


@pytest.mark.parametrize("body", [b"{}", b"\xff\xfe"])
async def test_bulk_of_refused_lines(tmp_path: Path, body: bytes) -> None:
    """A bulk request without an acceptable line has no task, and puts nothing on the log."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        status, answer = await server.ask("POST", BULK, body)
        assert (status, answer["data"]["task_id"], answer["data"]["accepted"]) == (202, None, 0)
        assert await server.on_log() == before


@pytest.mark.parametrize("body", [b"", b"\n\n \n", None])
async def test_bulk_of_nothing(tmp_path: Path, body: bytes | None) -> None:
    """A bulk request without lines is refused: its sender meant to send some."""
    async with bootstrapped(tmp_path) as server, server.session.post(server.url + BULK, data=body) as response:
        assert (response.status, "no lines" in (await response.json())["detail"]) == (422, True)


async def test_bulk_line_in_many_chunks(tmp_path: Path) -> None:
    """Lines may arrive in chunks of any size, and the last one without a newline."""
    content = b"\n".join(line(**artifact(f"p/{number}")) for number in range(50))

    async def drip() -> Any:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]
            await asyncio.sleep(0)

    async with bootstrapped(tmp_path) as server, server.session.post(server.url + BULK, data=drip()) as response:
        assert (await response.json())["data"]["accepted"] == 50


async def test_pushback_is_503(tmp_path: Path) -> None:
    """If the log accepts nothing more, the answer is 503 with Retry-After, and tells that it is safe to send the request again."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), max_pending_bytes=1)
    try:
        async with bootstrapped(tmp_path, bus=bus) as server:
            body = {"artifacts": [artifact(f"p/{number}") for number in range(50)]}
            url = server.url + ARTIFACTS
            responses = await asyncio.gather(*(server.session.post(url, json=body) for _ in range(20)))
            busy = [response for response in responses if response.status == 503]
            assert {response.status for response in responses} == {202, 503}
            assert all(int(response.headers["Retry-After"]) >= 1 for response in busy)
            assert "to send it again is safe" in (await busy[0].json())["detail"]
    finally:
        await bus.close()


async def test_operators_see(tmp_path: Path) -> None:
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
    assert len(shown) == 3
    async with bootstrapped(tmp_path) as server:
        for path, body in shown.items():
            assert body is not None
            content = body.example.encode() if isinstance(body.example, str) else body.example
            assert (await server.ask("POST", path, content))[0] == 202, path


SETTINGS = settings_of(64, PARTITIONS, {})


async def test_records_hold_at_most_half_a_megabyte() -> None:
    """However large a request is, no record of artifacts exceeds the limit, and together they have its changes in order."""
    changes: list[Add | Remove] = [Add(f"p/{number % 5000}", number, {"sha256": "0" * 64}, {"x": "y" * 900}) for number in range(6000)]
    changes[17] = Remove("p/17")
    messages = await make_messages(changes, SETTINGS, 1)
    assert max(len(message.value) for message in messages) <= MAX_CHANGES_BYTES
    assert len(messages) > PARTITIONS
    for partition in range(PARTITIONS):
        expected = [change for change in changes if SETTINGS.partitioning.partition_of_path(change.path) == partition]
        written = [
            change
            for message in messages
            if message.partition == partition
            for change in records.decode(records.changes_decoder, message.value).changes
        ]
        assert written == expected


async def test_new_metadata_is_judged_by_the_log_s_time(tmp_path: Path) -> None:
    """Once the log's time is known, a new version of root is judged as before: the answer has the reason."""
    async with bootstrapped(tmp_path) as server:
        await submit(server, ARTIFACTS, {"artifacts": [artifact("a")]}, "New Artifact(s) successfully submitted.")
        root = json.loads((await Published.read(server.bus)).files["1.root.json"])
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": {"root": root}})
        assert (status, "version" in answer["detail"]) == (422, True), answer


async def test_answer_comes_after_the_log_has_it(tmp_path: Path) -> None:
    """When a change is answered, its record is on the log with the admin offset that ingest had applied."""
    async with bootstrapped(tmp_path) as server:
        status, _ = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("a", 5)]})
        assert status == 202
        found = [record for partition in range(PARTITIONS) for record in await read_all(server.bus, topics.ARTIFACTS, partition)]
        changes = records.decode(records.changes_decoder, found[0].value)
        on_admin = await server.bus.end(topics.ADMIN, 0)  # the bootstrap, and the record of its start
        assert (changes.admin, changes.changes) == (on_admin, [Add("a", 5, {"sha256": "ab" * 32})])
