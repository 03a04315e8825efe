"""Custom roles whose keys only people have, over REST, with all services: who has to sign, and what clients find meanwhile."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from securesystemslib.signer import CryptoSigner

from tufline.clock import utc_now
from tufline_cli import main
from tufline_testing.origin import Reader
from tufline_testing.resign import signature
from tufline_testing.rest import Rest, artifact, bootstrapped, bulk_line

ARTIFACTS, DELETE, BULK, DELEGATIONS = "/api/v1/artifacts", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk", "/api/v1/delegations"
SIGN, TASK = "/api/v1/metadata/sign", "/api/v1/task?task_id="
QUICK = {"release_delay": 0.0, "renewal_check": 0.2}


def people(count: int = 2) -> list[CryptoSigner]:
    """Make the keys of people."""
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def delegations(signers: Sequence[CryptoSigner], *paths: str) -> dict[str, Any]:
    """Make the body of a request with the role ``ours``, which two of these people sign."""
    keys = {signer.public_key.keyid: signer.public_key.to_dict() for signer in signers}
    role = {"name": "ours", "terminating": False, "keyids": [*keys], "threshold": 2, "paths": [*paths], "x-rstuf-expire-policy": 90}
    return {"delegations": {"keys": keys, "roles": [role]}}


async def post(server: Rest, path: str, body: Any, method: str = "POST") -> str:
    """Send a request that is accepted, and return its task id."""
    status, answer = await server.ask(method, path, body)
    assert status == 202, answer
    task_id: str = answer["data"]["task_id"]
    return task_id


async def waits(server: Rest, version: int, signatures: int = 0) -> dict[str, Any]:
    """Wait until a version waits with some signatures already, and return it."""
    async with asyncio.timeout(20):
        while True:
            _, answer = await server.ask("GET", SIGN)
            found: dict[str, Any] = answer.get("data", {}).get("metadata", {}).get("ours", {})
            if found and (found["signed"]["version"], len(found["signatures"])) == (version, signatures):
                return found
            await asyncio.sleep(0.05)


async def sign(server: Rest, version: int, signers: Sequence[CryptoSigner]) -> None:
    """Sign a version as several people do, one after the other."""
    for number, signer in enumerate(signers):
        waiting = await waits(server, version, number)
        task = await post(server, SIGN, {"role": "ours", "signature": signature(waiting, signer)})
        done = await server.task(task)
        assert (done["state"], done["result"]["task"]) == ("SUCCESS", "sign_metadata"), done


async def state(server: Rest, task: str) -> dict[str, Any]:
    """Return a task as it is now."""
    data: dict[str, Any] = (await server.ask("GET", f"{TASK}{task}"))[1]["data"]
    return data


async def running(server: Rest, task: str, text: str) -> None:
    """Wait until a task is RUNNING with a message."""
    async with asyncio.timeout(20):
        while True:
            found = await state(server, task)
            assert found["state"] in {"PENDING", "RUNNING"}, found
            if text in (found.get("result") or {}).get("message", ""):
                return
            await asyncio.sleep(0.05)


async def test_what_people_sign_is_found(tmp_path: Path) -> None:
    """From the first version to a removal: each task names whose signatures are missing, and ends when clients find the change."""
    one, two = signers = people()
    async with bootstrapped(tmp_path, mode="rstuf", signer=QUICK) as server:
        reader = Reader(tmp_path / "origin", utc_now)
        added = await post(server, DELEGATIONS, delegations(signers, "ours/*"))
        await running(server, added, "ours version 1 waits for the signatures of 2 of")
        first = await post(server, ARTIFACTS, {"artifacts": [artifact("ours/a", 1), artifact("other", 1)]})
        await running(server, first, one.public_key.keyid[:12])
        assert (await server.ask("GET", f"{ARTIFACTS}/ours/a"))[0] == 404
        await sign(server, 1, signers)
        done = await server.task(first)
        assert (done["state"], done["result"]["details"]["added_artifacts"]) == ("SUCCESS", ["ours/a", "other"])
        assert (await server.task(added))["state"] == "SUCCESS"
        assert await asyncio.to_thread(reader.refresh) == {"ours/a": 1, "other": 1}
        assert (await server.ask("GET", f"{ARTIFACTS}/ours/a"))[1]["role"] == "ours"
        assert (await server.ask("GET", SIGN))[1] == {"message": "No metadata pending signing available"}

        bulk = await post(server, BULK, bulk_line(path="ours/b", info=artifact("ours/b", 2)["info"]))
        removal = await post(server, DELETE, {"artifacts": ["ours/a"]})
        async with asyncio.timeout(20):
            while [*(await waits(server, 2))["signed"]["targets"]] != ["ours/b"]:
                await asyncio.sleep(0.05)
        assert ((await state(server, bulk))["state"], (await state(server, removal))["state"]) == ("RUNNING", "RUNNING")
        await sign(server, 2, [two, one])
        for task in (bulk, removal):
            assert (await server.task(task))["state"] == "SUCCESS"
        assert await asyncio.to_thread(reader.refresh) == {"ours/b": 2, "other": 1}
        _, status = await server.ask("GET", "/api/v1/status")
        assert status["problems"] == {}


async def test_each_wrong_request_has_its_answer(tmp_path: Path) -> None:
    """Nothing changes by any of them."""
    one, two = signers = people()
    (stranger,) = people(1)
    async with bootstrapped(tmp_path, mode="rstuf", signer=QUICK) as server:
        status, answer = await server.ask("POST", SIGN, {"role": "ours", "signature": {"keyid": "a", "sig": "00"}})
        assert (status, "waits for signatures" in str(answer)) == (404, True)
        mixed = delegations(signers, "ours/*")
        mixed["delegations"]["keys"][one.public_key.keyid]["x-rstuf-online-key-uri"] = "fn:one"
        status, answer = await server.ask("POST", DELEGATIONS, mixed)
        assert (status, "needs 2 online key(s)" in str(answer)) == (422, True), answer
        await post(server, DELEGATIONS, delegations(signers, "ours/*"))
        waiting = await waits(server, 1)
        status, answer = await server.ask("POST", f"{SIGN}/delete", {"role": "ours"})
        assert (status, "nobody has signed" in str(answer)) == (422, True)
        good = signature(waiting, one)
        await post(server, SIGN, {"role": "ours", "signature": good})
        await waits(server, 1, 1)
        for wrong, reason in (
            (good, "has signed ours version 1 already"),
            (signature(waiting, stranger), "is not one of the keys"),
            ({**signature(waiting, two), "sig": good["sig"]}, "is not valid for ours version 1"),
            ({**signature(waiting, two), "sig": "no hex"}, "is not valid for ours version 1"),
        ):
            status, answer = await server.ask("POST", SIGN, {"role": "ours", "signature": wrong})
            assert (status, reason in str(answer)) == (422, True), answer
        before = await waits(server, 1, 1)
        # Two requests at once: the writer of the role accepts the first.
        answers = await asyncio.gather(
            *(server.ask("POST", SIGN, {"role": "ours", "signature": signature(waiting, two)}) for _ in range(2))
        )
        states = [(await server.task(one["data"]["task_id"]))["state"] for status, one in answers if status == 202]
        assert states.count("SUCCESS") == 1
        assert before["signatures"] == [good]


async def test_an_unwanted_change_is_undone_by_its_opposite(tmp_path: Path) -> None:
    """A withdrawal drops the signatures, so that the next version has the opposite, too."""
    one, _ = signers = people()
    async with bootstrapped(tmp_path, mode="rstuf", signer=QUICK) as server:
        await post(server, DELEGATIONS, delegations(signers, "ours/*"))
        await sign(server, 1, signers)
        await post(server, ARTIFACTS, {"artifacts": [artifact("ours/bad", 1)]})
        waiting = await waits(server, 2)
        await post(server, SIGN, {"role": "ours", "signature": signature(waiting, one)})
        await waits(server, 2, 1)
        undone = await post(server, DELETE, {"artifacts": ["ours/bad"]})
        task = await post(server, f"{SIGN}/delete", {"role": "ours"})
        done = await server.task(task)
        assert (done["state"], done["result"]["task"]) == ("SUCCESS", "delete_sign_metadata")
        assert (await waits(server, 2))["signed"]["targets"] == {}
        await sign(server, 2, signers)
        assert (await server.task(undone))["state"] == "SUCCESS"
        assert await asyncio.to_thread(Reader(tmp_path / "origin", utc_now).refresh) == {}


async def test_more_changes_than_may_wait_are_refused(tmp_path: Path) -> None:
    """With 429, and what to do; other roles and bins go on."""
    signers = people()
    async with bootstrapped(tmp_path, mode="rstuf", signer=QUICK | {"max_pending_changes": 2}) as server:
        await post(server, DELEGATIONS, delegations(signers, "ours/*"))
        await post(server, ARTIFACTS, {"artifacts": [artifact(f"ours/{number}", 1) for number in range(2)]})
        async with asyncio.timeout(20):
            while True:
                status, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("ours/more", 1)]})
                if status == 429:
                    break
                await asyncio.sleep(0.05)
        assert "signer.max_pending_changes" in str(answer)
        other = await post(server, ARTIFACTS, {"artifacts": [artifact("other", 1)]})
        assert (await server.task(other))["state"] == "SUCCESS"


async def test_people_sign_with_the_command_line(tmp_path: Path) -> None:
    """They make their keys, one adds the role, and each signs what waits on the server, after it was shown."""

    async def run(*command: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, main, [*command])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    files = [tmp_path / f"{name}.pem" for name in ("alice", "bob")]
    for file in files:
        await run("keys", "generate", str(file), "--unencrypted")
    async with bootstrapped(tmp_path, mode="rstuf", signer=QUICK) as server:
        keys = [option for file in files for option in ("--key", str(file.with_suffix(".pub.json")))]
        await run(
            "delegations",
            "add",
            "ours",
            "--path",
            "ours/*",
            "--threshold",
            "2",
            "--expires",
            "90",
            *keys,
            "--no-wait",
            "--url",
            str(server.url),
        )
        await waits(server, 1)
        task = await post(server, ARTIFACTS, {"artifacts": [artifact("ours/a", 1)]})
        outputs = []
        for number, file in enumerate(files):
            async with asyncio.timeout(20):
                while not (await waits(server, 1, number))["signed"]["targets"]:
                    await asyncio.sleep(0.05)
            outputs.append(await run("sign", "--url", str(server.url), "--key", str(file), "--yes"))
        assert "ours version 1, valid until" in outputs[0]
        assert "with 1 artifacts" in outputs[0]
        assert "ours version 1: 1 more of" in outputs[0]
        assert "ours version 1: complete" in outputs[1]
        assert (await server.task(task))["state"] == "SUCCESS"
