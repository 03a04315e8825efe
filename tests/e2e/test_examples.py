"""The examples over HTTP run as examples/README.md tells, and report what goes wrong, on a real server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tufline_testing import doc_blocks
from tufline_testing.checkout import ROOT
from tufline_testing.server import Running, dev, run_tufline
from tufline_testing.servers.ports import free_port

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
API, ORIGIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
ANNOUNCERS = ("rest_client.py", "plain_http.py")


def run(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an example; warnings are errors."""
    command = [sys.executable, "-W", "error", EXAMPLES / name, *arguments]
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=180, check=False)


def download(server: Running, path: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the example of a TUF client."""
    return run("tuf_client.py", server.metadata.removesuffix("/metadata/"), server.root, path, cwd=cwd)


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """The commands of README.md make files live and download one, unchanged except for the ports."""
    make, use, _ = doc_blocks.programs(EXAMPLES / "README.md")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    doc_blocks.run(make, tmp_path)
    with dev(tmp_path / "tufline-data", "--bins", "4", "--targets", tmp_path / "index") as server:
        commands = use.replace(API, server.api).replace(ORIGIN, server.metadata.removesuffix("/metadata/"))
        assert doc_blocks.run(commands, tmp_path) == "live: hello/hello.py\n" * 2 + "verified: downloads/hello.py\n"


@pytest.mark.parametrize("announcer", ANNOUNCERS)
def test_files_become_live_and_verify(announcer: str, tmp_path: Path) -> None:
    """When an announcer ends, a client downloads every file; it refuses one that was changed later, and one that is not listed."""
    files = {f"{name}/{name} 1.txt": name.encode() * 1000 for name in ("a", "b", "c")}
    for path, content in files.items():
        (tmp_path / "index" / path).parent.mkdir(parents=True)
        (tmp_path / "index" / path).write_bytes(content)
    with dev(tmp_path / "data", "--bins", "4", "--targets", tmp_path / "index") as server:
        done = run(announcer, server.api, "index", cwd=tmp_path)
        assert (done.stdout, done.returncode) == ("".join(f"live: {path}\n" for path in files), 0), done.stderr
        for path, content in files.items():
            assert download(server, path, tmp_path).stdout == f"verified: downloads/{Path(path).name}\n"
            assert (tmp_path / "downloads" / Path(path).name).read_bytes() == content
        changed = tmp_path / "index" / "a" / "a 1.txt"
        changed.write_bytes(b"x" * 1000)
        (tmp_path / "downloads" / "a 1.txt").unlink()
        for path, error in (("a/a 1.txt", "does not match expected hash"), ("a/nothing", "does not list a/nothing")):
            refused = download(server, path, tmp_path)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert refused.stderr.startswith("error: ")
            assert error in refused.stderr
        assert not (tmp_path / "downloads" / "a 1.txt").exists()


@pytest.mark.parametrize("announcer", ANNOUNCERS)
def test_refused_changes_are_reported(announcer: str, tmp_path: Path) -> None:
    """An announcer fails with the server's reason if a path is refused."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "100%.txt").touch()
    with dev(tmp_path / "data", "--bins", "4") as server:
        done = run(announcer, server.api, "index", cwd=tmp_path)
        assert done.returncode == 1
        assert "answered 422" in done.stderr
        assert "100%.txt" in done.stderr


def test_without_a_server(tmp_path: Path) -> None:
    """Without a server, plain_http.py and tuf_client.py end with an error of one line; rest_client.py waits for one."""
    assert run_tufline("init", "--out", "keys", "--unencrypted", "--bins", "4", cwd=tmp_path).returncode == 0
    nobody = f"http://127.0.0.1:{free_port()}"
    ends = (run("plain_http.py", nobody, "keys", cwd=tmp_path), run("tuf_client.py", nobody, "keys/root.json", "a", cwd=tmp_path))
    for one in ends:
        assert one.returncode == 1
        assert one.stderr.startswith("error: ")
        assert one.stderr.count("\n") == 1
