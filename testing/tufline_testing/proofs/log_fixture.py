"""Writes a log with the code of an earlier commit: ``python -m tufline_testing.proofs.log_fixture COMMIT MODE``.

It makes ``tests/fixtures/logs/COMMIT-MODE.tar.xz``. Later versions must open the logs of earlier ones (tests/e2e/test_upgrade.py). The
archive has the log, its keys, its origin and the configuration, as they are after SIGKILL, and ``expected.json`` with what must be live
once a later version has taken over. All lifetimes are ten years. The code of that commit writes everything in the present environment,
through its command line and its REST API. Only the pending events and changes are appended by a few lines on its library, because one
process at a time can open an embedded log.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import urllib3

from tufline_testing.checkout import ROOT

GIT: Final = shutil.which("git") or "git"
FIXTURES: Final = ROOT / "tests" / "fixtures" / "logs"

LIFETIMES: Final = [word for role in ("root", "targets", "snapshot", "timestamp", "bins") for word in (f"--{role}-days", "3650")]
MAIN: Final = "from tufline_cli import main; main()"
WAIT_SECONDS: Final = 120.0

CONFIGURATION: Final = """
[bus]
url = "embedded:log.db"
partitions = 2

[ingest]
port = 0

[web]
port = 0

[signer]
key_dir = "keys/online"
release_delay = 0.5
release_grace = 1
renewal_check = 0.2

[publisher]
directory = "origin"
"""

ODD_PATHS: Final = ("100%.txt", "a%2e%2e/b", "what?.txt", "part#1", "back\\slash", " leading", "trailing ", "ä/é.txt")
"""Paths that the first rules accepted, although some clients fetch other URLs for them; the REST API refuses most of them now."""

ADD_LATE: Final = """
import asyncio, json, sys
from pathlib import Path
from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.records import Add, Bootstrap, Changes, Remove, topics

async def main():
    late, events = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    bus = await open_embedded(Path("log.db"), topics.topics(2))
    first = (await bus.reader(topics.ADMIN, 0, 0).fetch(max_wait=1.0))[0]
    partitioning = records.decode(records.decoder(Bootstrap), first.value).settings.partitioning
    for path, length in late:
        change = Remove(path) if length is None else Add(path, length, {"sha256": "%064x" % length})
        partition = partitioning.partition_of_path(path)
        await bus.append([Message(topics.ARTIFACTS, "late", records.encode(Changes(request="late", admin=1, changes=[change])), partition)])
    for number, event in enumerate(events):
        await bus.append([Message(topics.INBOX, "", event.encode(), number % 2, {"content-type": "application/cloudevents+json"})])
    await bus.close()

