"""The built-in web server of an origin."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tufline.config.settings import WebConfig
from tufline.errors import ConfigError
from tufline.origin.web_server import serve


@asynccontextmanager
async def origin(tmp_path: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "files" / "d").mkdir(parents=True)
    (tmp_path / "metadata" / "timestamp.json").write_text("1")
    (tmp_path / "metadata" / "3.bins-0.json").write_text("bin")
    (tmp_path / "metadata" / ".tmp-4.bins-0.json").write_text("half")
    (tmp_path / "secret.json").write_text("secret")
    (tmp_path / "files" / "d" / "a.whl").write_text("wheel")
    (tmp_path / "files" / "link").symlink_to(tmp_path / "secret.json")
    (tmp_path / "files" / "loop").symlink_to("loop")
    listening = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(tmp_path / "metadata", WebConfig(port=0, targets=tmp_path / "files"), listening.set_result))
    try:
        async with aiohttp.ClientSession() as session:
            yield await asyncio.wait_for(listening, 10), session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask_raw(url: str, path: str) -> str:
    """Send a request unchanged, which an HTTP client would normalize, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer.decode()


async def test_files_and_their_headers(tmp_path: Path) -> None:
    """Metadata and the repository's files are served, with the right headers for a CDN, also for missing files."""
    async with origin(tmp_path) as (url, session):
        for path, status, text, cache in (
            ("/metadata/timestamp.json", 200, "1", "public, max-age=5"),
            ("/metadata/3.bins-0.json", 200, "bin", "public, max-age=31536000, immutable"),
            ("/metadata/2.root.json", 404, "the file does not exist", "public, max-age=5"),
            ("/targets/d/a.whl", 200, "wheel", None),
        ):
            async with session.get(url + path) as response:
                assert (response.status, text in await response.text()) == (status, True), path
                assert response.headers.get("Cache-Control") == cache
                if status == 200 and path.endswith(".json"):
                    assert response.headers["Content-Type"] == "application/json"
        (tmp_path / "metadata" / "timestamp.json").write_text("22")
        async with session.get(f"{url}/metadata/timestamp.json") as response:
            assert await response.text() == "22"
        async with session.head(f"{url}/metadata/3.bins-0.json") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "3")


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/..%2fsecret.json",
        "/metadata/.tmp-4.bins-0.json",
        "/metadata/",
        "/targets/..%2f..%2fsecret.json",
        "/secret.json",
        "/targets/d",
        "/targets/link",
        "/targets/loop",
    ],
)
async def test_nothing_else_is_served(tmp_path: Path, path: str) -> None:
    """Nothing outside the two directories is served, and no file that is still being written."""
    async with origin(tmp_path) as (url, session), session.get(URL(url + path, encoded=True)) as response:
        assert response.status in {403, 404}
        assert "secret" not in await response.text()


@pytest.mark.parametrize(
    "path",
    [
        "/targets/d//a.whl",
        "/targets//d/a.whl",
        "//targets/d/a.whl",
        "/targets/d/./a.whl",
        "/targets/d/x/../a.whl",
        "/targets/d%2Fa.whl",
        "/targets/d%2fa.whl",
        "/metadata//timestamp.json",
        "//metadata/timestamp.json",
        "/metadata/%74imestamp.json",
    ],
)
async def test_a_file_has_one_address(tmp_path: Path, path: str) -> None:
    """Other spellings of a file's URL are not found: a CDN would cache them as other files, which a purge of the URL would not remove."""
    async with origin(tmp_path) as (url, _):
        assert (await ask_raw(url, path)).startswith("HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "path", ["/targets/" + "x" * 300, "/metadata/" + "x" * 300 + ".json", "/targets/" + "d/" * 3000 + "a", "/targets/%00", "/targets/%ff"]
)
async def test_an_impossible_file_name_is_not_found(tmp_path: Path, path: str) -> None:
    """A URL that can't be the name of a file is not found, and is not a fault of the server."""
    async with origin(tmp_path) as (url, _):
        assert (await ask_raw(url, path)).startswith("HTTP/1.1 404 ")


async def test_an_address_in_use_is_reported(tmp_path: Path) -> None:
    """An address that can't be listened on is an error that names the settings."""
    async with origin(tmp_path) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=r"set web\.host and web\.port"):
            await serve(tmp_path, WebConfig(port=port))


async def test_missing_files_are_reported(tmp_path: Path) -> None:
    """A directory of files that does not exist, or is not a directory, is an error that names the setting."""
    (tmp_path / "file").write_text("x")
    for targets in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ConfigError, match=r"is not a directory: create it, or set web\.targets"):
            await serve(tmp_path, WebConfig(port=0, targets=targets))
