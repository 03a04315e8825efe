"""RSTUF's calls about custom delegations: what is accepted, as which record, with which task; and what is refused."""

import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from tufline import records
from tufline.bus import Message
from tufline.clock import utc_now
from tufline.metadata import canonical
from tufline.metadata.delegations import MAX_MATCHING, Delegation
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.records import OFFLINE_ROLES_SCHEMA, ChangedDelegations, Head, cursor, topics
from tufline.records.cursor import Cursor, Task
from tufline_ingest.rest.schemas.delegations import MAX_NAMED
from tufline_testing.delegating import delegate, delegating, read_admin, settle
from tufline_testing.log import eventually, read_all
from tufline_testing.rest import PARTITIONS, artifact, rest

CALL, DELETE = "/api/v1/delegations", "/api/v1/delegations/delete"
DEV = Delegation(name="dev", paths=("dev/*",))


def key_with_uri(uri: str = "fn:dev") -> tuple[str, dict[str, Any]]:
    """Make a key object that the signer could find the private key of."""
    key = CryptoSigner.generate_ed25519().public_key
    return key.keyid, {**key.to_dict(), ONLINE_KEY_URI: uri, "x-rstuf-key-name": "dev key"}


def role(name: Any = "dev", **more: Any) -> dict[str, Any]:
    """Make a role of a request, as RSTUF's command line sends it."""
    return {"name": name, "terminating": True, "keyids": [], "threshold": 1, "paths": ["dev/*"], "x-rstuf-expire-policy": 7} | more


def body(*roles: Any, keys: Any = None) -> dict[str, Any]:
    """Make a request."""
    return {"delegations": {"keys": keys or {}, "roles": [*roles]}}


async def test_roles_are_added_changed_listed_and_deleted(tmp_path: Path) -> None:
    """Each call is one record with the end of each partition, and its task is done once the record is published."""
    keyid, key = key_with_uri()
    async with delegating(tmp_path) as (server, _):
        calls = [
            ("POST", CALL, body(role(path_hash_prefixes=None), role("own", paths=["own/*"], keyids=[keyid]), keys={keyid: key}), "add"),
            ("PUT", CALL + "/", body(role(paths=["dev/*", "more/*"], **{"x-rstuf-expire-policy": 1.0})), "update"),
            ("POST", DELETE + "/", {"delegations": {"roles": [{"name": "own"}]}}, "delete"),
        ]
        tasks = []
        for method, path, content, action in calls:
            before = await server.on_log()
            status, answer = await server.ask(method, path, content)
            assert (status, answer["message"]) == (202, f"Metadata delegation {action} accepted."), answer
            record = read_admin((await read_all(server.bus, topics.ADMIN))[-1])
            assert isinstance(record, ChangedDelegations)
            assert (record.action, record.ends) == (action, [end + 1 for end in before[topics.ARTIFACTS]])
            tasks.append((answer["data"]["task_id"], [one["name"] for one in content["delegations"]["roles"]]))
            assert (await server.ask("GET", f"/api/v1/task?task_id={tasks[-1][0]}"))[1]["data"]["state"] == "RUNNING"
            if action == "add":
                _, listed = await server.ask("GET", CALL)
                assert [one["keyids"] for one in listed["data"]["roles"]] == [[], [keyid]]
                assert listed["data"]["keys"] == {keyid: key}
        _, listed = await server.ask("GET", CALL)
        assert listed["data"]["keys"] == {}
        (dev,) = listed["data"]["roles"]
        assert (dev["paths"], dev["x-rstuf-expire-policy"], dev["version"], dev["expires"]) == (["dev/*", "more/*"], 1, 0, None)
        await settle(server.bus)
        for task_id, names in tasks:
            result = (await server.task(task_id))["result"]
            assert result["task"] == "metadata_delegation"
            assert result["message"] == "Metadata Delegation Processed"
            assert result["details"] == {"delegated_roles": names, "failed_roles": []}


async def test_a_change_that_came_too_late_is_an_error_of_each_role(tmp_path: Path) -> None:
    """If another process was faster, the task says for each role why it failed."""
    async with delegating(tmp_path, [DEV]) as (server, _):
        offset = await delegate(server.bus, DEV, Delegation(name="doc", paths=("doc/*",)))
        await settle(server.bus)
        task_id = cursor.encode(Cursor(cursor.FORMAT, Task.DELEGATE, server.bus.log_id, 0, {0: [offset]}))
        task = await server.task(task_id)
        reason = "there is a role dev already: update it instead"
        assert (task["state"], task["result"]["error"]) == ("ERRORED", reason)
        assert task["result"]["details"] == {
            "delegated_roles": [],
            "failed_roles": [{"role": "dev", "reason": reason}, {"role": "doc", "reason": reason}],
        }


