"""Signatures that come one by one: nothing counts before enough keys signed it, and what does not count is refused with its reason."""

import asyncio
import copy
import hashlib
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from tufline.bus.embedded.bus import open_embedded
from tufline.records import topics
from tufline.trust.ceremony import Ceremony, make_key
from tufline_testing.clients.running import Job, PythonTuf
from tufline_testing.live_repository import served
from tufline_testing.payloads import make_bootstrap
from tufline_testing.repository_logs import Log
from tufline_testing.resign import signature
from tufline_testing.rest import PARTITIONS, Rest, artifact, rest
from tufline_testing.server import run_tufline

BOOTSTRAP, ADD, METADATA, SIGN, WITHDRAW = (
    f"/api/v1/{call}" for call in ("bootstrap/", "artifacts/", "metadata/", "metadata/sign", "metadata/sign/delete")
)
QUICK = {"release_delay": 0.0, "renewal_check": 0.2}


def unfinished(held: Ceremony) -> dict[str, Any]:
    """Return a bootstrap that only the first key of each offline role signed."""
    payload = copy.deepcopy(held.payload)
    for metadata in payload["metadata"].values():
        del metadata["signatures"][1:]
    return payload


async def sign(server: Rest, role: str, signer: CryptoSigner) -> tuple[int, Any]:
    """Sign the pending version as a key holder does: get it, sign it, and send the signature."""
    _, answer = await server.ask("GET", SIGN)
    return await server.ask("POST", SIGN, {"role": role, "signature": signature(answer["data"]["metadata"][role], signer)})


async def missing(server: Rest) -> dict[str, list[int]]:
    """Return how many signatures each pending role needs, for each set of keys."""
    _, answer = await server.ask("GET", SIGN)
    if "data" not in answer:
        return {}
    return {role: [one["count"] for one in sets] for role, sets in answer["data"]["missing"].items()}


async def bootstrap_state(server: Rest) -> tuple[bool, str, Any]:
    """Return whether there is a repository, the state of the bootstrap, and the result of its task."""
    _, answer = await server.ask("GET", BOOTSTRAP)
    task = await server.task(answer["data"]["id"])
    return answer["data"]["bootstrap"], answer["data"]["state"], task["result"]["details"]["bootstrap"]


async def submit(server: Rest, path: str, payload: dict[str, Any]) -> str:
    """Submit a request that is accepted, and return its task id."""
    status, answer = await server.ask("POST", path, payload)
    assert status == 202, answer
    return str(answer["data"]["task_id"])


