"""Bad requests: each gets the right answer, none is a fault of the server, and none reaches the log."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from tuf.api.metadata import Metadata, Root

from tufline.records import cursor
from tufline.records.cursor import Cursor, Task
from tufline_ingest import routes
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import artifact, bootstrapped, rest

ADD, DELETE, BULK, TASK, BOOTSTRAP = (
    f"/api/v1/{call}" for call in ("artifacts/", "artifacts/delete", "artifacts/bulk", "task/", "bootstrap/")
)


class Bad(NamedTuple):
    """A bad request, and its answer."""

    method: str
    path: str
    body: Any
    status: int
    says: str


def add(*artifacts: Any, **more: Any) -> dict[str, Any]:
    return {"artifacts": list(artifacts), **more}


def forged(**changes: Any) -> str:
    fields: dict[str, Any] = {"format": 1, "task": Task.ADD, "log": "0" * 16, "time": 1, "positions": {0: [0]}}
    return f"{TASK}?task_id={cursor.encode(Cursor(**(fields | changes)))}"


HASHES = {"sha256": "ab" * 32}

BAD_ARTIFACTS: dict[str, tuple[Any, str]] = {
    "empty path": (artifact(""), "the path is empty"),
    "absolute path": (artifact("/a"), "absolute"),
    "path with ..": (artifact("a/../../b"), "'..' segment"),
    "path with .": (artifact("./a"), "'.' segment"),
    "path with //": (artifact("a//b"), "empty segment"),
    "path ending in /": (artifact("a/"), "empty segment"),
    "path with NUL": (artifact("a\0"), "control character"),
    "path with newline": (artifact("a\nb"), "control character"),
    "path with C1 control": (artifact("a\u0085b"), "control character"),
    "path beyond the basic plane": (artifact("a/\U0001f600"), "basic plane"),
    "path of 1,025 bytes": (artifact("é" * 512 + "x"), "1025 bytes"),
    "path that is a number": ({"path": 1, "info": artifact("a")["info"]}, "Expected `str`"),
    "no path": ({"info": artifact("a")["info"]}, "missing required field `path`"),
    "no info": ({"path": "a"}, "missing required field `info`"),
    "info that is a list": ({"path": "a", "info": []}, "Expected `object`"),
    "no length": ({"path": "a", "info": {"hashes": HASHES}}, "missing required field `length`"),
    "no hashes": ({"path": "a", "info": {"length": 1}}, "missing required field `hashes`"),
    "unknown field in info": (artifact("a", colour="red"), "unknown field `colour`"),
    "negative length": (artifact("a", -1), "length must be from 0 to 2^53"),
    "length beyond 2^53": (artifact("a", 2**53 + 1), "length must be from 0 to 2^53"),
    "length beyond 2^64": (artifact("a", 2**70), "length must be from 0 to 2^53"),
    "length that is a float": (artifact("a", 1.5), "whole number"),
    "length that is text": (artifact("a", "one"), "whole number"),
    "length that is true": (artifact("a", True), "whole number"),
    "length that is null": (artifact("a", None), "whole number"),
    "hashes that are empty": (artifact("a", 1, {}), "at least one algorithm"),
    "hashes that are a list": (artifact("a", 1, ["x"]), "at least one algorithm"),
    "hash of an unknown algorithm": (artifact("a", 1, {"md5": "0" * 32}), "is not one of sha256, sha512"),
    "hash of an algorithm that is not enabled": (artifact("a", 1, {"blake2b-256": "0" * 64}), "ingest.hash_algorithms"),
    "hash too short": (artifact("a", 1, {"sha256": "ab"}), "64 hexadecimal digits"),
    "hash not hexadecimal": (artifact("a", 1, {"sha256": "x" * 64}), "64 hexadecimal digits"),
    "hash of sha512's length": (artifact("a", 1, {"sha256": "a" * 128}), "64 hexadecimal digits"),
    "hash that is a number": (artifact("a", 1, {"sha256": 1}), "64 hexadecimal digits"),
    "custom that is a list": (artifact("a", custom=[1]), "custom must be an object"),
    "custom with a float": (artifact("a", custom={"x": {"y": 0.5}}), "custom['x']['y'] is a float"),
    "custom with a big integer": (artifact("a", custom={"x": 2**60}), "beyond 2^53"),
    "custom with a control character": (artifact("a", custom={"x": "\x1b"}), "control character"),
    "custom with a key beyond the basic plane": (artifact("a", custom={"\U0001f600": 1}), "basic plane"),
    "custom of 5 KiB": (artifact("a", custom={"x": "y" * 5000}), "at most 4096"),
    "custom nested 100 deep": (artifact("a", custom=json.loads('{"x":' * 100 + "1" + "}" * 100)), "nested deeper"),
}

BAD_REQUESTS: dict[str, Bad] = {
    **{f"add: {name}": Bad("POST", ADD, add(one), 422, says) for name, (one, says) in BAD_ARTIFACTS.items()},
    "add: one bad of many": Bad("POST", ADD, add(artifact("a"), artifact("b"), artifact("/c")), 422, "artifacts[2]"),
    "add: no body": Bad("POST", ADD, b"", 422, "not JSON"),
    "add: no JSON": Bad("POST", ADD, b"artifacts=a", 422, "not JSON"),
    "add: JSON cut off": Bad("POST", ADD, b'{"artifacts":[', 422, "not JSON"),
    "add: not UTF-8": Bad("POST", ADD, b'{"artifacts":[{"path":"\xff"}]}', 422, "not JSON"),
    "add: lone surrogate": Bad("POST", ADD, b'{"artifacts":[{"path":"\\ud800","info":{}}]}', 422, "not JSON"),
    "add: NaN": Bad("POST", ADD, b'{"artifacts":[{"path":"a","info":{"length":NaN}}]}', 422, "not JSON"),
    "add: a list": Bad("POST", ADD, [], 422, "Expected `object`"),
    "add: null": Bad("POST", ADD, b"null", 422, "Expected `object`"),
    "add: nested 100,000 deep": Bad("POST", ADD, b"[" * 100_000, 422, "the request"),
    "add: no artifacts": Bad("POST", ADD, {}, 422, "missing required field `artifacts`"),
    "add: artifacts that are an object": Bad("POST", ADD, {"artifacts": {}}, 422, "Expected `array`"),
    "add: too large": Bad("POST", ADD, b" " * 200_000, 413, "too large"),
    "add: task id that is text": Bad("POST", ADD, add(artifact("a"), add_task_id_to_custom="yes"), 422, "Expected `bool`"),
    "add: custom too large with the task id": Bad(
        "POST", ADD, add(artifact("a"), artifact("b", custom={"x": "y" * 4080}), add_task_id_to_custom=True), 422, "artifacts[1]"
    ),
    "delete: absolute path": Bad("POST", DELETE, add("a", "/b"), 422, "artifacts[1]"),
    "delete: objects": Bad("POST", DELETE, add({"path": "a"}), 422, "Expected `str`"),
    "get: bad path": Bad("GET", "/api/v1/artifacts/a/%2E%2E/%2E%2E/etc", None, 404, ""),
    "get: control character": Bad("GET", "/api/v1/artifacts/a%00b", None, 422, "control character"),
    "get: not live": Bad("GET", "/api/v1/artifacts/nobody/knows", None, 404, "is not live"),
    "task: no id": Bad("GET", TASK, None, 422, "task_id is missing"),
    "task: an id that Tufline never makes": Bad("GET", f"{TASK}?task_id=0123456789abcdef0123456789abcdef", None, 200, "PENDING"),
    "task: not base64": Bad("GET", f"{TASK}?task_id=%C3%A4%20%00", None, 200, "PENDING"),
    "task: very long": Bad("GET", f"{TASK}?task_id={'A' * 7000}", None, 422, "too long"),
    "task: another log": Bad("GET", forged(), None, 200, "PENDING"),
    "task: newer form": Bad("GET", forged(format=9), None, 200, "PENDING"),
    "bootstrap: again": Bad("POST", BOOTSTRAP, "payload", 404, "System already has a Metadata. State: finished"),
    "method: GET add": Bad("GET", ADD, None, 405, "does not take GET"),
    "method: PUT add": Bad("PUT", ADD, add(artifact("a")), 405, "does not take PUT"),
    "method: DELETE task": Bad("DELETE", TASK, None, 405, "does not take DELETE"),
    "address: unknown": Bad("GET", "/api/v2/artifacts/", None, 404, "openapi.json"),
    "address: dots": Bad("GET", "/../etc/passwd", None, 404, ""),
}


async def test_bad_requests(tmp_path: Path) -> None:
    """Each bad request is answered with its status and its reason, never with a 5xx, and nothing of it reaches the log."""
    assert len(BAD_REQUESTS) >= 60
    wrong = []
    async with bootstrapped(tmp_path, max_request_bytes=150_000) as server:
        before = await server.on_log()
        payload = make_bootstrap(tmp_path / "other").payload
        for name, bad in BAD_REQUESTS.items():
            body = payload if bad.body == "payload" else bad.body
            status, answer = await server.ask(bad.method, bad.path, body)
            if status != bad.status or bad.says not in json.dumps(answer, ensure_ascii=False).replace("\\", "") or status >= 500:
                wrong.append(f"{name}: {status} {json.dumps(answer)[:200]}")
        assert not wrong, "\n".join(wrong)
        assert await server.on_log() == before


def change(*steps: Any) -> Callable[[dict[str, Any]], None]:
    """Change a payload: the last step is the value, the others lead to its place; None as the value deletes."""
    *path, last, value = steps

    def apply(payload: dict[str, Any]) -> None:
        for step in path:
            payload = payload[step]
        if value is None:
            del payload[last]
        else:
            payload[last] = value

    return apply


ROLES, META = ("settings", "roles"), ("metadata",)

BAD_BOOTSTRAPS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no settings": (change("settings", None), "settings"),
    "no metadata": (change("metadata", None), "metadata"),
    "no root": (change(*META, "root", None), "root"),
    "root that is not metadata": (change(*META, "root", {"x": 1}), "not root metadata"),
    "root of another role": (change(*META, "root", "signed", "_type", "targets"), "root"),
    "root not signed": (change(*META, "root", "signatures", []), "root version 1 has no valid signature by"),
    "root changed": (change(*META, "root", "signed", "version", 7), "is not valid for root version 7"),
    "root expired": (change(*META, "root", "signed", "expires", "2020-01-01T00:00:00Z"), "root expired on"),
    "root without consistent snapshots": (change(*META, "root", "signed", "consistent_snapshot", False), "consistent_snapshot"),
    "root with a float": (change(*META, "root", "signed", "x-size", 1.5), "float"),
    "root with a control character": (change(*META, "root", "signed", "x-name", "\x07"), "control character"),
    "signatures that are a number": (change(*META, "root", "signatures", 5), "not root metadata"),
    "targets signed by a key of root": (
        lambda payload: payload["metadata"]["targets"].update(signatures=payload["metadata"]["root"]["signatures"]),
        "is not one of the keys that sign targets version 1",
    ),
    "targets without bins": (change(*META, "targets", "signed", "delegations", None), "hash bins"),
    "targets with another number of bins": (change(*ROLES, "bins", "number_of_delegated_bins", 32), "delegates to 8 bins"),
    "bins not a power of two": (change(*ROLES, "bins", "number_of_delegated_bins", 12), "power of two"),
    "too many bins": (change(*ROLES, "bins", "number_of_delegated_bins", 32768), "power of two"),
    "no bins": (change(*ROLES, "bins", None), "settings.roles.bins is missing"),
    "delegations of no role": (change(*ROLES, "delegations", {"keys": {}, "roles": []}), "of length >= 1"),
    "targets that people sign, with custom delegations": (
        change(*ROLES, "delegations", {"roles": [{"name": "dev", "paths": ["dev/*"]}]}),
        "people sign targets here",
    ),
    "no expiration": (change(*ROLES, "timestamp", {}), "expiration"),
    "an expiration of zero days": (change(*ROLES, "timestamp", "expiration", 0), "from 1 to 3650 days"),
    "expiration of ages": (change(*ROLES, "bins", "expiration", 99999), "from 1 to 3650 days"),
    "expiration that is text": (change(*ROLES, "bins", "expiration", "1"), "Expected `int | float`, got `str`"),
    "expiration of half a day": (change(*ROLES, "bins", "expiration", 0.5), "must be a whole number"),
    "timeout of half a second": (change("timeout", 0.5), "must be a whole number"),
}


async def test_bad_bootstraps(tmp_path: Path) -> None:
    """A payload that clients would refuse, or that would block the signer, gets 422 and a reason, and leaves no trace."""
    good = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458").payload
    wrong = []
    async with rest(tmp_path) as server:
        before = await server.on_log()
        for name, (spoil, says) in BAD_BOOTSTRAPS.items():
            payload = copy.deepcopy(good)
            spoil(payload)
            status, answer = await server.ask("POST", BOOTSTRAP, payload)
            if status != 422 or says not in json.dumps(answer):
                wrong.append(f"{name}: {status} {answer}")
        assert not wrong, "\n".join(wrong)
        assert await server.on_log() == before
        status, answer = await server.ask("GET", BOOTSTRAP)
        assert answer == {"data": {"bootstrap": False}, "message": "System available for bootstrap."}


OF_CONTENT = ("path with", "path ending", "path beyond", "absolute", "custom with", "root ", "targets ", "signatures")
BEYOND_SCHEMAS = {
    *(name for name in (*BAD_ARTIFACTS, *BAD_BOOTSTRAPS) if name.startswith(OF_CONTENT)),
    *(
        "path of 1,025 bytes",
        "custom of 5 KiB",
        "add: custom too large with the task id",
        "custom nested 100 deep",
        "hash of an algorithm that is not enabled",
    ),
    *("add: one bad of many", "add: custom too large with the task id", "delete: absolute path"),
}
"""Requests that are refused by rules that a schema can't state: about paths, custom, metadata, and settings of the server."""


