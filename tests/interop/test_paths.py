"""An accepted target path is one that every client fetches from the right URL."""

import asyncio
import hashlib
import random
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

from tools import path_table
from tufline.config.settings import WebConfig
from tufline.metadata.paths import NAMES_OF_JAVASCRIPT
from tufline.origin import web_server
from tufline_testing.clients import builds
from tufline_testing.clients.running import Client, Job
from tufline_testing.clients.target_paths import ACCEPTED, BEGIN, CASES, ENCODED, END, REFUSED, ask_for, rule_for, table, write_repository

pytestmark = pytest.mark.slow

ALL = [path for kind in CASES.values() for path in kind]
NASTY = "%%%25BEFef20?#\\/:;+&=@\"'<>[]{}|^`~._- aé日\u0301\u00a0\u2028\ufeff"


def name_of(path: str) -> str:
    """Return the name of an accepted path's file in the repository."""
    return unquote(path) if rule_for(path) == ENCODED else path


def test_the_table_is_what_clients_do(clients: list[Client], tmp_path: Path) -> None:
    """The table in the docs shows what each client really requests from a server."""
    written = path_table.PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert written == table(clients, tmp_path), "run make paths"


@pytest.mark.parametrize("prefix_hash", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_accepted_paths_are_fetched_from_their_place(every_client: list[Client], tmp_path: Path, seed: int, prefix_hash: bool) -> None:
    """Of random paths with characters that are special in URLs, each accepted one is requested by its own name."""
    chance = random.Random(seed)
    drawn = {"".join(chance.choices(NASTY, k=chance.randint(1, 6))) for _ in range(400)}
    paths = sorted(path for path in drawn | set(ALL) if rule_for(path) != REFUSED)
    assert {rule_for(path) for path in paths} == {ACCEPTED, ENCODED}
    for path, by_client in ask_for(every_client, paths, tmp_path, prefix_hash=prefix_hash).items():
        name = PurePosixPath(name_of(path))
        if prefix_hash:
            name = name.with_name(f"{hashlib.sha256(path.encode()).hexdigest()}.{name.name}")
        for client, asked in by_client.items():
            assert unquote(asked or "") == str(name), f"{path!r} by {client} (seed {seed})"


def test_paths_that_clients_read_differently_are_refused(clients: list[Client], tmp_path: Path) -> None:
    """Each path of the table that any client asks for by another name, or not at all, is refused without ``encoded_paths``."""
    wrong = {path for path, asked in ask_for(clients, ALL, tmp_path).items() if {unquote(url or "") for url in asked.values()} != {path}}
    assert len(wrong) > len(ALL) / 4
    assert ACCEPTED not in {rule_for(path) for path in wrong}


def test_names_of_javascript(clients: list[Client], tmp_path: Path) -> None:
    """The names that are refused because of JavaScript are exactly those that only tuf-js does not find."""
    for path, asked in ask_for(clients, [*sorted(NAMES_OF_JAVASCRIPT), "prototype", "length"], tmp_path).items():
        assert (asked["tuf-js"] is None) == (path in NAMES_OF_JAVASCRIPT), path
        assert asked["python-tuf"] == asked["go-tuf"] == path


@asynccontextmanager
async def built_in(root: Path) -> AsyncIterator[str]:
    listening = asyncio.get_running_loop().create_future()
    config = WebConfig(port=0, targets=root / "targets")
    serving = asyncio.create_task(web_server.serve(root / "metadata", config, on_listening=listening.set_result))
    try:
        yield await listening
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        pass


@contextmanager
def of_python(root: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


@contextmanager
def of_go(root: Path) -> Iterator[str]:
    with subprocess.Popen([builds.go_tuf(), "serve", root], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def test_every_server_has_what_is_accepted(every_client: list[Client], tmp_path: Path) -> None:
    """Each client downloads each accepted path from the built-in server, and from those of Python and Go, which serve its decoded name."""
    paths = [path for path in ALL if rule_for(path) != REFUSED and path != "a/constructor"]
    write_repository(tmp_path / "metadata", paths)
    names = {path: name_of(path) for path in paths}
    by_name = {name: path for path, name in names.items()}
    assert len(by_name) > len(paths) - 5
    for name, path in by_name.items():
        file = tmp_path / "targets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    asked = sorted(by_name.values())

    async def check(server: str, url: str) -> None:
        for client in every_client:
            root = tmp_path / "metadata" / "1.root.json"
            job = Job(f"{url}/metadata/", f"{url}/targets/", root, tmp_path / f"{server} {client.name}", asked)
            result = await asyncio.to_thread(client.run, job)
            assert [(file.path, file.error) for file in result.files] == [(path, "") for path in asked], (server, client.name, result.error)
            assert [file.sha256 for file in result.files] == [hashlib.sha256(path.encode()).hexdigest() for path in asked]

    async with built_in(tmp_path) as url:
        await check("built-in", url)
    with of_python(tmp_path) as url:
        await check("Python", url)
    with of_go(tmp_path) as url:
        await check("Go", url)
