"""Clients in three languages accept what the services publish."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tufline.config.settings import WebConfig
from tufline.origin import web_server
from tufline_testing.clients.running import Client, Job
from tufline_testing.rest import artifact, bootstrapped

pytestmark = pytest.mark.slow

CONTENT = {"a.txt": b"first", "d/b-1.0.whl": b"second"}


@asynccontextmanager
async def published(tmp_path: Path) -> AsyncIterator[str]:
    """Publish some files with all services, serve them, and return the URL."""
    files, listening = tmp_path / "files", asyncio.get_running_loop().create_future()
    for path, content in CONTENT.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_bytes(content)
    async with bootstrapped(tmp_path) as server:
        added = [artifact(path, len(content), {"sha256": hashlib.sha256(content).hexdigest()}) for path, content in CONTENT.items()]
        _, answer = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": added})
        await server.task(answer["data"]["task_id"])
        serving = asyncio.create_task(web_server.serve(tmp_path / "origin", WebConfig(port=0, targets=files), listening.set_result))
        try:
            yield await listening
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_each_client_reads_what_is_published(clients: list[Client], tmp_path: Path) -> None:
    """Each client refreshes, finds an added file, downloads it, and reports that another path does not exist."""
    async with published(tmp_path) as url:
        for client in clients:
            job = Job(
                f"{url}/metadata/", f"{url}/targets/", tmp_path / "origin" / "1.root.json", tmp_path / client.name, [*CONTENT, "nope"]
            )
            result = await asyncio.to_thread(client.run, job)
            assert not result.error, client.name
            assert [file.error for file in result.files] == [""] * 3, client.name
            assert [file.found for file in result.files] == [True, True, False], client.name
            downloaded = {file.path: file.sha256 for file in result.files if file.found}
            assert downloaded == {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}, client.name


async def test_each_client_refuses_what_was_changed(clients: list[Client], tmp_path: Path) -> None:
    """Each client refuses a changed file and a changed timestamp, so its acceptance of the others is meaningful."""
    async with published(tmp_path) as url:
        timestamp = tmp_path / "origin" / "timestamp.json"
        good = timestamp.read_bytes()
        (tmp_path / "files" / "a.txt").write_bytes(b"forgd")
        root = tmp_path / "origin" / "1.root.json"
        for client in clients:
            job = Job(f"{url}/metadata/", f"{url}/targets/", root, tmp_path / client.name, list(CONTENT))
            changed, kept = (await asyncio.to_thread(client.run, job)).files
            assert (changed.sha256, kept.error) == ("", ""), client.name
            assert changed.error, client.name
            timestamp.write_bytes(good.replace(b'"version":', b'"version":1'))
            result = await asyncio.to_thread(client.run, job)
            assert result.error, client.name
            timestamp.write_bytes(good)