def test_the_description_is_as_strict_as_the_server(tmp_path: Path) -> None:
    """A request that the server refuses for its form or a value does not fit the description of the REST API either."""
    described = routes.description()
    by_call = {ADD: "AddRequest", DELETE: "RemoveRequest", BOOTSTRAP: "BootstrapRequest"}
    schemas = {call: {"$ref": f"#/components/schemas/{name}", "components": described["components"]} for call, name in by_call.items()}
    jsonschema.validate(add(artifact("a", "1", custom={})), schemas[ADD])
    jsonschema.validate(add("a"), schemas[DELETE])
    good = make_bootstrap(tmp_path / "keys", bins=8, mode="pep458").payload
    jsonschema.validate(good, schemas[BOOTSTRAP])
    bad = {name: (ADD, add(one)) for name, (one, _) in BAD_ARTIFACTS.items()}
    of_calls = {
        name: one
        for name, one in BAD_REQUESTS.items()
        if one.method == "POST" and one.path in schemas and isinstance(one.body, dict | list)
    }
    bad |= {name: (one.path, one.body) for name, one in of_calls.items() if not name.startswith("add: ") or name[5:] not in bad}
    for name, (spoil, _) in BAD_BOOTSTRAPS.items():
        payload = copy.deepcopy(good)
        spoil(payload)
        bad[name] = (BOOTSTRAP, payload)
    fits = set()
    for name, (call, body) in bad.items():
        if jsonschema.Draft202012Validator(schemas[call]).is_valid(body):
            fits.add(name)
    assert fits <= BEYOND_SCHEMAS, fits - BEYOND_SCHEMAS


