"""The real ingest service on a real log, over loopback HTTP."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from securesystemslib.signer import Key

import tufline_ingest.service
import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Bus, Message
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import Clock, utc_now
from tufline.config.settings import IngestConfig, PublisherConfig, SignerConfig, VaultConfig
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.runtime.health import Health
from tufline_testing.described import check_answer
from tufline_testing.payloads import make_bootstrap
from tufline_testing.repository_logs import LOG_PARTITIONS, EmbeddedLog, Log

PARTITIONS = LOG_PARTITIONS
LIVE_SECONDS = 30.0


@dataclass
class Rest:
    """A running service."""

    bus: Bus
    url: str
    session: aiohttp.ClientSession
    health: Health

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send a request (bytes unchanged, anything else as JSON). Return the answer's status and JSON, checked against OpenAPI."""
        content = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        async with self.session.request(method, self.url + path, headers=headers, **content) as response:
            answer = await response.json()
            check_answer(method, response.url.path, response.status, answer)
            return response.status, answer

    async def on_log(self) -> dict[str, list[int]]:
        """Return the end offsets of the partitions of four topics, by topic."""
        return {
            topic: [await self.bus.end(topic, partition) for partition in range(self.bus.partitions(topic))]
            for topic in (topics.ARTIFACTS, topics.ADMIN, topics.METADATA, topics.RECEIPTS)
        }

    async def task(self, task_id: str) -> dict[str, Any]:
        """Wait for a task's result."""
        async with asyncio.timeout(LIVE_SECONDS):
            while True:
                status, answer = await self.ask("GET", f"/api/v1/task/?task_id={task_id}")
                assert status == 200, answer
                if answer["data"]["state"] in {"SUCCESS", "ERRORED"}:
                    result: dict[str, Any] = answer["data"]
                    return result

    async def submit(self, path: str, body: Any, message: str) -> dict[str, Any]:
        """Send a change, check the answer against RSTUF's format, and return the finished task."""
        status, answer = await self.ask("POST", path, body)
        assert status == 202, answer
        assert answer["message"] == message
        assert answer["data"]["last_update"].endswith("Z")
        task = await self.task(answer["data"]["task_id"])
        assert task["task_id"] == answer["data"]["task_id"]
        return task


@asynccontextmanager
async def rest(
    path: Path,
    *,
    whole: bool = False,
    bus: Bus | None = None,
    log: Log | None = None,
    vault: VaultConfig | None = None,
    signer: Mapping[str, Any] | None = None,
    clock: Clock = utc_now,
    **settings: Any,
) -> AsyncIterator[Rest]:
    """Run ingest, and with ``whole`` also signer and publisher, on a machine with its own clock.

    A log that is opened here has the right time; without ``bus`` and ``log`` it is a file.
    """
    opened = bus or await (log or EmbeddedLog(path / "log.db")).open()
    health, listening = Health(), asyncio.get_running_loop().create_future()
    config = IngestConfig(port=0, **settings)
    services = [tufline_ingest.service.run(opened, config, clock=clock, health=health, on_listening=listening.set_result)]
    if whole:
        store = LocalStore(path / "origin")
        of_signer = SignerConfig.model_validate({"key_dir": path / "keys"} | dict(signer or {}))
        services.append(tufline_signer.service.run(opened, of_signer, vault=vault, clock=clock, health=health))
        services.append(
            tufline_publisher.service.run(opened, PublisherConfig(directory=path / "origin"), store, clock=clock, health=health)
        )
    tasks = [asyncio.create_task(service) for service in services]
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(LIVE_SECONDS):
                url = await listening
            yield Rest(opened, url, session, health)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if bus is None:
            await opened.close()


@asynccontextmanager
async def bootstrapped(
    path: Path,
    *,
    online: Mapping[str, Key] | None = None,
    mode: str = "pep458",
    payload: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Rest]:
    """Run all services with a bootstrapped repository, from a payload or a new one."""
    if payload is None:
        payload = make_bootstrap(path / "keys", bins=8, mode=mode, online=online).payload
    async with rest(path, whole=True, **settings) as server:
        status, answer = await server.ask("POST", "/api/v1/bootstrap/", payload)
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        yield server


def artifact(path: str, length: Any = 1, hashes: Any = None, **info: Any) -> dict[str, Any]:
    """Make an artifact of a request."""
    return {"path": path, "info": {"length": length, "hashes": {"sha256": "ab" * 32} if hashes is None else hashes, **info}}


def bulk_line(**fields: Any) -> bytes:
    """Make a line of a bulk request."""
    return json.dumps(fields).encode()


async def lose(path: Path, partition: int, below: int) -> None:
    """Delete the oldest records of a partition of ``artifacts``, and accept their loss; no service may run meanwhile."""
    bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS))
    await bus.trim(topics.ARTIFACTS, partition, below)
    await bus.maintain()
    accepted = records.AcceptedLoss(topic=topics.ARTIFACTS, partition=partition, below=below)
    await bus.append([Message(topics.ADMIN, records.ACCEPTED_LOSS_KEY, records.encode(accepted))])
    await bus.close()
