"""How TUF clients request target paths: repositories of arbitrary paths, a recording server, and the table in docs/reference/paths.md.

None of our services is involved: ingest would refuse most of these paths.
"""

import hashlib
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, MetaFile, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from tufline.errors import InvalidTargetError
from tufline.metadata.paths import check_encoded_path, check_new_path
from tufline_testing.clients.running import Client, Job

BEGIN, END = "<!-- made by make paths -->", "<!-- end -->"
"""The markers around the table in docs/reference/paths.md."""

MARK = "next.path"
"""Each client fetches this after each path, to separate the requests of different paths."""

ACCEPTED, ENCODED, REFUSED = "yes", "with `encoded_paths`", "no"

CASES: Mapping[str, Sequence[str]] = {
    "Letters of any script": ("a-b_c.1~d", "ä/é", "日本", "a\u0301", "\uff0e\uff0e/a"),
    "Punctuation": ("a:b", "http:/a", "a;b", "a+b", "a&b=c,d", "a@b!c$d*e'f(g)", 'a"b', "a<b>", "a[b]", "a{b}", "a|b", "a^b", "a`b"),
    "White space": ("a b", "a /b", "a ", " a", "a\u00a0", "a\u2028"),
    "Percent": ("100%", "a%zz", "a%2Bb", "a%2bb", "a%41", "a%2Fb", "%2E%2E/a", "a/%2e/b", "a%C3%A4", "100%25", "a%3Fb%23c%5Cd", "%20a%20"),
    "Query and fragment": ("a?b", "a#b"),
    "Backslash": ("a\\b", "..\\a"),
    "Slashes and dots": ("/a", "a//b", "a/", "a/./b", "a/../b", "..a/...", "a."),
    "Names of JavaScript": ("constructor", "toString", "a/constructor"),
}
"""Kind to target paths."""


def write_repository(directory: Path, paths: Iterable[str]) -> None:
    """Write signed metadata with 4 bins that lists the paths; the content of each file is its path."""
    directory.mkdir(parents=True)
    signer = CryptoSigner.generate_ecdsa()
    key, expires = signer.public_key, datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.add_key(key, role)
    bins = SuccinctRoles([key.keyid], 1, 2, "bins")
    roles = {role: Targets(version=1, expires=expires) for role in bins.get_roles()}
    for path in paths:
        content = path.encode()
        target = TargetFile(len(content), {"sha256": hashlib.sha256(content).hexdigest()}, path)
        roles[bins.get_role_for_target(path)].targets[path] = target
    targets = Targets(version=1, expires=expires, delegations=Delegations({key.keyid: key}, succinct_roles=bins))
    snapshot = Snapshot(version=1, expires=expires, meta={f"{role}.json": MetaFile(1) for role in ("targets", *roles)})
    timestamp = Timestamp(version=1, expires=expires, snapshot_meta=MetaFile(1))
    versioned: dict[str, Any] = {"root": root, "snapshot": snapshot, "targets": targets, **roles}
    for name, signed in {"timestamp": timestamp, **{f"1.{role}": signed for role, signed in versioned.items()}}.items():
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(signer)
        (directory / f"{name}.json").write_bytes(metadata.to_bytes(JSONSerializer(compact=True)))


@dataclass
class Noting:
    """A server of metadata without any target files, which records the requests for them.

    Attributes:
        url: URL of the server.
        asked: paths of the requests as they were sent, relative to ``/targets/`` if below it.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def noting_server(directory: Path) -> Iterator[Noting]:
    """Run a recording server for a directory of metadata."""
    noting = Noting()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.requestline.split(" ", 1)[1].rpartition(" ")[0]
            file = directory / asked.removeprefix("/metadata/")
            content = file.read_bytes() if asked.startswith("/metadata/") and file.is_file() else None
            if not asked.startswith("/metadata/"):
                noting.asked.append(asked.removeprefix("/targets/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        noting.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        try:
            yield noting
        finally:
            httpd.shutdown()
            thread.join()


def rule_for(path: str) -> str:
    """Return whether ingest accepts a path, as a cell of the table."""
    for answer, check in ((ACCEPTED, check_new_path), (ENCODED, check_encoded_path)):
        try:
            check(path)
        except InvalidTargetError:
            continue
        return answer
    return REFUSED


def ask_for(
    clients: Sequence[Client], paths: Sequence[str], directory: Path, *, prefix_hash: bool = False
) -> dict[str, dict[str, str | None]]:
    """Let each client look up and fetch each path. Return the requests: path to client to URL path, or None if it sent none."""
    repository = directory / "repository"
    write_repository(repository, [*paths, MARK])
    found: dict[str, dict[str, str | None]] = {path: {} for path in paths}
    with noting_server(repository) as server:
        for client in clients:
            server.asked.clear()
            marked = [step for path in paths for step in (path, MARK)]
            root, urls = repository / "1.root.json", (f"{server.url}/metadata/", f"{server.url}/targets/")
            result = client.run(Job(*urls, root, directory / client.name, marked, prefix_hash))
            assert not result.error, (client.name, result.error)
            asked = iter(server.asked)
            for path in paths:
                before = list(itertools.takewhile(lambda url: not url.endswith(MARK), asked))
                assert len(before) <= 1, (client.name, path, before)
                found[path][client.name] = before[0] if before else None
    return found


def _cell(text: str) -> str:
    return "`` " + text.replace("|", "\\|") + " ``" if "`" in text else "`" + text.replace("|", "\\|") + "`"


def table(clients: Sequence[Client], directory: Path) -> str:
    """Build the table: the request of each client, and whether ingest accepts the path."""
    paths = [path for kind in CASES.values() for path in kind]
    found = ask_for(clients, paths, directory)
    names = [client.name for client in clients]
    lines = [f"| Target path | {' | '.join(names)} | Accepted |", "|---" * (len(names) + 2) + "|"]
    for kind, some in CASES.items():
        lines.append(f"| **{kind}** |" + " |" * (len(names) + 1))
        for path in some:
            asked = [found[path][name] for name in names]
            cells = ["nothing: it fails" if url is None else _cell(url) for url in asked]
            lines.append(f"| {_cell(json.dumps(path, ensure_ascii=not path.isprintable()))} | {' | '.join(cells)} | {rule_for(path)} |")
    return "\n".join(lines)