async def test_an_invented_task_is_unknown(tmp_path: Path) -> None:
    """An id that names another record of ``admin``, or none, is PENDING."""
    async with delegating(tmp_path) as (server, _):
        for place in ({0: [0]}, {0: [10**6]}, {1: [0]}):
            task_id = cursor.encode(Cursor(cursor.FORMAT, Task.DELEGATE, server.bus.log_id, 0, place))
            assert (await server.ask("GET", f"/api/v1/task?task_id={task_id}"))[1]["data"]["state"] == "PENDING"


async def test_of_two_requests_for_one_role_one_is_accepted(tmp_path: Path) -> None:
    """The other one gets the reason, also if another process appended its record first."""
    async with delegating(tmp_path) as (server, _):
        answers = await asyncio.gather(*(server.ask("POST", CALL, body(role())) for _ in range(4)))
        assert sorted(status for status, _ in answers) == [202, 422, 422, 422]
        assert all("there is a role dev already" in answer["detail"] for status, answer in answers if status == 422)
        async with rest(tmp_path / "other", bus=server.bus) as other:
            two = await asyncio.gather(*(one.ask("POST", CALL, body(role("doc"))) for one in (server, other)))
        assert sorted(status for status, _ in two) == [202, 422]


async def test_a_request_that_is_too_large_is_not_compared_first(tmp_path: Path) -> None:
    """Each of 100,000 paths would be compared with all others, and meanwhile no other change of ``admin`` would be accepted."""
    async with delegating(tmp_path) as (server, _):
        roles = (role(f"r{number}", paths=[f"*{number}-{other}" for other in range(1000)]) for number in range(100))
        content = json.dumps(body(*roles)).encode()
        async with asyncio.timeout(10.0):
            status, answer = await server.ask("POST", CALL, content)
        assert (status, "send them in parts" in answer["detail"]) == (422, True), answer


KEYID, KEY = key_with_uri()
OFFLINE = {name: value for name, value in KEY.items() if name != ONLINE_KEY_URI}
NAMES = {
    "1.root": "name of a file",
    "a/b": "name of a file",
    "A": "name of a file",
    "": "name of a file",
    "x" * 101: "name of a file",
} | dict.fromkeys(("root", "targets", "snapshot", "timestamp", "bins", "bins-00", "bins-x"), "name of another role")
WRONG: dict[str, tuple[str, str, Any, str]] = {
    **{f"name {name[:9]}": ("POST", CALL, body(role(name)), says) for name, says in NAMES.items()},
    "two roles of one name": ("POST", CALL, body(role("a"), role("a")), "names a role twice"),
    "a role that exists": ("POST", CALL, body(role("there")), "there is a role there already"),
    "an unknown role": ("PUT", CALL, body(role("a")), "there is no role a"),
    "deleting an unknown role": ("POST", DELETE, {"delegations": {"roles": [{"name": "a"}]}}, "there is no role a"),
    "deleting a role twice": ("POST", DELETE, {"delegations": {"roles": [{"name": "there"}] * 2}}, "names a role twice"),
    "no role": ("POST", CALL, body(), "of length >= 1"),
    "deleting no role": ("POST", DELETE, {"delegations": {"roles": []}}, "of length >= 1"),
    "10,000 roles": ("POST", CALL, body(*(role(f"r{number}") for number in range(10_000))), f"of length <= {MAX_NAMED}"),
    "no delegations": ("POST", CALL, {}, "missing required field `delegations`"),
    "no paths": ("POST", CALL, body(role(paths=[])), "of length >= 1"),
    "paths left out": ("POST", CALL, {"delegations": {"roles": [{"name": "a"}]}}, "missing required field `paths`"),
    "hashes": ("POST", CALL, body(role(path_hash_prefixes=["0"])), "path_hash_prefixes must be null"),
    "an unknown field": ("POST", CALL, body(role(delegations={})), "unknown field `delegations`"),
    "pattern with [ ]": ("POST", CALL, body(role(paths=["dev/[ab]"])), "clients read differently"),
    "pattern with **": ("POST", CALL, body(role(paths=["dev/**"])), "clients read differently"),
    "pattern with ?": ("POST", CALL, body(role(paths=["dev/?"])), "clients read differently"),
    "absolute pattern": ("POST", CALL, body(role(paths=["/dev/*"])), "absolute"),
    "threshold 0": ("POST", CALL, body(role(threshold=0)), "threshold 1"),
    "threshold 0 of own keys": ("POST", CALL, body(role(threshold=0, keyids=[KEYID]), keys={KEYID: KEY}), "threshold"),
    "threshold too high": ("POST", CALL, body(role(threshold=2, keyids=[KEYID]), keys={KEYID: KEY}), "threshold of 2, but only 1"),
    "threshold too high for the bins": ("POST", CALL, body(role(threshold=10**30)), "threshold 1"),
    "threshold with a fraction": ("POST", CALL, body(role(threshold=1.5)), "must be a whole number"),
    "no such key": ("POST", CALL, body(role(keyids=[KEYID])), "there is no such key"),
    "wrong keyid": ("POST", CALL, body(role(keyids=["ab" * 32]), keys={"ab" * 32: KEY}), "not the SHA-256"),
    "a key twice": ("POST", CALL, body(role(keyids=[KEYID, KEYID]), keys={KEYID: KEY}), "one public key under two keyids"),
    "a malformed key": ("POST", CALL, body(role(keyids=["ab"]), keys={"ab": {"keytype": 1}}), "clients can't read the keys"),
    "a key with a huge number": ("POST", CALL, body(role(keyids=[KEYID]), keys={KEYID: KEY | {"x": 2**70}}), "beyond 2^53"),
    "expiration 0": ("POST", CALL, body(role(**{"x-rstuf-expire-policy": 0})), "expiration of dev"),
    "expiration of 10,000 years": ("POST", CALL, body(role(**{"x-rstuf-expire-policy": 3_650_000})), "expiration of dev"),
    "too many roles for a path": ("POST", CALL, body(*(role(f"r{number}") for number in range(MAX_MATCHING + 1))), "clients visit at most"),
    "512 kB": ("POST", CALL, body(*(role(f"r{n}", paths=[f"{n}/{n}-{m}/{'x' * 900}" for m in range(9)]) for n in range(99))), "in parts"),
}