def next_root(trusted: dict[str, Any], new: CryptoSigner, old: str) -> Metadata[Root]:
    """Make the next root, unsigned, in which a new root key replaces an old one."""
    root: Root = Metadata[Root].from_dict(copy.deepcopy(trusted)).signed
    root.version += 1
    root.revoke_key(old, "root")
    root.add_key(new.public_key, "root")
    return Metadata(root)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_a_bootstrap_is_signed_key_by_key(tmp_path: Path, log: Log, mode: str) -> None:
    """A bootstrap with one signature of two waits in the state signing, also over a restart, and is live after the last signature."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode=mode)
    roles = sorted(held.payload["metadata"])
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        task_id = await submit(server, BOOTSTRAP, unfinished(held))
        done = await server.task(task_id)
        assert done["state"] == "SUCCESS"
        assert done["result"]["details"]["bootstrap"] == "Root v1 is pending signatures"
        assert await bootstrap_state(server) == (False, "signing", "Root v1 is pending signatures")
        status, answer = await server.ask("POST", ADD, {"artifacts": [artifact("a")]})
        assert (status, answer["detail"]["error"]) == (404, "It requires bootstrap finished. State: signing")
        assert (await server.ask("POST", BOOTSTRAP, held.payload))[0] == 404
        assert await missing(server) == {role: [1] for role in roles}
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        for role in roles:
            status, answer = await sign(server, role, (held.root if role == "root" else held.targets)[1].signer)
            assert status == 202, answer
        signed = await server.task(answer["data"]["task_id"])
        assert signed["state"] == "SUCCESS"
        assert signed["result"]["details"] == {"bootstrap": "Bootstrap Finished"}
        assert await bootstrap_state(server) == (True, "finished", True)
        assert (await server.task(task_id))["result"]["details"] == {"bootstrap": True}
        assert await missing(server) == {}
        added = await submit(server, ADD, {"artifacts": [artifact("a")]})
        assert (await server.task(added))["state"] == "SUCCESS"
        # Root is published as it was signed, one signature for each key holder.
        shown = Metadata[Root].from_file(str(tmp_path / "origin" / "1.root.json"))
        assert sorted(shown.signatures) == sorted(key.signer.public_key.keyid for key in held.root[:2])


async def test_a_signature_that_does_not_count_is_refused(tmp_path: Path) -> None:
    """Each such signature is refused with its reason, and leaves no trace; valid ones are accepted afterwards."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458")
    payload = unfinished(held)
    root = payload["metadata"]["root"]
    good = signature(root, held.root[1].signer)
    bad: dict[str, tuple[dict[str, Any], int, str]] = {
        "a foreign key": (
            {"role": "root", "signature": signature(root, make_key("ecdsa").signer)},
            422,
            "is not one of the keys that sign",
        ),
        "a key of targets": (
            {"role": "root", "signature": signature(root, held.targets[0].signer)},
            422,
            "is not one of the keys that sign",
        ),
        "of other content": (
            {"role": "root", "signature": signature(payload["metadata"]["targets"], held.root[1].signer)},
            422,
            "is not valid for root version 1",
        ),
        "the same again": ({"role": "root", "signature": root["signatures"][0]}, 422, "has signed root version 1 already"),
        "no hex": ({"role": "root", "signature": {**good, "sig": "zz"}}, 422, "is not valid for root version 1"),
        "upper case": ({"role": "root", "signature": {**good, "sig": good["sig"].upper()}}, 422, "lower-case hexadecimal"),
        "empty": ({"role": "root", "signature": {**good, "sig": ""}}, 422, "is not valid for root version 1"),
        "a role that does not wait": ({"role": "snapshot", "signature": good}, 404, "no version of 'snapshot' waits"),
        "no signature": ({"role": "root"}, 422, "signature"),
        "a signature that is text": ({"role": "root", "signature": "x"}, 422, "signature"),
    }
    async with rest(tmp_path) as server:
        assert (await server.ask("POST", SIGN, {"role": "root", "signature": good}))[0] == 404
        await submit(server, BOOTSTRAP, payload)
        before = await server.on_log()
        wrong = []
        for name, (request, expected, says) in bad.items():
            status, answer = await server.ask("POST", SIGN, request)
            if status != expected or says not in str(answer):
                wrong.append(f"{name}: {status} {answer}")
        assert not wrong, "\n".join(wrong)
        assert await server.on_log() == before
        for role, signer in (("root", held.root[2].signer), ("targets", held.targets[1].signer)):
            assert (await sign(server, role, signer))[0] == 202
        assert (await server.ask("GET", BOOTSTRAP))[1]["data"]["state"] == "pre"


