"""The answers of ingest before the bootstrap, while the bootstrap is published, and while ingest is still reading the log."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tufline.bus import DEFAULT_FETCH_BYTES, Reader, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.records import topics
from tufline_ingest import context
from tufline_ingest.rest import application
from tufline_testing.log import Published
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, artifact, bootstrapped, rest

ARTIFACTS, BOOTSTRAP = "/api/v1/artifacts", "/api/v1/bootstrap"


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
        while (state := (await server.ask("GET", BOOTSTRAP))[1]["data"]).get("state") is None:
            await asyncio.sleep(0.01)
        assert state["state"] == "pre"
        assert (await server.ask("POST", BOOTSTRAP, payload))[0] == 404
    await log.close()


OF_ADMIN = [("GET", BOOTSTRAP), ("POST", BOOTSTRAP), ("POST", ARTIFACTS), ("GET", f"{ARTIFACTS}/a"), ("GET", "/api/v1/task?task_id=a")]


OF_HEADS = [("GET", "/api/v1/status"), ("GET", "/api/v1/trust")]


@pytest.mark.parametrize(
    ("topic", "requests"), [(topics.ADMIN, OF_ADMIN + OF_HEADS), (topics.PUBLISHED, OF_ADMIN + OF_HEADS), (topics.HEADS, OF_HEADS)]
)
async def test_nothing_is_reported_before_the_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str, requests: list[tuple[str, str]]
) -> None:
    """Right after its start, ingest answers from the whole log or not at all; it never denies an existing repository."""
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


async def test_new_metadata_is_judged_by_the_log_s_time(tmp_path: Path) -> None:
    """Once the log's time is known, a new version of root is judged as before: the answer has the reason."""
    async with bootstrapped(tmp_path) as server:
        await server.submit(ARTIFACTS, {"artifacts": [artifact("a")]}, "New Artifact(s) successfully submitted.")
        root = json.loads((await Published.read(server.bus)).files["1.root.json"])
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": {"root": root}})
        assert (status, "version" in answer["detail"]) == (422, True), answer
