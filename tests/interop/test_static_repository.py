"""Repositories of Tufline have the layout of the static repositories of the TUF conformance suite, and clients read them like these.

The suite (theupdateframework/tuf-conformance, tuf_conformance/static_data/README.md at 1efa2da17860adcd50d442081bbcdd2095712f6c, and
test_static_repositories.py at 070a2ff6b8f68b3ccf2484b68b428e85c5494aca) takes a directory with ``metadata``, ``targets``,
``initial_root.json`` and ``targetpath``, served by nothing but ``python -m http.server``. A client is initialized with that root,
refreshes, and downloads the artifact, each as a run of its own.
"""

import asyncio
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from tufline_testing.clients.running import Client, Job
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import resign
from tufline_testing.rest import artifact, bootstrapped

pytestmark = pytest.mark.slow

TARGET_PATH = "pool/d/demo-1.0.whl"
CONTENT = b"demo"


@pytest.fixture(params=["pep458", "rstuf"])
async def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Publish a repository with bins, offline or online targets, a second root and an artifact; return it in the shape of the suite."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode=request.param)
    info = artifact(TARGET_PATH, len(CONTENT), {"sha256": hashlib.sha256(CONTENT).hexdigest()})
    async with bootstrapped(tmp_path, payload=held.payload, signer={"release_delay": 0.0}) as server:
        root = copy.deepcopy(held.payload["metadata"]["root"])
        root["signed"]["version"] = 2
        resign(root, [key.signer for key in held.root[:2]])
        for path, body in (("metadata/", {"metadata": {"root": root}}), ("artifacts/", {"artifacts": [info]})):
            status, answer = await server.ask("POST", f"/api/v1/{path}", body)
            assert status == 202, answer
            assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
    return await asyncio.to_thread(in_the_shape, tmp_path / "origin", tmp_path / "static")


def in_the_shape(origin: Path, directory: Path) -> Path:
    """Copy an origin as it is, and put the other files of a static repository next to it."""
    shutil.copytree(origin, directory / "metadata")
    shutil.copy(origin / "1.root.json", directory / "initial_root.json")
    (directory / "targetpath").write_text(f"{TARGET_PATH}\n")
    folder, _, name = TARGET_PATH.rpartition("/")
    (directory / "targets" / folder).mkdir(parents=True)
    # With consistent snapshots clients ask for an artifact by its hash, unless they are told otherwise.
    (directory / "targets" / folder / f"{hashlib.sha256(CONTENT).hexdigest()}.{name}").write_bytes(CONTENT)
    return directory


@contextmanager
def http_server(directory: Path) -> Iterator[str]:
    """Serve a directory with Python's own program, and return its URL."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"\((http://[^)]*)/\)", process.stdout.readline())
            assert found is not None
            yield found[1]
        finally:
            process.kill()


def test_every_client_reads_it(repository: Path, every_client: list[Client], tmp_path: Path) -> None:
    """Each client refreshes from the first root, and in a second run downloads the artifact by its hash."""
    path = (repository / "targetpath").read_text().rstrip("\n")
    with http_server(repository) as url:
        for client in every_client:
            state = tmp_path / "clients" / client.name
            job = Job(f"{url}/metadata/", f"{url}/targets/", repository / "initial_root.json", state, prefix_hash=True)
            assert not client.run(job).error, client.name
            job = Job(job.metadata_url, job.targets_url, job.root, state, [path], prefix_hash=True)
            result = client.run(job)
            assert not result.error, client.name
            (found,) = result.files
            assert (found.error, found.sha256) == ("", hashlib.sha256(CONTENT).hexdigest()), client.name


def test_it_has_the_files_that_the_specification_names(repository: Path) -> None:
    """The metadata is complete from the first root on, and each file is named after its version and its role."""
    metadata = repository / "metadata"
    names = {path.name for path in metadata.iterdir() if path.is_file() and not path.name.startswith(".")}
    timestamp = Metadata[Timestamp].from_file(str(metadata / "timestamp.json"))
    snapshot_name = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
    snapshot = Metadata[Snapshot].from_file(str(metadata / snapshot_name))
    needed = {f"{meta.version}.{name}" for name, meta in snapshot.signed.meta.items()}
    assert names >= {"timestamp.json", "1.root.json", "2.root.json", snapshot_name} | needed
    for name in names - {"timestamp.json"}:
        found = re.fullmatch(r"([1-9][0-9]*)\.([a-z0-9-]+)\.json", name)
        assert found is not None, name
        signed = json.loads((metadata / name).read_bytes())["signed"]
        assert str(signed["version"]) == found[1], name
        assert signed["_type"] == (found[2] if found[2] in {"root", "snapshot", "targets"} else "targets"), name
    root = Metadata[Root].from_file(str(metadata / "2.root.json"))
    Metadata[Root].from_file(str(metadata / "1.root.json")).verify_delegate("root", root)
    targets = Metadata[Targets].from_file(str(metadata / f"{snapshot.signed.meta['targets.json'].version}.targets.json"))
    for role, of_role in (("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)):
        root.verify_delegate(role, of_role)
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.succinct_roles is not None
    for bin_name in targets.signed.delegations.succinct_roles.get_roles():
        version = snapshot.signed.meta[f"{bin_name}.json"].version
        targets.verify_delegate(bin_name, Metadata[Targets].from_file(str(metadata / f"{version}.{bin_name}.json")))