async def test_wrong_requests_change_nothing(tmp_path: Path) -> None:
    """Each of them is refused as a whole, with its reason, and nothing is on the log."""
    async with delegating(tmp_path, [Delegation(name="there", paths=("there/*",))]) as (server, _):
        before = await server.on_log()
        for name, (method, path, content, says) in WRONG.items():
            status, answer = await server.ask(method, path, json.dumps(content).encode())
            assert (status, says in answer["detail"]) == (422, True), (name, answer)
        assert await server.on_log() == before
        # A key that no role names is not even looked at.
        status, answer = await server.ask("POST", CALL, body(role("fine"), keys={"x": {"y": 2**70}}))
        assert status == 202, answer


@pytest.mark.parametrize("known", [True, False])
async def test_keys_that_only_people_have(tmp_path: Path, known: bool) -> None:
    """A record with such a role has the schema version at which an earlier Tufline stops. Online keys can't be replaced by such ones."""
    keyid = hashlib.sha256(canonical.encode(OFFLINE)).hexdigest()
    async with delegating(tmp_path, *([[DEV]] if known else [])) as (server, _):
        status, answer = await server.ask("PUT" if known else "POST", CALL, body(role("dev", keyids=[keyid]), keys={keyid: OFFLINE}))
        if known:
            assert (status, "delete it, and add it again" in answer["detail"]) == (422, True), answer
            return
        assert status == 202, answer
        newest = read_admin((await read_all(server.bus, topics.ADMIN))[-1])
        assert (newest.v, newest.roles[0].keyids) == (OFFLINE_ROLES_SCHEMA, (keyid,))


async def test_names_in_snapshot_are_limited(tmp_path: Path) -> None:
    """Bins, the role that delegates to them, and all custom roles that there ever were count: clients load the name of each."""
    async with delegating(tmp_path, [DEV]) as (server, _), rest(tmp_path / "limited", bus=server.bus, max_roles=10) as limited:
        assert (await limited.ask("POST", DELETE, {"delegations": {"roles": [{"name": "dev"}]}}))[0] == 202
        status, answer = await limited.ask("POST", CALL, body(role("doc")))
        assert (status, "would have 11 roles: 8 bins" in answer["detail"], "ingest.max_roles" in answer["detail"]) == (422, True, True)
        assert (await limited.ask("POST", CALL, body(role("dev"))))[0] == 202, "a name that came back counts once"
        assert (await server.ask("POST", CALL, body(role("doc"))))[0] == 202