async def test_a_new_root_key_is_signed_by_old_and_new_keys(tmp_path: Path, log: Log) -> None:
    """A root that replaces a root key needs both thresholds; clients follow it, and never see it before it is complete."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="rstuf")
    trusted = held.payload["metadata"]["root"]
    new = make_key("ecdsa").signer
    wanted = next_root(trusted, new, held.root[0].signer.public_key.keyid)
    with served(tmp_path) as url:
        async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
            await server.task(await submit(server, BOOTSTRAP, held.payload))
            # A key that is only in the new root is not trusted yet.
            wanted.sign(new)
            status, answer = await server.ask("POST", METADATA, {"metadata": {"root": wanted.to_dict()}})
            assert status == 422
            assert "root version 2 has no valid signature by" in answer["detail"]
            wanted.signatures.clear()
            wanted.sign(held.root[0].signer)
            task_id = await submit(server, METADATA, {"metadata": {"root": wanted.to_dict()}})
            assert (await server.task(task_id))["result"]["details"]["update"] == "Root v2 is pending signatures"
            status, answer = await server.ask("POST", METADATA, {"metadata": {"root": wanted.to_dict()}})
            assert status == 422
            assert "root version 2 waits for signatures already" in answer["detail"]
            assert await missing(server) == {"root": [1, 2]}
            _, answer = await sign(server, "root", held.root[1].signer)
            assert (await server.task(answer["data"]["task_id"]))["result"]["details"] == {"update": "Root v2 is pending signatures"}
            assert await missing(server) == {"root": [1]}
            assert await refreshed(tmp_path, url) == 1
            _, answer = await sign(server, "root", new)
            assert (await server.task(answer["data"]["task_id"]))["result"]["details"] == {"update": "Metadata update finished"}
            assert "update" not in (await server.task(task_id))["result"]["details"]
            assert await refreshed(tmp_path, url) == 2
            _, answer = await server.ask("GET", "/api/v1/trust")
            assert (answer["root"]["current"], answer["root"]["pending"]) == (2, 2)


async def refreshed(path: Path, url: str) -> int:
    """Refresh a client that keeps its state, and return the version of root that it trusts."""
    trusted, directory = path / "trusted.json", path / "client"
    trusted.write_bytes((path / "origin" / "1.root.json").read_bytes())
    result = await asyncio.to_thread(PythonTuf().run, Job(f"{url}/origin/", f"{url}/files/", trusted, directory))
    assert not result.error, result.error
    return int(Metadata[Root].from_file(str(directory / "root.json")).signed.version)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_a_bootstrap_is_withdrawn(tmp_path: Path, log: Log, mode: str) -> None:
    """After a withdrawal the system is available for another bootstrap, and no signature counts for the first one any more."""
    held, other = (make_bootstrap(tmp_path / name, bins=4, mode=mode) for name in ("first", "keys"))
    payload = unfinished(held)
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        assert (await server.ask("POST", WITHDRAW, {"role": "root"}))[0] == 404
        first = await submit(server, BOOTSTRAP, payload)
        task = await server.task(await submit(server, WITHDRAW, {"role": "root"}))
        assert task["result"]["details"] == {"bootstrap": "Bootstrap process has been stopped"}
        ended = await server.task(first)
        assert ended["state"] == "ERRORED"
        assert "it was withdrawn before enough keys had signed it" in ended["result"]["error"]
        assert "state" not in (await server.ask("GET", BOOTSTRAP))[1]["data"]
        late = {"role": "root", "signature": signature(payload["metadata"]["root"], held.root[1].signer)}
        assert (await server.ask("POST", SIGN, late))[0] == 404
        assert (await server.task(await submit(server, BOOTSTRAP, other.payload)))["state"] == "SUCCESS"


async def test_a_bootstrap_that_waits_is_replaced(tmp_path: Path, log: Log) -> None:
    """A bootstrap with ``replace`` replaces one that waits for signatures; the first one's task reports that."""
    held, other = (make_bootstrap(tmp_path / name, bins=4) for name in ("first", "keys"))
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        first = await submit(server, BOOTSTRAP, unfinished(held))
        second = await submit(server, BOOTSTRAP, {**other.payload, "replace": True})
        assert (await server.task(second))["state"] == "SUCCESS"
        ended = await server.task(first)
        assert ended["state"] == "ERRORED"
        assert "another one came before enough keys had signed it" in ended["result"]["error"]


