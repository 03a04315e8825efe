"""Custom roles over REST with all services, while clients refresh and download without a pause."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tufline.config.settings import WebConfig
from tufline.origin import web_server
from tufline.trust import ceremony
from tufline_testing.clients.running import Client, Job, PythonTuf
from tufline_testing.inbox import change, event, structured
from tufline_testing.log import eventually
from tufline_testing.repository_logs import KafkaLog, Log
from tufline_testing.rest import Rest, artifact, bootstrapped, bulk_line

ARTIFACTS, CALL = "/api/v1/artifacts", "/api/v1/delegations"
QUICK = {"release_delay": 0.0, "renewal_check": 0.2}

BINS = "bins"
"""Stands for the bin of a path."""


def role(name: str, *paths: str, keyids: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """Make a role of a request, as RSTUF's command line sends it."""
    return {"name": name, "terminating": False, "keyids": [*keyids], "threshold": 1, "paths": [*paths], "x-rstuf-expire-policy": 7} | more


def make_key(path: Path, name: str) -> tuple[str, dict[str, Any]]:
    """Make a key in the signer's key directory, and return its keyid and its object."""
    key = ceremony.make_key("ed25519", f"fn:{name}")
    ceremony.write_private(path / "keys" / name, key.pem)
    return key.signer.public_key.keyid, key.signer.public_key.to_dict()


@dataclass
class Site:
    """A repository, its files, and clients that read them all the time.

    Attributes:
        server: the REST API.
        url: of the web server with metadata and files.
        path: the directory of the origin, the files and the clients' states.
        clients: the clients; each keeps its state.
        known: every path that was ever added.
    """

    server: Rest
    url: str
    path: Path
    clients: Sequence[Client]
    known: set[str] = field(default_factory=set)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def make(self, path: str, content: str) -> dict[str, Any]:
        """Save a file as clients ask for it, by its hash, and return its artifact."""
        digest = hashlib.sha256(content.encode()).hexdigest()
        where = self.path / "files" / PurePosixPath(path).parent / f"{digest}.{PurePosixPath(path).name}"
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(content)
        self.known.add(path)
        return artifact(path, len(content), {"sha256": digest})

    async def put(self, path: str, content: str, *, publish: bool = True) -> dict[str, Any]:
        """Add an artifact, and return the details of its task."""
        _, answer = await self.server.ask("POST", ARTIFACTS, {"artifacts": [self.make(path, content)], "publish_artifacts": publish})
        return await self._done(answer)

    async def remove(self, *paths: str) -> dict[str, Any]:
        """Remove artifacts, and return the details of the task."""
        _, answer = await self.server.ask("POST", f"{ARTIFACTS}/delete", {"artifacts": [*paths]})
        return await self._done(answer)

    async def delegate(self, action: str, *roles: Mapping[str, Any], keys: Mapping[str, Any] | None = None) -> None:
        """Add, update or delete roles, and check the task's result."""
        method, path = {"add": ("POST", CALL), "update": ("PUT", CALL), "delete": ("POST", f"{CALL}/delete")}[action]
        named = [{"name": one["name"]} for one in roles] if action == "delete" else [*roles]
        status, answer = await self.server.ask(method, path, {"delegations": {"keys": keys or {}, "roles": named}})
        assert (status, answer["message"]) == (202, f"Metadata delegation {action} accepted."), answer
        assert await self._done(answer) == {"delegated_roles": [one["name"] for one in roles], "failed_roles": []}

    async def _done(self, answer: Any) -> dict[str, Any]:
        task = await self.server.task(answer["data"]["task_id"])
        assert task["state"] == "SUCCESS", task
        details: dict[str, Any] = task["result"]["details"]
        return details

    async def roles(self) -> dict[str, Any]:
        """Return the listed roles, by their names."""
        return {one["name"]: one for one in (await self.server.ask("GET", CALL))[1]["data"]["roles"]}

    async def check(self, live: Mapping[str, tuple[str, str]]) -> None:
        """Check that REST and each client find exactly these artifacts: path to role and content."""
        found = {}
        for path in self.known:
            status, answer = await self.server.ask("GET", f"{ARTIFACTS}/{path}")
            if status == 200:
                found[path] = answer["role"].partition("-")[0], answer["hashes"]["sha256"]
        expected = {path: (name, hashlib.sha256(content.encode()).hexdigest()) for path, (name, content) in live.items()}
        assert found == expected
        for client in self.clients:
            assert await self.read(client) == {path: digest for path, (_, digest) in expected.items()}, client.name

    async def read(self, client: Client) -> dict[str, str]:
        """Refresh a client and download what it finds; it must accept everything. Return path to digest."""
        async with self._reading:
            urls = f"{self.url}/metadata/", f"{self.url}/targets/"
            job = Job(*urls, self.path / "origin" / "1.root.json", self.path / client.name, sorted(self.known), prefix_hash=True)
            result = await asyncio.to_thread(client.run, job)
        assert (result.error, [file for file in result.files if file.error]) == ("", []), client.name
        return {file.path: file.sha256 for file in result.files if file.found}

    async def read_on(self, stopping: asyncio.Event) -> None:
        """Let the clients read the repository, one after the other, until it is to stop: never while a client waits for an answer."""
        while not stopping.is_set():
            for client in self.clients:
                await self.read(client)


