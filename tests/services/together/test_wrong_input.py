"""Wrong input of people who hold keys: each gets its answer, and log, origin and all that is current or pending are unchanged."""

import asyncio
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tuf.api.metadata import Metadata, Root

from tufline import records
from tufline.config.settings import DEFAULT_MAX_REQUEST_BYTES
from tufline.records import topics
from tufline.trust.ceremony import Ceremony, make_key
from tufline_testing.log import eventually, read_all
from tufline_testing.payloads import make_bootstrap
from tufline_testing.resign import resign, signature
from tufline_testing.rest import Rest, artifact, rest

ADD, BOOTSTRAP, CONFIG, METADATA, SIGN, WITHDRAW, TRUST = (
    f"/api/v1/{call}" for call in ("artifacts/", "bootstrap/", "config/", "metadata/", "metadata/sign", "metadata/sign/delete", "trust")
)
TEN_MB = 10_000_000
TOO_LARGE = b'{"artifacts": []' + b" " * DEFAULT_MAX_REQUEST_BYTES + b"}"


@dataclass(frozen=True, slots=True)
class People:
    """The key holders of a repository.

    Attributes:
        held: their keys and the bootstrap.
        pending: root 2, which the first of them has signed.
    """

    held: Ceremony
    pending: dict[str, Any]

    def root(self, change: Callable[[Root], None], signers: int = 2) -> dict[str, Any]:
        """Make root 2, changed, with as many signatures of root keys."""
        root = Metadata[Root].from_dict(copy.deepcopy(self.held.payload["metadata"]["root"]))
        root.signed.version = 2
        change(root.signed)
        metadata = root.to_dict()
        resign(metadata, [key.signer for key in self.held.root[:signers]])
        return metadata

    def bootstrap(self, role: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Make the bootstrap, with a changed role."""
        payload = copy.deepcopy(self.held.payload)
        change(payload["metadata"][role]["signed"])
        resign(payload["metadata"][role], [key.signer for key in (self.held.root if role == "root" else self.held.targets)[:2]])
        return payload


class Wrong(NamedTuple):
    """A wrong request, and its answer."""

    method: str
    path: str
    body: Callable[[People], Any]
    status: int
    says: str


def update(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {"root": metadata}}


def signed(role: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": role, "signature": entry}


def named(name: str) -> Callable[[dict[str, Any]], None]:
    """Name the bins of targets."""
    return lambda targets: targets["delegations"]["succinct_roles"].update(name_prefix=name)


FIRST: dict[str, Wrong] = {
    "no signature": Wrong("POST", BOOTSTRAP, lambda people: spoiled(people, "root", []), 422, "has no valid signature by"),
    "a threshold met by one key twice": Wrong(
        "POST", BOOTSTRAP, lambda people: spoiled(people, "root", [people.held.root[0]] * 2), 422, "root"
    ),
    "root signed by keys of targets": Wrong(
        "POST", BOOTSTRAP, lambda people: spoiled(people, "root", people.held.targets[:2]), 422, "is not one of the keys that sign root"
    ),
    "targets signed by keys of root": Wrong(
        "POST", BOOTSTRAP, lambda people: spoiled(people, "targets", people.held.root[:2]), 422, "is not one of the keys that sign targets"
    ),
    "an expired root": Wrong("POST", BOOTSTRAP, lambda people: people.bootstrap("root", expired), 422, "root expired on"),
    "bins named 1.root": Wrong(
        "POST", BOOTSTRAP, lambda people: people.bootstrap("targets", named("1.root")), 422, "name_prefix is '1.root'"
    ),
    "bins named ../root": Wrong(
        "POST", BOOTSTRAP, lambda people: people.bootstrap("targets", named("../root")), 422, "name_prefix is '../root'"
    ),
    "a root of 10 MB": Wrong("POST", BOOTSTRAP, lambda people: people.bootstrap("root", grown), 422, "bytes of JSON; at most"),
    "a body over the limit": Wrong("POST", BOOTSTRAP, lambda _: TOO_LARGE, 413, "too large"),
    "an update": Wrong(
        "POST", METADATA, lambda people: update(people.root(lambda _: None)), 404, "It requires bootstrap finished. State: None"
    ),
    "a signature": Wrong("POST", SIGN, lambda people: signed("root", people.pending["signatures"][0]), 404, "no version of 'root' waits"),
}
"""Before the bootstrap."""

LATER: dict[str, Wrong] = {
    "a bootstrap twice": Wrong(
        "POST", BOOTSTRAP, lambda people: people.held.payload, 404, "System already has a Metadata. State: finished"
    ),
    "a bootstrap that replaces": Wrong(
        "POST", BOOTSTRAP, lambda people: people.held.payload | {"replace": True}, 404, "System already has a Metadata. State: finished"
    ),
    "a root without signatures": Wrong(
        "POST", METADATA, lambda people: update(people.root(lambda _: None, signers=0)), 422, "no valid signature by"
    ),
    "a root that skips a version": Wrong(
        "POST", METADATA, lambda people: update(people.root(lambda root: setattr(root, "version", 3))), 422, "the next version is 2"
    ),
    "a root that is there": Wrong(
        "POST", METADATA, lambda people: update(people.held.payload["metadata"]["root"]), 422, "the next version is 2"
    ),
    "an expired root": Wrong(
        "POST",
        METADATA,
        lambda people: update(people.root(lambda root: setattr(root, "expires", datetime(2020, 1, 1, tzinfo=UTC)))),
        422,
        "expired on",
    ),
    "a root signed by keys of targets": Wrong(
        "POST", METADATA, lambda people: update(by_keys_of_targets(people)), 422, "is not one of the keys that sign root version 2"
    ),
    "a signature of a key of targets": Wrong(
        "POST",
        SIGN,
        lambda people: signed("root", signature(people.pending, people.held.targets[0].signer)),
        422,
        "is not one of the keys that sign",
    ),
    "a signature of a stranger": Wrong(
        "POST",
        SIGN,
        lambda people: signed("root", signature(people.pending, make_key("ecdsa").signer)),
        422,
        "is not one of the keys that sign",
    ),
    "a replayed signature": Wrong(
        "POST", SIGN, lambda people: signed("root", people.pending["signatures"][0]), 422, "has signed root version 2 already"
    ),
    "a signature of the version before": Wrong(
        "POST",
        SIGN,
        lambda people: signed("root", signature(people.held.payload["metadata"]["root"], people.held.root[1].signer)),
        422,
        "is not valid for root version 2",
    ),
    "a signature for the role 1.root": Wrong(
        "POST", SIGN, lambda people: signed("1.root", people.pending["signatures"][0]), 404, "no version of '1.root' waits"
    ),
    "a withdrawal of the role 1.root": Wrong("POST", WITHDRAW, lambda _: {"role": "1.root"}, 404, "no version of '1.root' waits"),
    "a lifetime of the role root": Wrong(
        "PUT", CONFIG, lambda _: {"settings": {"expiration": {"root": 5}}}, 422, "none of the roles is signed by the signer"
    ),
    "a root of 10 MB": Wrong(
        "POST", METADATA, lambda people: update(people.bootstrap("root", grown)["metadata"]["root"]), 422, "bytes of JSON; at most"
    ),
    "an update over the limit": Wrong("POST", METADATA, lambda _: TOO_LARGE, 413, "too large"),
    "a signature of 10 MB": Wrong(
        "POST", SIGN, lambda people: signed("root", {**people.pending["signatures"][0], "sig": "ab" * (TEN_MB // 2)}), 422, "signature"
    ),
    "a signature over the limit": Wrong("POST", SIGN, lambda _: TOO_LARGE, 413, "too large"),
    "a path of 10 MB": Wrong("POST", ADD, lambda _: {"artifacts": [artifact("a" * TEN_MB)]}, 422, "path"),
    "artifacts over the limit": Wrong("POST", ADD, lambda _: TOO_LARGE, 413, "too large"),
    "an artifact at ../1.root.json": Wrong("POST", ADD, lambda _: {"artifacts": [artifact("../1.root.json")]}, 422, "'..' segment"),
}
"""With a repository, whose root 2 waits for its second signature."""


def spoiled(people: People, role: str, keys: list[Any]) -> dict[str, Any]:
    """Return the bootstrap, with a role signed by other keys."""
    payload = copy.deepcopy(people.held.payload)
    resign(payload["metadata"][role], [key.signer for key in keys])
    return payload


def by_keys_of_targets(people: People) -> dict[str, Any]:
    metadata = people.root(lambda _: None)
    resign(metadata, [key.signer for key in people.held.targets[:2]])
    return metadata


def expired(root: dict[str, Any]) -> None:
    root["expires"] = "2020-01-01T00:00:00Z"


def grown(root: dict[str, Any]) -> None:
    root["x-note"] = "a" * TEN_MB


def people_of(tmp_path: Path) -> People:
    held = make_bootstrap(tmp_path / "keys", bins=4, mode="pep458")
    people = People(held, {})
    return People(held, people.root(lambda root: setattr(root, "expires", datetime(2099, 1, 1, tzinfo=UTC)), signers=1))


def files_in(origin: Path) -> dict[str, bytes]:
    """Return the files of an origin; none if it does not exist."""
    return {path.name: path.read_bytes() for path in origin.glob("*.json")}


async def state(server: Rest, origin: Path) -> list[Any]:
    """Return all that a wrong request could have changed."""
    answers = [await server.ask("GET", path) for path in (BOOTSTRAP, SIGN, TRUST, CONFIG)]
    return [await server.on_log(), answers, files_in(origin)]


async def covers_admin(server: Rest) -> bool:
    """Return whether the newest published commit covers all of ``admin``: what the right requests caused is done."""
    found = await read_all(server.bus, topics.PUBLISHED)
    return bool(found) and records.decode(records.published_decoder, found[-1].value).vector.admin == await server.bus.end(topics.ADMIN, 0)


async def try_all(server: Rest, people: People, wrong: Mapping[str, Wrong], origin: Path) -> None:
    """Send every wrong request; each must get its answer, and change nothing."""
    before = await state(server, origin)
    faults = []
    for name, one in wrong.items():
        body = one.body(people)
        status, answer = await server.ask(one.method, one.path, body if isinstance(body, bytes) else msgspec.json.encode(body))
        if status != one.status or one.says not in str(answer).replace("\\", ""):
            faults.append(f"{name}: {status} {str(answer)[:300]}")
        if (after := await state(server, origin)) != before:
            faults.append(f"{name}: the state has changed")
            before = after
    assert not faults, "\n".join(faults)
    assert not server.health.problems


async def test_wrong_input_before_the_bootstrap(tmp_path: Path) -> None:
    """Each wrong request before there is a repository gets its answer, and changes nothing; the right bootstrap is accepted afterwards."""
    people = people_of(tmp_path)
    async with rest(tmp_path) as server:
        await try_all(server, people, FIRST, tmp_path / "origin")
        assert (await server.ask("POST", BOOTSTRAP, people.held.payload))[0] == 202


async def test_wrong_input_to_a_repository(tmp_path: Path) -> None:
    """Each wrong request to a repository whose root waits for a signature changes nothing; the missing signature is accepted afterwards."""
    people = people_of(tmp_path)
    async with rest(tmp_path, whole=True, signer={"release_delay": 0.0}) as server:
        _, answer = await server.ask("POST", BOOTSTRAP, people.held.payload)
        await server.task(answer["data"]["task_id"])
        status, answer = await server.ask("POST", METADATA, update(people.pending))
        assert status == 202, answer
        await eventually(lambda: covers_admin(server))
        await try_all(server, people, LATER, tmp_path / "origin")
        status, answer = await server.ask("POST", SIGN, signed("root", signature(people.pending, people.held.root[1].signer)))
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["state"] == "SUCCESS"
        assert (tmp_path / "origin" / "2.root.json").exists()


@pytest.mark.parametrize("signers", [1, 2], ids=["to be signed", "signed"])
async def test_two_updates_at_once(tmp_path: Path, signers: int) -> None:
    """Of two versions of root that come at the same time, one is accepted, and its content is what the origin shows in the end."""
    people = people_of(tmp_path)
    async with rest(tmp_path, whole=True, signer={"release_delay": 0.0}) as server:
        _, answer = await server.ask("POST", BOOTSTRAP, people.held.payload)
        await server.task(answer["data"]["task_id"])
        both = [
            people.root(lambda root, year=year: setattr(root, "expires", datetime(year, 1, 1, tzinfo=UTC)), signers)  # type: ignore[misc]
            for year in (2098, 2099)
        ]
        answers = await asyncio.gather(*(server.ask("POST", METADATA, update(root)) for root in both))
        assert sorted(status for status, _ in answers) == [202, 422], answers
        (accepted,) = (number for number, (status, _) in enumerate(answers) if status == 202)
        await server.task(answers[accepted][1]["data"]["task_id"])
        if signers == 1:
            status, answer = await server.ask("POST", SIGN, signed("root", signature(both[accepted], people.held.root[1].signer)))
            assert status == 202, answer
            await server.task(answer["data"]["task_id"])
        shown = Metadata[Root].from_file(str(tmp_path / "origin" / "2.root.json"))
        assert shown.signed.to_dict() == both[accepted]["signed"]
        assert not (tmp_path / "origin" / "3.root.json").exists()