async def test_targets_are_signed_key_by_key(tmp_path: Path, log: Log) -> None:
    """New targets stay pending although the root of the same request is complete; a later complete version replaces them."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458")
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        await server.task(await submit(server, BOOTSTRAP, held.payload))
        following = {}
        for role, keys in (("root", held.root), ("targets", held.targets)):
            metadata: Metadata[Any] = Metadata.from_dict(copy.deepcopy(held.payload["metadata"][role]))
            metadata.signed.version = 2
            metadata.signatures.clear()
            for key in keys[: 2 if role == "root" else 1]:
                metadata.sign(key.signer, append=True)
            following[role] = metadata.to_dict()
        both = await submit(server, METADATA, {"metadata": following})
        details = (await server.task(both))["result"]["details"]
        assert details == {"role": "root", "roles": ["root", "targets"], "update": "Targets v2 is pending signatures"}
        _, answer = await server.ask("GET", SIGN)
        assert sorted(answer["data"]["metadata"]) == ["targets", "trusted_root", "trusted_targets"]
        complete = {**following["targets"], "signatures": [signature(following["targets"], key.signer) for key in held.targets[1:]]}
        assert (await server.task(await submit(server, METADATA, {"metadata": {"targets": complete}})))["state"] == "SUCCESS"
        ended = await server.task(both)
        assert ended["state"] == "ERRORED"
        assert "another one came before enough keys had signed it" in ended["result"]["error"]
        assert (await server.ask("POST", SIGN, {"role": "targets", "signature": complete["signatures"][0]}))[0] == 404
        assert (await server.ask("GET", "/api/v1/trust"))[1]["targets"]["current"] == 2


async def test_a_waiting_version_can_expire(tmp_path: Path) -> None:
    """A version that expires while it waits can only be withdrawn: the answer says so, and a last signature is refused with the reason."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458", days={"root": 1, "targets": 1})
    payload = unfinished(held)
    async with rest(tmp_path) as server:
        await submit(server, BOOTSTRAP, payload)
    later = datetime.now(UTC) + timedelta(days=2)
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), clock=lambda: later)
    async with rest(tmp_path, bus=bus, clock=lambda: later) as server:
        _, answer = await server.ask("GET", SIGN)
        assert "root expired on" in answer["data"]["problems"]["bootstrap"]
        status, answer = await sign(server, "root", held.root[1].signer)
        assert status == 422
        assert "root expired on" in answer["detail"]
        await submit(server, WITHDRAW, {"role": "targets"})
        assert "state" not in (await server.ask("GET", BOOTSTRAP))[1]["data"]
    await bus.close()


async def test_the_task_of_a_signature_reports_the_state_of_the_version(tmp_path: Path, log: Log) -> None:
    """A signature is not reported as done if its version was withdrawn; a complete version is no longer pending."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458")
    async with rest(tmp_path, log=log, whole=True, signer=QUICK) as server:
        ended = {}
        for name in ("withdrawn", "complete"):
            await submit(server, BOOTSTRAP, unfinished(held))
            _, answer = await sign(server, "targets", held.targets[1].signer)
            ended[name] = answer["data"]["task_id"]
            if name == "withdrawn":
                await submit(server, WITHDRAW, {"role": "root"})
        _, answer = await sign(server, "root", held.root[1].signer)
        await server.task(answer["data"]["task_id"])
        withdrawn, complete = await server.task(ended["withdrawn"]), await server.task(ended["complete"])
        assert withdrawn["state"] == "ERRORED"
        assert "it was withdrawn before enough keys had signed it" in withdrawn["result"]["error"]
        assert complete["result"]["details"] == {"bootstrap": "Bootstrap Finished"}


def write_key(directory: Path, name: str, signer: CryptoSigner) -> Path:
    """Write a private key to its holder's file."""
    (file := directory / f"{name}.pem").write_bytes(signer.private_bytes)
    return file


