"""The description of the topics is valid AsyncAPI, and matches the services."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

import tufline_ingest.service
import tufline_publisher.service
import tufline_signer.service
from tools import channels
from tufline.bus import Bus, Message, Position, Reader, Then, Writer
from tufline.bus.embedded.bus import open_embedded
from tufline.config.settings import IngestConfig, PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.runtime.health import Health
from tufline_ingest.views import recent_requests
from tufline_testing.checkout import ROOT
from tufline_testing.clients.builds import ASYNCAPI, asyncapi_parser
from tufline_testing.inbox import all_moved, change, event, structured
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, Rest, artifact
from tufline_testing.servers.parts import MissingPartError

DOCUMENT = ROOT / "schemas" / "asyncapi.yaml"
PARSER_SECONDS = 120


@pytest.fixture(scope="module")
def parser() -> Path:
    """Install the parser, once for each version of its lock file."""
    try:
        return asyncapi_parser()
    except MissingPartError as error:
        pytest.skip(f"NO PARSER, so nothing is shown about schemas/asyncapi.yaml: {error}")


def validate(parser: Path, document: Path) -> subprocess.CompletedProcess[str]:
    """Run the official parser on a document."""
    command = ["node", str(ASYNCAPI / "validate.mjs"), str(document)]
    return subprocess.run(
        command, env={**os.environ, "ASYNCAPI_MODULES": str(parser)}, capture_output=True, text=True, timeout=PARSER_SECONDS, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(2 * PARSER_SECONDS)
def test_the_parser_accepts_the_document(parser: Path) -> None:
    """The official parser of AsyncAPI accepts the document, with a channel for each topic."""
    done = validate(parser, DOCUMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{len(topics.topics(1))} channels, ")


def no_such_message(document: Any) -> None:
    document["channels"]["inbox"]["messages"]["StructuredEvent"]["$ref"] = "#/components/messages/Nothing"


def no_such_action(document: Any) -> None:
    document["operations"]["ingest.receive.inbox"]["action"] = "take"


def no_schema(document: Any) -> None:
    document["components"]["schemas"]["Event"]["type"] = "thing"


def no_channel(document: Any) -> None:
    del document["operations"]["ingest.receive.inbox"]["channel"]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [no_such_message, no_such_action, no_schema, no_channel])
@pytest.mark.timeout(2 * PARSER_SECONDS)
def test_the_parser_refuses_a_broken_document(parser: Path, tmp_path: Path, mistake: Callable[[Any], None]) -> None:
    """The parser refuses a document with a mistake, so its acceptance of ours is meaningful."""
    document = yaml.safe_load(DOCUMENT.read_text())
    mistake(document)
    (tmp_path / "broken.yaml").write_text(yaml.dump(document))
    done = validate(parser, tmp_path / "broken.yaml")
    assert done.returncode == 1
    assert done.stdout


@dataclass
class NotingBus:
    """The bus of one service, which records what it sends and receives."""

    bus: Bus
    service: str
    noted: set[tuple[str, str, str]] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    def sends(self, messages: Sequence[Message]) -> None:
        self.noted.update((message.topic, "send", self.service) for message in messages)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        self.sends(messages)
        return await self.bus.append(messages)

    async def writer(self, writer_id: str) -> Writer:
        return NotingWriter(await self.bus.writer(writer_id), self)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        self.noted.add((topic, "receive", self.service))
        return self.bus.reader(topic, partition, offset)

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        self.noted.add((topic, "receive", self.service))
        return await self.bus.read(topic, partition, offset, key=key, sha256=sha256)


@dataclass
class NotingWriter:
    """A writer that records what it sends."""

    writer: Writer
    bus: NotingBus

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        def noting(positions: Sequence[Position]) -> Sequence[Message]:
            more = then(positions) if then is not None else ()
            self.bus.sends(more)
            return more

        self.bus.sends(messages)
        return await self.writer.commit(messages, noting)

    async def close(self) -> None:
        await self.writer.close()


async def test_it_says_what_the_services_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For artifacts sent over REST and inbox, each service sends and receives on exactly the topics in the document."""
    monkeypatch.setattr(recent_requests, "KEPT_BYTES", 0)  # as of a task that another replica accepted
    payload = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458").payload
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    ingest, signer, publisher = (NotingBus(log, name) for name in (channels.INGEST, channels.SIGNER, channels.PUBLISHER))
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    health = Health()
    directory = tmp_path / "origin"
    config = SignerConfig(key_dir=tmp_path / "keys", bin_memory_bytes=1)
    services = [
        tufline_ingest.service.run(ingest, IngestConfig(port=0), health=health, on_listening=listening.set_result),
        tufline_signer.service.run(signer, config, health=health),
        tufline_publisher.service.run(publisher, PublisherConfig(directory=directory), LocalStore(directory), health=health),
    ]
    tasks = [asyncio.create_task(service) for service in services]
    async with aiohttp.ClientSession() as session:
        server = Rest(log, await listening, session, health)
        _, answer = await server.ask("POST", "/api/v1/bootstrap/", payload)
        await server.task(answer["data"]["task_id"])
        for body in ({"artifacts": [artifact("a")]}, {"artifacts": [artifact("a"), artifact("b")]}):
            _, answer = await server.ask("POST", "/api/v1/artifacts/", body)
            await server.task(answer["data"]["task_id"])
        await server.ask("GET", "/api/v1/artifacts/a")
        await log.append([structured(event(change("c"))), structured([])])
        await all_moved(log)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.close()
    described = yaml.safe_load(DOCUMENT.read_text())["operations"]
    said = {(one["channel"]["$ref"].rpartition("/")[2], one["action"], one["tags"][0]["name"]) for one in described.values()}
    theirs = {one for one in said if one[2] in {channels.INGEST, channels.SIGNER, channels.PUBLISHER}}
    assert ingest.noted | signer.noted | publisher.noted == theirs
    assert {topic for topic, _, _ in said} == set(topics.topics(PARTITIONS))