@pytest.fixture
async def site(tmp_path: Path, log: Log, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Run all services and a web server; python-tuf's client reads all the time, and on Kafka, which is slow anyway, the others too."""
    clients = request.getfixturevalue("clients") if isinstance(log, KafkaLog) else [PythonTuf()]
    (tmp_path / "files").mkdir()
    async with bootstrapped(tmp_path, mode="rstuf", log=log, signer=QUICK) as server, reading(server, tmp_path, clients) as made:
        yield made


@asynccontextmanager
async def reading(server: Rest, path: Path, clients: Sequence[Client]) -> AsyncIterator[Site]:
    listening = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(web_server.serve(path / "origin", WebConfig(port=0, targets=path / "files"), listening.set_result))
    site = Site(server, await listening, path, clients)
    stopping = asyncio.Event()
    endless = asyncio.create_task(site.read_on(stopping))
    try:
        yield site
    finally:
        stopping.set()
        try:
            await endless
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_artifacts_go_to_roles_that_are_added_and_overlap(site: Site) -> None:
    """Each artifact is where clients look first; what a role hides stays hidden once it is removed, also after the role is deleted."""
    for path in ("dev/old", "dev/both", "other/a"):
        await site.put(path, "in its bin")
    await site.delegate("add", role("dev", "dev/*"), role("docs", "docs/*"))
    live = dict.fromkeys(("dev/old", "dev/both", "other/a"), (BINS, "in its bin"))
    await site.check(live)
    assert (await site.put("dev/both", "in dev"))["artifact_roles"] == ["dev"]
    assert (await site.put("docs/a", "in docs"))["artifact_roles"] == ["docs"]
    live |= {"dev/both": ("dev", "in dev"), "docs/a": ("docs", "in docs")}
    await site.check(live)

    # No client looks into a bin for what a terminating role matches.
    await site.delegate("add", role("late", "dev/*", "late/*", terminating=True))
    assert (await site.put("dev/new", "new"))["artifact_roles"] == ["dev"]
    assert (await site.put("late/a", "late"))["artifact_roles"] == ["late"]
    live |= {"dev/new": ("dev", "new"), "late/a": ("late", "late")}
    del live["dev/old"]
    await site.check(live)
    assert await site.remove("dev/both", "dev/old", "dev/none") == {
        "deleted_artifacts": ["dev/both", "dev/old"],
        "not_found_artifacts": ["dev/none"],
    }
    del live["dev/both"]
    await site.check(live)
    await site.delegate("delete", role("late"))
    del live["late/a"]
    await site.check(live)
    assert (await site.put("late/a", "again"))["artifact_roles"] != ["late"]
    await site.check(live | {"late/a": (BINS, "again")})
    listed = await site.roles()
    assert {name: (one["paths"], one["version"] > 0, one["expires"] is not None) for name, one in listed.items()} == {
        "dev": (["dev/*"], True, True),
        "docs": (["docs/*"], True, True),
    }


async def test_roles_get_other_paths_and_keys_and_are_deleted_and_added_again(site: Site, tmp_path: Path) -> None:
    """Clients follow each change; a role that is added again begins empty, and what was added meanwhile is found in its bin."""
    (old, old_key), (new, new_key) = make_key(tmp_path, "old"), make_key(tmp_path, "new")
    await site.delegate("add", role("own", "own/*", keyids=[old]), keys={old: old_key})
    await site.put("own/a", "old key")
    await site.check({"own/a": ("own", "old key")})
    assert (await site.roles())["own"]["signed_by"] == [old]

    await site.delegate("update", role("own", "own/*", "more/*", keyids=[new]), keys={new: new_key})
    await site.put("own/b", "new key")
    await site.put("more/a", "more")
    live = {"own/a": ("own", "old key"), "own/b": ("own", "new key"), "more/a": ("own", "more")}
    await site.check(live)
    assert (await site.roles())["own"]["signed_by"] == [new]

    # The role loses what it has of paths that it is no longer trusted for, and clients do not find it.
    await site.delegate("update", role("own", "more/*", keyids=[new]))
    await site.check({"more/a": ("own", "more")})
    await site.put("own/b", "in its bin")
    await site.check({"more/a": ("own", "more"), "own/b": (BINS, "in its bin")})

    await site.delegate("delete", role("own"))
    assert await site.roles() == {}
    await site.put("more/a", "meanwhile")
    await site.check({"more/a": (BINS, "meanwhile"), "own/b": (BINS, "in its bin")})
    await site.delegate("add", role("own", "more/*", "own/*"))
    await site.check({"more/a": (BINS, "meanwhile"), "own/b": (BINS, "in its bin")})
    await site.put("more/a", "in the new role")
    await site.check({"more/a": ("own", "in the new role"), "own/b": (BINS, "in its bin")})


async def test_every_way_in_leads_to_the_role(site: Site) -> None:
    """Changes of bulk requests and of events are routed like those of requests; held ones are released into the role."""
    await site.delegate("add", role("dev", "dev/*"))
    made = [site.make(path, "bulk") for path in ("dev/bulk", "other/bulk")]
    status, answer = await site.server.ask("POST", f"{ARTIFACTS}/bulk", b"\n".join(bulk_line(**one) for one in made))
    assert (status, answer["data"]["accepted"]) == (202, 2)
    assert (await site.server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
    live = {"dev/bulk": ("dev", "bulk"), "other/bulk": (BINS, "bulk")}
    await site.check(live)

    infos = {one["path"]: one["info"] for one in (site.make(path, "event") for path in ("dev/event", "other/event"))}
    changes = [change(path, info["length"], hashes=info["hashes"]) for path, info in infos.items()]
    await site.server.bus.append([structured(event(*changes))])

    async def are_live() -> bool:
        return {(await site.server.ask("GET", f"{ARTIFACTS}/{path}"))[0] for path in infos} == {200}

    await eventually(are_live)
    live |= {"dev/event": ("dev", "event"), "other/event": (BINS, "event")}
    await site.check(live)

    assert (await site.put("dev/held", "held", publish=False))["held"] is True
    await site.put("dev/bulk", "held", publish=False)
    await site.check(live)
    task = await site.server.submit(f"{ARTIFACTS}/publish", None, "Publish artifacts successfully submitted.")
    assert task["result"]["details"] == {"artifact_roles": ["dev"]}
    await site.check(live | dict.fromkeys(("dev/held", "dev/bulk"), ("dev", "held")))