async def sign_by_command(server: Rest, directory: Path, *signers: CryptoSigner) -> str:
    """Run ``tufline sign --url`` with some keys, and return what it prints."""
    keys = [part for number, signer in enumerate(signers) for part in ("--key", write_key(directory, str(number), signer))]
    done = await asyncio.to_thread(partial(run_tufline, "sign", "--url", server.url, "--yes", *keys, cwd=directory))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_targets_are_signed_while_a_root_with_other_keys_of_targets_is_pending(tmp_path: Path) -> None:
    """The command signs with the keys of both roots and reports what is missing; then both versions become current."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458")
    new = [make_key("ed25519").signer for _ in range(2)]
    root: Metadata[Root] = Metadata.from_dict(copy.deepcopy(held.payload["metadata"]["root"]))
    root.signed.version = 2
    for key in held.targets:
        root.signed.revoke_key(key.signer.public_key.keyid, "targets")
    for signer in new:
        root.signed.add_key(signer.public_key, "targets")
    root.signatures.clear()
    for key in held.root[:2]:
        root.sign(key.signer, append=True)
    targets = copy.deepcopy(held.payload["metadata"]["targets"])
    targets["signed"]["version"] = 2
    targets["signatures"] = [signature(targets, held.targets[0].signer)]
    async with rest(tmp_path, whole=True, signer=QUICK) as server:
        await server.task(await submit(server, BOOTSTRAP, held.payload))
        both = await submit(server, METADATA, {"metadata": {"root": root.to_dict(), "targets": targets}})
        assert await missing(server) == {"targets": [1, 2]}
        said = await sign_by_command(server, tmp_path, *new)
        assert "targets version 2: 1 more of" in said
        said = await sign_by_command(server, tmp_path, held.targets[1].signer)
        assert "targets version 2: complete" in said
        assert (await server.task(both))["state"] == "SUCCESS"
        _, answer = await server.ask("GET", "/api/v1/trust")
        assert (answer["root"]["current"], answer["targets"]["current"]) == (2, 2)


async def test_a_root_that_renames_a_key_is_signed_under_both_names(tmp_path: Path) -> None:
    """The key of a person whose keyid changes signs for the old root and for the new one."""
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="rstuf")
    root = copy.deepcopy(held.payload["metadata"]["root"])
    root["signed"]["version"] = 2
    of_root = root["signed"]["roles"]["root"]
    for number, keyid in enumerate(of_root["keyids"]):
        key = root["signed"]["keys"].pop(keyid) | {"x-holder": "somebody"}
        of_root["keyids"][number] = hashlib.sha256(str(encode_canonical(key)).encode()).hexdigest()
        root["signed"]["keys"][of_root["keyids"][number]] = key
    root["signatures"] = [signature(root, held.root[0].signer)]
    async with rest(tmp_path, whole=True, signer=QUICK) as server:
        await server.task(await submit(server, BOOTSTRAP, held.payload))
        task_id = await submit(server, METADATA, {"metadata": {"root": root}})
        assert await missing(server) == {"root": [1, 2]}
        said = await sign_by_command(server, tmp_path, held.root[0].signer, held.root[1].signer)
        assert "root version 2: complete" in said
        assert (await server.task(task_id))["result"]["details"] == {"role": "root", "roles": ["root"]}


async def test_a_replacement_is_signed_by_its_own_keys(tmp_path: Path) -> None:
    """The root of a bootstrap that is to be replaced is not reported as trusted, so the command signs targets for the new root."""
    held, other = (make_bootstrap(tmp_path / name, bins=4, mode="pep458") for name in ("first", "keys"))
    async with rest(tmp_path) as server:
        await submit(server, BOOTSTRAP, held.payload)
        await submit(server, BOOTSTRAP, {**unfinished(other), "replace": True})
        _, answer = await server.ask("GET", SIGN)
        assert sorted(answer["data"]["metadata"]) == ["root", "targets"]
        said = await sign_by_command(server, tmp_path, other.root[1].signer, other.targets[1].signer)
        assert "targets version 1: complete" in said
        assert await missing(server) == {}