asyncio.run(main())
"""


class OldCode:
    """The code of a commit, run in a separate directory."""

    def __init__(self, checkout: Path, directory: Path) -> None:
        """Use a checkout.

        Args:
            checkout: checkout of the commit.
            directory: directory for its log.
        """
        places = [checkout, checkout / "cli", *(checkout / "services").iterdir()]
        self._env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
        self._directory = directory

    def run(self, code: str, *arguments: str) -> str:
        """Run a program to its end.

        Args:
            code: source of the program.
            arguments: the program's arguments.

        Returns:
            The program's output.
        """
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=self._directory, env=self._env, check=True, stdout=subprocess.PIPE, text=True).stdout

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run ``tufline serve``, then kill it.

        Yields:
            The URL of its REST API.
        """
        command = [sys.executable, "-c", MAIN, "serve"]
        with subprocess.Popen(command, cwd=self._directory, env=self._env, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().removeprefix("REST API ").partition("/api/v1/")[0]
            finally:
                process.send_signal(signal.SIGKILL)


def ask(url: str, body: Any = None) -> dict[str, Any]:
    """Send a request.

    Args:
        url: URL of the request.
        body: sent as JSON by POST; None for GET.

    Returns:
        The answer.
    """
    answer = urllib3.request("GET" if body is None else "POST", url, json=body)
    if answer.status >= 400:
        raise RuntimeError(f"{url} answers {answer.status}: {answer.data.decode()}")
    read: dict[str, Any] = answer.json()
    return read


def settle(api: str, answer: Mapping[str, Any]) -> str:
    """Wait until a task has ended.

    Args:
        api: URL of the REST API.
        answer: the answer with the task's id.

    Returns:
        The task's id.
    """
    task = str(answer["data"]["task_id"])
    deadline = time.monotonic() + WAIT_SECONDS
    while ask(f"{api}/api/v1/task/?task_id={task}")["data"]["state"] not in {"SUCCESS", "ERRORED"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the task {task} does not end")
        time.sleep(0.05)
    return task


def artifact(path: str, length: int) -> dict[str, Any]:
    """Make an artifact of a request.

    Args:
        path: target path.
        length: length, which also determines the hash.

    Returns:
        The artifact's JSON object.
    """
    return {"path": path, "info": {"length": length, "hashes": {"sha256": f"{length:064x}"}}}


def rotate(code: OldCode, directory: Path, api: str) -> None:
    """Rotate the online key, as an operator does.

    Args:
        code: the code whose command line is used.
        directory: directory of the repository.
        api: URL of the REST API.
    """
    made = "from pathlib import Path; import json; from tufline.trust import ceremony; key = ceremony.make_key('ed25519');"
    made += "ceremony.write_private(Path('keys/online/second.pem'), key.pem); public = key.signer.public_key;"
    made += "public.unrecognized_fields['x-rstuf-online-key-uri'] = 'fn:second.pem';"
    made += "Path('second.json').write_text(json.dumps({public.keyid: public.to_dict()}))"
    code.run(made)
    code.run(MAIN, "keys", "rotate", "rotation", "--new", "second.json", "--url", api)
    files = sorted(str(path.relative_to(directory)) for path in (directory / "rotation").glob("*.json") if path.stem in {"root", "targets"})
    keys = [word for path in sorted((directory / "keys" / "offline").glob("*-[12].pem")) for word in ("--key", str(path))]
    code.run(MAIN, "sign", *files, *keys)
    code.run(MAIN, "keys", "rotate", "rotation", "--url", api)


def play(code: OldCode, directory: Path, mode: str) -> dict[str, Any]:
    """Use a repository for a while, and kill its processes with SIGKILL while work is pending.

    Args:
        code: the code that writes the log.
        directory: directory of the repository.
        mode: mode of trust.

    Returns:
        What must be live in the end (path to length), and the tasks that must have succeeded.
    """
    (directory / "tufline.toml").write_text(CONFIGURATION.lstrip())
    # Earlier code never encrypted keys, and has no option for it.
    unencrypted = [option for option in ("--unencrypted",) if option in code.run(MAIN, "init", "--help")]
    code.run(MAIN, "init", "--out", "keys", "--bins", "4", "--mode", mode, *LIFETIMES, *unencrypted)
    live = {f"d{number % 3}/{number}.whl": number + 1 for number in range(20)}
    event = {"specversion": "1.0", "id": "1", "source": "/index", "type": "tufline.artifacts.v1"}
    event["data"] = {"changes": [{"op": "add", **artifact("from/inbox", 7)}]}  # type: ignore[assignment]
    with code.serving() as api:
        tasks = [settle(api, ask(f"{api}/api/v1/bootstrap/", json.loads((directory / "keys" / "bootstrap.json").read_text())))]
        adds = [artifact(path, length) for path, length in live.items()]
        adds[0]["info"]["custom"] = {"nested": {"list": [1, "two", None]}}
        tasks.append(settle(api, ask(f"{api}/api/v1/artifacts/", {"artifacts": adds})))
        tasks.append(settle(api, ask(f"{api}/api/v1/artifacts/delete", {"artifacts": ["d1/1.whl", "not/there"]})))
        rotate(code, directory, api)
        tasks.append(settle(api, ask(f"{api}/api/v1/artifacts/", {"artifacts": [artifact("d2/2.whl", 999)]})))
    odd = {path: 100 + len(path) for path in ODD_PATHS}
    late = [*odd.items(), ("late/50%.txt", 50), ("d0/0.whl", None), ("what?.txt", None)]
    code.run(ADD_LATE, json.dumps(late), json.dumps([json.dumps(event), json.dumps(event), "not an event"]))
    gone = ["d1/1.whl", "d0/0.whl", "what?.txt"]
    live |= odd | {"d2/2.whl": 999, "late/50%.txt": 50, "from/inbox": 7}
    return {"live": {path: length for path, length in live.items() if path not in gone}, "gone": gone, "tasks": tasks}


def main() -> None:
    """Write one archive."""
    commit, mode = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        checkout, directory = Path(temporary) / "code", Path(temporary) / "repository"
        directory.mkdir()
        subprocess.run([GIT, "worktree", "add", "--detach", str(checkout), commit], cwd=ROOT, check=True)
        try:
            expected = play(OldCode(checkout, directory), directory, mode)
        finally:
            subprocess.run([GIT, "worktree", "remove", "--force", str(checkout)], cwd=ROOT, check=True)
        (directory / "expected.json").write_text(json.dumps(expected, indent=1))
        archive = FIXTURES / f"{commit[:7]}-{mode}.tar.xz"
        FIXTURES.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(directory, ".")
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size} bytes, sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
