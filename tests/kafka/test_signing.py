"""Signatures that come one by one, on Kafka: requests to two ingests at the same time, and the death of a process, change nothing twice."""

import copy
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from tufline.client.rest import Client
from tufline.errors import ServerError
from tufline.trust import ceremony
from tufline.trust.ceremony import Ceremony, Plan
from tufline_testing.resign import signature
from tufline_testing.rest import artifact
from tufline_testing.server import wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Stack

pytestmark = pytest.mark.slow

BINS = 4
SIGN = "/api/v1/metadata/sign"


@pytest.fixture
def mode() -> str:
    """Return the mode of the repository."""
    return ceremony.PEP458


@pytest.fixture
def held(mode: str) -> Ceremony:
    """Make the keys of a repository whose root and targets need two of three signatures each."""
    return ceremony.hold(Plan(BINS, mode=mode))


@pytest.fixture
def stack(kafka: Cluster, held: Ceremony, tmp_path: Path) -> Iterator[Stack]:
    """Run two ingests, a signer and a publisher on the test's own topics, without a repository."""
    settings = {"TUFLINE_KAFKA__PREFIX": f"sign{time.time_ns()}.", "TUFLINE_BUS__PARTITIONS": "2", "TUFLINE_KAFKA__SESSION_TIMEOUT": "2"}
    with Stack(tmp_path / "stack", kafka, BINS, settings) as made:
        made.directory.mkdir()
        ceremony.write(held, made.keys, None)
        made.prepare()
        for name in ("ingest", "ingest", "signer", "publisher"):
            made.start(name)
        yield made


def ask(client: Client, method: str, path: str, body: Any = None) -> str:
    """Send a request, and return why it was refused; empty if it was accepted."""
    try:
        client.request(method, path, body)
    except ServerError as error:
        return str(error) or "refused"
    return ""


def entry(client: Client, role: str, signer: CryptoSigner) -> dict[str, Any]:
    """Return the request with a signature of the pending version."""
    pending = client.request("GET", SIGN)["data"]["metadata"][role]
    return {"role": role, "signature": signature(pending, signer)}


def test_signatures_at_two_ingests(stack: Stack, held: Ceremony) -> None:
    """One signature sent to both at the same time counts once; after a kill -9 of one, the other one has all of them, and completes it."""
    first, second = (Client(service.url) for service in stack.services if service.name == "ingest")
    payload = copy.deepcopy(held.payload)
    for metadata in payload["metadata"].values():
        del metadata["signatures"][1:]
    first.request("POST", "/api/v1/bootstrap/", payload, patient=True)
    wait_until(lambda: "data" in second.request("GET", SIGN), "the second ingest does not see what waits")
    of_root = entry(first, "root", held.root[1].signer)
    with ThreadPoolExecutor(2) as threads:
        refusals = list(threads.map(lambda client: ask(client, "POST", SIGN, of_root), (first, second)))
    assert refusals.count("") == 1, refusals
    wait_until(lambda: not second.request("GET", SIGN)["data"]["missing"]["root"], "the second ingest does not see the signature")
    (one, *_) = stack.services
    one.process.kill()
    one.process.wait()
    assert second.request("GET", "/api/v1/bootstrap/")["data"]["state"] == "signing"
    assert ask(second, "POST", SIGN, entry(second, "targets", held.targets[2].signer)) == ""
    wait_until(lambda: second.request("GET", "/api/v1/bootstrap/")["data"].get("state") == "finished", "the bootstrap does not finish")
    shown = json.loads((stack.directory / "origin" / "metadata" / "1.root.json").read_bytes())
    assert [entry["keyid"] for entry in shown["signatures"]] == [key.signer.public_key.keyid for key in held.root[:2]]


@pytest.mark.parametrize("mode", [ceremony.RSTUF])
def test_people_sign_a_custom_role_while_its_signer_dies(stack: Stack, held: Ceremony) -> None:
    """After a kill -9 between their signatures another signer has the changes and the first signature, and completes the version."""
    first, second = (Client(service.url) for service in stack.services if service.name == "ingest")
    first.request("POST", "/api/v1/bootstrap/", held.payload, patient=True)
    wait_until(lambda: second.request("GET", "/api/v1/bootstrap/")["data"].get("state") == "finished", "the bootstrap does not finish")
    people = [CryptoSigner.generate_ed25519() for _ in range(2)]
    keys = {one.public_key.keyid: one.public_key.to_dict() for one in people}
    role = {"name": "ours", "terminating": False, "keyids": [*keys], "threshold": 2, "paths": ["ours/*"], "x-rstuf-expire-policy": 90}
    first.request("POST", "/api/v1/delegations", {"delegations": {"keys": keys, "roles": [role]}})
    wait_until(lambda: "data" in second.request("GET", SIGN), "the second ingest does not see what waits")
    added = first.request("POST", "/api/v1/artifacts", {"artifacts": [artifact("ours/a", 1)]})["data"]["task_id"]
    wait_until(lambda: "ours/a" in str(second.request("GET", SIGN)), "the change does not become part of what waits")
    of_role = entry(first, "ours", people[0])
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda client: ask(client, "POST", SIGN, of_role), (first, second)))
    wait_until(lambda: len(second.request("GET", SIGN)["data"]["metadata"]["ours"]["signatures"]) == 1, "the signature does not count")
    signer = next(one for one in stack.services if one.name == "signer")
    signer.process.kill()
    signer.process.wait()
    stack.start("signer")
    wait_until(lambda: ask(second, "POST", SIGN, entry(second, "ours", people[1])) == "", "the second signature is refused")
    wait_until(lambda: second.request("GET", f"/api/v1/task?task_id={added}")["data"]["state"] == "SUCCESS", "the artifact is not live")
    shown = json.loads((stack.directory / "origin" / "metadata" / "1.ours.json").read_bytes())
    assert ([*shown["signed"]["targets"]], {one["keyid"] for one in shown["signatures"]}) == (["ours/a"], {*keys})
