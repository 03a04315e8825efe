"""A server with few file descriptors, and clients that connect and send nothing."""

import hashlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tufline_testing.server import Running, dev

pytestmark = pytest.mark.slow

FILES = 256
"""How many files the server may have open."""

CLIENTS = 200
"""How many connections of each kind are opened to each server."""

SENT = {
    "idle": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST /api/v1/bootstrap HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
}


@contextmanager
def own_limit(soft: int) -> Iterator[None]:
    """Set a soft limit of open files for this process and its children, and a hard limit for the children."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def flood(stack: ExitStack, url: str) -> None:
    """Open many connections to a server, and send nothing more."""
    where = (urlsplit(url).hostname, urlsplit(url).port)
    for sent in SENT.values():
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(where, timeout=60))
            try:
                client.sendall(sent)
            except ConnectionError:
                continue  # it had to make room already


def check_publication(server: Running, directory: Path, content: bytes) -> None:
    """Announce an artifact, wait until it is live, and download it as a TUF client."""
    (directory / "files" / "a").write_bytes(content)
    info = {"length": len(content), "hashes": {"sha256": hashlib.sha256(content).hexdigest()}}
    answer = server.client.request("POST", "/api/v1/artifacts/", {"artifacts": [{"path": "a", "info": info}]}, patient=True)
    assert server.client.wait_for_task(answer["data"]["task_id"], deadline=float("inf"))["status"]
    updater = server.updater(directory / f"client of {content.decode()}")
    found = updater.get_targetinfo("a")
    assert found is not None
    assert Path(updater.download_target(found)).read_bytes() == content


def test_publication_goes_on_under_a_flood_of_connections(tmp_path: Path) -> None:
    """With 256 open files allowed, 1,200 connections that send nothing, or half a request, block neither publication nor other clients."""
    (tmp_path / "files").mkdir()
    command = ["prlimit", f"--nofile={FILES}:{FILES}"]
    with (
        own_limit(4 * len(SENT) * CLIENTS),
        dev(tmp_path / "data", "--bins", "4", "--targets", tmp_path / "files", before=command) as server,
    ):
        check_publication(server, tmp_path, b"before")
        with ExitStack() as stack:
            for url in (server.api, server.metadata):
                flood(stack, url)
            for number in range(3):
                check_publication(server, tmp_path, b"during %d" % number)
        check_publication(server, tmp_path, b"after")
        assert server.stop() == 0
        assert "Too many open files" not in server.log.read_text()


def test_the_soft_limit_is_raised() -> None:
    """A serving process may open as many files as its hard limit allows, and never fewer than before."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512)); from tufline.runtime import descriptors;"
        "print(descriptors.raise_limit(), descriptors.limit(), resource.getrlimit(resource.RLIMIT_NOFILE), descriptors.connections(1000))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "512 512 (512, 512) 96\n"