async def test_online_key_without_place_is_refused(tmp_path: Path) -> None:
    """A correctly signed root without the URI of its online key is refused: the signer could never sign."""
    held = make_bootstrap(tmp_path / "keys", mode="rstuf")
    root = Metadata[Root].from_dict(copy.deepcopy(held.payload["metadata"]["root"]))
    for key in root.signed.keys.values():
        key.unrecognized_fields.clear()
    root.signatures.clear()
    for signing in held.root[:2]:
        root.sign(signing.signer, append=True)
    held.payload["metadata"]["root"] = root.to_dict()
    async with rest(tmp_path) as server:
        status, answer = await server.ask("POST", BOOTSTRAP, held.payload)
        assert (status, "x-rstuf-online-key-uri" in answer["detail"]) == (422, True), answer


@pytest.mark.parametrize("path", [ADD, DELETE, BULK])
async def test_nothing_before_the_bootstrap(tmp_path: Path, path: str) -> None:
    """Before the bootstrap a change is answered as RSTUF does, and leaves no trace."""
    async with rest(tmp_path) as server:
        before = await server.on_log()
        status, answer = await server.ask("POST", path, add(artifact("a")))
        expected = {"message": "Task not accepted.", "error": "It requires bootstrap finished. State: None"}
        assert (status, answer) == (404, {"detail": expected})
        assert await server.on_log() == before
