"""Artifacts over REST as repositories use them: RSTUF's messages, tasks and queries."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tufline import records
from tufline.bus.embedded.bus import open_embedded
from tufline.records import MAX_CHANGES_BYTES, Add, Remove, topics
from tufline.records.routing import Routing
from tufline_ingest.accept import make_messages
from tufline_ingest.views import recent_requests
from tufline_testing.log import announce, read_all, settings_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, artifact, bootstrapped, bulk_line, rest

ARTIFACTS, DELETE, BULK, BOOTSTRAP = "/api/v1/artifacts", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/bootstrap"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kept_bytes", [0, recent_requests.KEPT_BYTES], ids=["read back", "from memory"])
async def test_add_query_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slash: str, kept_bytes: int) -> None:
    """An artifact is accepted, live, found and removed with RSTUF's messages and details, with and without the slash at the end."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", kept_bytes)
    async with bootstrapped(tmp_path) as server:
        odd = 'd/ä "quoted" +:;&41.whl'
        body = {"artifacts": [artifact("a", "12", custom={"k": 1}), artifact(odd, 7)]}
        task = await server.submit(ARTIFACTS + slash, body, "New Artifact(s) successfully submitted.")
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
        task = await server.submit(DELETE + slash, {"artifacts": ["a", "never"]}, "Remove Artifact(s) successfully submitted.")
        assert task["result"]["task"] == "remove_artifacts"
        assert task["result"]["details"] == {"deleted_artifacts": ["a"], "not_found_artifacts": ["never"]}
        assert (await server.ask("GET", f"{ARTIFACTS}/a"))[0] == 404


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_request_without_artifacts_is_done(tmp_path: Path, slash: str) -> None:
    """A request that names no artifact is accepted as by RSTUF: its task is SUCCESS at once, and nothing of it is on the log."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        added = await server.submit(ARTIFACTS + slash, {"artifacts": []}, "New Artifact(s) successfully submitted.")
        removed = await server.submit(DELETE + slash, {"artifacts": []}, "Remove Artifact(s) successfully submitted.")
        assert (added["state"], removed["state"]) == ("SUCCESS", "SUCCESS")
        assert added["result"]["details"] == {"added_artifacts": [], "invalid_paths": [], "artifact_roles": []}
        assert removed["result"]["details"] == {"deleted_artifacts": [], "not_found_artifacts": []}
        assert added["result"]["last_update"].endswith("Z")
        assert await server.on_log() == before


async def test_nulls_are_accepted_and_left_out(tmp_path: Path) -> None:
    """RSTUF's clients may send null for optional fields, and a timeout in any request; no answer to their calls has a null."""

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
        await server.submit(ARTIFACTS, {"artifacts": [artifact("new")]}, "New Artifact(s) successfully submitted.")
        for path in old:
            assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path, safe='')}"))[1]["length"] == 7
            status, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact(path)]})
            assert (status, "clients" in answer["detail"]) == (422, True), answer
        lines = [bulk_line(**artifact(old[0])), bulk_line(path=old[0], op="remove")]
        _, answer = await server.ask("POST", BULK, b"\n".join(lines))
        assert (answer["data"]["accepted"], [refused["line"] for refused in answer["data"]["refused_lines"]]) == (1, [1])
        await server.task(answer["data"]["task_id"])
        task = await server.submit(DELETE, {"artifacts": old[1:]}, "Remove Artifact(s) successfully submitted.")
        assert sorted(task["result"]["details"]["deleted_artifacts"]) == sorted(old[1:])
        for path in old:
            assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path, safe='')}"))[0] == 404


async def test_paths_that_are_url_paths(tmp_path: Path) -> None:
    """With ``encoded_paths`` a percent-encoded path is accepted, live and found as it is; one that is not well-formed is refused."""
    async with bootstrapped(tmp_path, encoded_paths=True) as server:
        path = "torch/torch-2.0%2Bcpu.whl"
        await server.submit(ARTIFACTS, {"artifacts": [artifact(path, 7)]}, "New Artifact(s) successfully submitted.")
        assert (await server.ask("GET", f"{ARTIFACTS}/{quote(path)}"))[1]["path"] == path
        assert (await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("100%")]}))[0] == 422


async def test_last_of_one_request_counts(tmp_path: Path) -> None:
    """Within a request the order is kept: the last change of a path is live."""
    async with bootstrapped(tmp_path) as server:
        body = {"artifacts": [artifact("a", number) for number in range(1, 50)]}
        await server.submit(ARTIFACTS, body, "New Artifact(s) successfully submitted.")
        assert (await server.ask("GET", f"{ARTIFACTS}/a"))[1]["length"] == 49


async def test_task_outlives_the_service(tmp_path: Path) -> None:
    """A task id answered by one process is answered by the next one, with the same details."""
    async with bootstrapped(tmp_path) as server:
        task = await server.submit(ARTIFACTS, {"artifacts": [artifact("a")]}, "New Artifact(s) successfully submitted.")
    async with rest(tmp_path) as again:
        assert await again.task(task["task_id"]) == task


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
            assert "sending it again is safe" in (await busy[0].json())["detail"]
    finally:
        await bus.close()


SETTINGS = settings_of(64, PARTITIONS, {})


async def test_records_hold_at_most_half_a_megabyte() -> None:
    """However large a request is, no record of artifacts exceeds the limit, and together they have its changes in order."""
    changes: list[Add | Remove] = [Add(f"p/{number % 5000}", number, {"sha256": "0" * 64}, {"x": "y" * 900}) for number in range(6000)]
    changes[17] = Remove("p/17")
    messages = await make_messages(changes, Routing(SETTINGS.partitioning), 1)
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


async def test_answer_comes_after_the_log_has_it(tmp_path: Path) -> None:
    """When a change is answered, its record is on the log with the admin offset that ingest had applied."""
    async with bootstrapped(tmp_path) as server:
        status, _ = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("a", 5)]})
        assert status == 202
        found = [record for partition in range(PARTITIONS) for record in await read_all(server.bus, topics.ARTIFACTS, partition)]
        changes = records.decode(records.changes_decoder, found[0].value)
        on_admin = await server.bus.end(topics.ADMIN, 0)  # the bootstrap, and the record of its start
        assert (changes.admin, changes.changes) == (on_admin, [Add("a", 5, {"sha256": "ab" * 32})])