async def test_before_the_bootstrap(tmp_path: Path) -> None:
    """RSTUF's answer comes before anything is said of the request."""
    async with rest(tmp_path) as server:
        for method, path in (("GET", CALL), ("POST", CALL), ("PUT", CALL), ("POST", DELETE)):
            status, answer = await server.ask(method, path, None if method == "GET" else {})
            assert (status, answer["detail"]["message"]) == (404, "Task not accepted.")


async def test_what_was_accepted_before_is_below_the_end(tmp_path: Path) -> None:
    """A change of artifacts that was acknowledged before the request is routed by the version before."""
    async with delegating(tmp_path) as (server, _):
        for number in range(5):
            assert (await server.ask("POST", "/api/v1/artifacts", {"artifacts": [artifact(f"dev/{number}")]}))[0] == 202
        ends = (await server.on_log())[topics.ARTIFACTS]
        assert (await server.ask("POST", CALL, body(role())))[0] == 202
        record = read_admin((await read_all(server.bus, topics.ADMIN))[-1])
        assert all(record.ends[partition] > ends[partition] for partition in range(PARTITIONS))


async def test_operators_see_custom_roles(tmp_path: Path) -> None:
    """Settings, trust and status name the custom roles; a role that was not renewed in time is a warning, and deleted ones are none."""
    keyid, key = key_with_uri()
    async with delegating(tmp_path, [Delegation(name="gone", paths=("gone/*",))]) as (server, _):
        assert (await server.ask("POST", CALL, body(role("own", paths=["own/*"], keyids=[keyid]), keys={keyid: key})))[0] == 202
        assert (await server.ask("POST", CALL, body(role(), role("late", **{"x-rstuf-expire-policy": None}))))[0] == 202
        assert (await server.ask("POST", DELETE, {"delegations": {"roles": [{"name": "gone"}]}}))[0] == 202
        in_days = {"own": 6, "dev": 5, "late": 1, "gone": -3, "bins": 4}
        moments = {name: f"{utc_now() + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for name, days in in_days.items()}
        for name, moment in moments.items():
            head = Head(version=1, sha256="0" * 64, length=1, expires=moment, offset=0, keyids=[f"of {name}"])
            await server.bus.append([Message(topics.HEADS, name, records.encode(head), 0)])

        async def is_read() -> bool:
            return bool((await server.ask("GET", CALL))[1]["data"]["roles"][-1]["expires"] == moments["late"])

        await eventually(is_read)
        _, status = await server.ask("GET", "/api/v1/status")
        assert (status["number_of_bins"], status["number_of_custom_roles"]) == (8, 3)
        assert (status["expires"]["custom"], status["expires"]["catch_all"]) == (moments["late"], moments["bins"])
        assert status["expires"].keys() == {"root", "targets", "snapshot", "timestamp", "bins", "custom", "catch_all"}
        assert status["expires"]["bins"] > moments["own"], "the bins are those that the signer made, for seven days"
        assert [name for name in status["warnings"] if name.startswith("expiry.")] == ["expiry.late"]
        assert "no signer has renewed it" in status["problems"]["expiry.late"]
        _, trust = await server.ask("GET", "/api/v1/trust")
        assert trust["custom_roles"] == {"own": ["of own"], "dev": ["of dev"], "late": ["of late"]}
        assert trust["keyids"]["bins"] == ["of bins"]
        assert sum(trust["bins"].values()) == 8
        _, settings = await server.ask("GET", "/api/v1/config")
        bins = settings["data"]["bins_expiration"]
        assert settings["data"]["custom_roles"] == {
            "own": {"expiration": 7, "threshold": 1, "num_keys": 1},
            "dev": {"expiration": 7, "threshold": 1, "num_keys": 1},
            "late": {"expiration": bins, "threshold": 1, "num_keys": 1},
        }


async def test_the_lifetime_of_a_custom_role_is_not_a_setting(tmp_path: Path) -> None:
    """A request for it says which call changes it; together with other roles it is listed as invalid."""
    async with delegating(tmp_path, [DEV]) as (server, _):
        status, answer = await server.ask("PUT", "/api/v1/config", {"settings": {"expiration": {"dev": 3}}})
        assert (status, "PUT /api/v1/delegations" in answer["detail"]) == (422, True)
        _, answer = await server.ask("PUT", "/api/v1/config", {"settings": {"expiration": {"dev": 3, "bins": 3}}})
        task = await server.task(answer["data"]["task_id"])
        assert task["result"]["details"] == {"updated_roles": ["bins"], "invalid_roles": ["dev"]}
