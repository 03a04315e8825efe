"""Bootstraps and updates with one random change, correctly signed again, and their results.

Either ingest's checks refuse a payload with a reason; or it goes live, on a real log with signer and publisher in virtual time, and every
client accepts it. Anything else is a fault. A payload is determined by its seed and the first seed of the run, which makes the keys.
"""

import copy
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from tufline import records
from tufline.bus import Message
from tufline.clock import Clock
from tufline.errors import InvalidBootstrapError, InvalidUpdateError
from tufline.metadata import keyids
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.records import CURRENT_RULES, NewMetadata, topics
from tufline.trust import acceptance, admin_records
from tufline.trust.admin_state import AdminState
from tufline.trust.ceremony import Ceremony
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.bootstrap import make_bootstrap as make_record
from tufline_ingest.rest.request_json import decode, read_metadata
from tufline_ingest.rest.schemas.trust import BootstrapRequest, MetadataRequest
from tufline_testing.clients.running import Client, Job
from tufline_testing.live_repository import PARTITIONS, LiveRepository
from tufline_testing.log import DEFAULT_DAYS, read_all
from tufline_testing.payloads import make_bootstrap
from tufline_testing.simulation.seeded import drawn_from
from tufline_testing.simulation.virtual_time import run_virtual

BINS: Final = 2

VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53, 2**53 + 1, 2**70, 1.5),
    *("", "x", "\u00e9", "\n", "\0", "\ud800", "\U0001f600", "0" * 64, "a" * 64, "A" * 64, "constructor", "__proto__", "00", "zz", "abc"),
    *("1.0", "1.0.31", "2.0.0", "1.\u0660", "2035-01-01T00:00:00Z", "2035-1-1T0:0:0Z", "9999-12-31T23:59:59Z", "2035-01-01T00:00:00.5Z"),
    *("../x", "1.root", "root", "bins\n", "a-b", "x" * 300, "nonsense", "fn:", "fn:../x", "vault:x", "rsa", "ecdsa", "ed25519"),
    *([], {}, [1], [None], {"x": 1}, {"x": {"y": [True, None]}}, [[]], ["a" * 64], {"keyid": "nope", "sig": None}),
    *({"keyid": "a" * 64, "sig": ""}, {"keyid": "b" * 64, "sig": "AB"}, {"keyid": "toString", "sig": "00"}),
)
"""Values that replace another value, or are added next to it."""

NAMES: Final = ("x", "x-note", "X", "", "\u017fig", "__proto__", "constructor", "\U0001f600", "a" * 64)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place inside a JSON value: the object or list, and the name or index."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, item in inside:
        yield value, key
        yield from places(item)


def mutate(chance: random.Random, tree: dict[str, Any]) -> None:
    """Change one place of a JSON value, in place."""
    found = list(places(tree))
    if not found:
        return
    holder, key = chance.choice(found)
    match chance.choice(("put", "put", "cut", "add", "copy", "rename")):
        case "put":
            holder[key] = copy.deepcopy(chance.choice(VALUES))
        case "cut":
            del holder[key]
        case "add" if isinstance(holder, dict):
            name = chance.choice((*NAMES, str(key).upper(), str(key).title()))
            holder[name] = copy.deepcopy(chance.choice(VALUES))
        case "add":
            holder.insert(key, copy.deepcopy(chance.choice((*VALUES, holder[key]))))
        case "copy":
            other, from_key = chance.choice(found)
            holder[key] = copy.deepcopy(other[from_key])
        case _ if isinstance(holder, dict):
            holder[chance.choice((str(key).upper(), f"{key} ", *NAMES))] = holder.pop(key)


def rename_keys(signed: Any) -> None:
    """Recompute each keyid, so that a changed key is not refused for its keyid alone."""
    for place in (signed, signed.get("delegations") if isinstance(signed, dict) else None):
        if not isinstance(place, dict) or not isinstance(keys := place.get("keys"), dict):
            continue
        for old, key in list(keys.items()):
            try:
                new = keyids.keyid_of(key)
            except Exception:  # noqa: BLE001 (a key without a canonical form has no keyid)
                continue
            keys[new] = keys.pop(old)
            roles = place.get("roles")
            for role in (*(roles.values() if isinstance(roles, dict) else ()), place.get("succinct_roles")):
                if isinstance(role, dict) and isinstance(role.get("keyids"), list):
                    role["keyids"] = [new if one == old else one for one in role["keyids"]]


def resign(metadata: Any, signers: Sequence[CryptoSigner], *every: Any) -> None:
    """Sign an object unchanged, with each key under all keyids that the ``keys`` of some roots have for it."""
    try:
        content = str(encode_canonical(metadata["signed"])).encode()
    except Exception:  # noqa: BLE001 (an object without a canonical form can't be signed: the old signatures stay)
        return
    signatures: dict[str, str] = {}
    for signer in signers:
        public, signature = signer.public_key.keyval["public"], signer.sign(content).signature
        named = [
            keyid
            for keys in every
            if isinstance(keys, dict)
            for keyid, key in keys.items()
            if isinstance(key, dict) and isinstance(key.get("keyval"), dict) and key["keyval"].get("public") == public
        ]
        signatures |= dict.fromkeys(named or [signer.public_key.keyid], signature)
    metadata["signatures"] = [{"keyid": keyid, "sig": signature} for keyid, signature in signatures.items()]


@dataclass
class Fuzz:
    """Payloads of consecutive seeds, and their results.

    Attributes:
        path: a new directory for this run.
        url: URL at which the directory is served.
        clients: the clients that read what goes live.
        first: the first seed; it determines the keys too.
        outcomes: how many payloads were refused, went live, or need a key whose private part is missing.
        faults: descriptions of the faults, each with its seed.
    """

    path: Path
    url: str
    clients: Sequence[Client]
    first: int
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    held: dict[str, Ceremony] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # This too depends on the seed, because the place of a change depends on the order of the keys.
        with drawn_from(self.first):
            for mode in ("pep458", "rstuf"):
                self.held[mode] = make_bootstrap(self.path / f"keys-{mode}", bins=BINS, mode=mode, days=DEFAULT_DAYS)

    def run(self, bootstraps: int, updates: int) -> None:
        """Make and check payloads: each bootstrap on its own log, then all updates of a mode on one log."""
        first = self.first
        for seed in range(first, first + bootstraps):
            try:
                self._bootstrap(seed)
            except Exception as error:  # noqa: BLE001 (any error is a finding)
                keys = self.bootstrap_case(seed)[1]["metadata"]["root"]["signed"].get("keys")
                self.faults.append(f"bootstrap {seed}: {type(error).__name__}: {error}; its keys: {keys}")
        for mode in self.held:
            run_virtual(partial(self._updates, mode, range(first, first + updates // len(self.held))))

    def bootstrap_case(self, seed: int) -> tuple[str, dict[str, Any]]:
        """Make the payload of a seed, and return its mode."""
        chance = random.Random(f"bootstrap {seed}")
        mode = chance.choice(sorted(self.held))
        payload = copy.deepcopy(self.held[mode].payload)
        payload["metadata"] = self._spoil(chance, mode, payload["metadata"], payload)
        return mode, payload

    def _spoil(
        self, chance: random.Random, mode: str, metadata: dict[str, Any], around: dict[str, Any] | None = None, keys: Sequence[Any] = ()
    ) -> dict[str, Any]:
        # First the signed part, which is signed again; then, sometimes, the unsigned part.
        held = self.held[mode]
        after = chance.random() < 0.2
        for _ in range(0 if after else chance.choice((1, 1, 2))):
            mutate(chance, {role: one["signed"] for role, one in metadata.items()}[chance.choice(sorted(metadata))])
        if chance.random() < 0.5:
            for one in metadata.values():
                rename_keys(one["signed"])
        if "root" in metadata:
            keys = [*keys, metadata["root"]["signed"].get("keys")]
        for role, one in metadata.items():
            resign(one, [key.signer for key in (held.root if role == "root" else held.targets)], *keys)
        if after and around is not None and chance.random() < 0.3:
            mutate(chance, around["settings"])
        elif after:
            mutate(chance, {role: one["signatures"] for role, one in metadata.items()})
        return metadata

    def _is_of_other_keys(self, mode: str, metadata: dict[str, Any]) -> bool:
        # A key that is not in the key directory can't sign, however well-formed it is.
        def online(of: dict[str, Any]) -> set[tuple[Any, Any]]:
            every = [of["root"]["signed"]["keys"], (of.get("targets") or {}).get("signed", {}).get("delegations", {}).get("keys", {})]
            return {(key[ONLINE_KEY_URI], key["keyval"]["public"]) for keys in every for key in keys.values() if ONLINE_KEY_URI in key}

        known = self.held[mode].payload["metadata"]
        return not online({**known, **metadata}) <= online(known)

    def _bootstrap(self, seed: int) -> None:
        mode, payload = self.bootstrap_case(seed)
        self.check_bootstrap(mode, payload, f"b{seed}")

    def check_bootstrap(self, mode: str, payload: dict[str, Any], name: str) -> None:
        """Submit a bootstrap; if it is accepted, wait until it is live, and let every client read it."""
        try:
            asked = decode(BootstrapRequest, json.dumps(payload).encode())
            record = make_record(asked, PARTITIONS)
            run_virtual(partial(self._judge, record))
        except (BadRequestError, InvalidBootstrapError):
            self.outcomes["bootstraps refused"] += 1
            return
        if self._is_of_other_keys(mode, payload["metadata"]):
            self.outcomes["needs a missing private key"] += 1
            return

        async def live(clock: Clock) -> None:
            async with LiveRepository(self.path / name, self.path / f"keys-{mode}", clock) as repository:
                await repository.bus.append([Message(topics.ADMIN, "bootstrap", records.encode(record))])
                await repository.wait_until_live(0)

        run_virtual(live)
        self._read(name, json.dumps(payload["metadata"]["root"]).encode())
        self.outcomes["bootstraps live"] += 1
        shutil.rmtree(self.path / name)

    @staticmethod
    async def _judge(record: records.Bootstrap, clock: Clock) -> AdminState:
        return acceptance.begin(AdminState(), record, 0, clock())

    async def _updates(self, mode: str, seeds: range, clock: Clock) -> None:
        name, payload = f"u-{mode}", self.held[mode].payload
        record = make_record(decode(BootstrapRequest, json.dumps(payload).encode()), PARTITIONS)
        async with LiveRepository(self.path / name, self.path / f"keys-{mode}", clock) as repository:
            await repository.bus.append([Message(topics.ADMIN, "bootstrap", records.encode(record))])
            await repository.wait_until_live(0)
            for seed in seeds:
                try:
                    await self._update(mode, seed, repository, clock)
                except Exception as error:  # noqa: BLE001 (any error of a client is a finding)
                    state = await _state_of(repository)
                    keys = [one.metadata["signed"]["keys"] for one in state.roots[-2:]]
                    self.faults.append(f"update {mode} {seed}: {type(error).__name__}: {error}; the keys of the newest roots: {keys}")
                    return  # later updates would only wait for this one

    async def _update(self, mode: str, seed: int, repository: "LiveRepository", clock: Clock) -> None:
        state = await _state_of(repository)
        chance = random.Random(f"update {seed}")
        known = self.held[mode].payload["metadata"]
        role = chance.choice(sorted(known))
        metadata = copy.deepcopy(known[role])
        metadata["signed"]["version"] = (state.roots if role == "root" else state.targets)[-1].signed.version + 1
        keys = [one.metadata["signed"]["keys"] for one in state.roots]
        spoilt = self._spoil(chance, mode, {role: metadata}, keys=keys)[role]
        try:
            asked = decode(MetadataRequest, json.dumps({"metadata": {role: spoilt}}).encode()).metadata
            given = read_metadata(role, asked.root if role == "root" else asked.targets)
            if given is None:
                raise BadRequestError("nothing is given")
            update = NewMetadata(role=role, metadata=given, rules=CURRENT_RULES)
            state = acceptance.update(state, update, state.next_offset, clock())
        except (BadRequestError, InvalidUpdateError):
            self.outcomes["updates refused"] += 1
            return
        if self._is_of_other_keys(mode, {role: spoilt}):
            self.outcomes["needs a missing private key"] += 1
            return
        (position,) = await repository.bus.append([Message(topics.ADMIN, role, records.encode(update))])
        if state.targets and not state.targets[-1].verifies_under(state.roots[-1].signed):
            # The offline signers sign the targets that the new root waits for, under the keyids that it has for their keys.
            targets = copy.deepcopy(dict(state.targets[-1].metadata))
            targets["signed"]["version"] += 1
            keys = [one.metadata["signed"]["keys"] for one in state.roots]
            resign(targets, [key.signer for key in self.held[mode].targets], *keys)
            update = NewMetadata(role="targets", metadata=targets, rules=CURRENT_RULES)
            acceptance.update(state, update, state.next_offset + 1, clock())
            (position,) = await repository.bus.append([Message(topics.ADMIN, "targets", records.encode(update))])
        await repository.wait_until_live(position.offset)
        self._read(f"u-{mode}", json.dumps(known["root"]).encode())
        self.outcomes["updates live"] += 1

    def _read(self, name: str, root: bytes) -> None:
        trusted = self.path / name / "trusted.json"
        trusted.write_bytes(root)
        for client in self.clients:
            directory = self.path / name / f"client-{client.name}"
            job = Job(f"{self.url}/{name}/origin/", f"{self.url}/{name}/files/", trusted, directory, ["a", "b/c", "d"])
            result = client.run(job)
            errors = [result.error, *(file.error for file in result.files)]
            if any(errors):
                raise AssertionError(f"{client.name} refuses what was accepted: {next(filter(None, errors))}")


async def _state_of(repository: "LiveRepository") -> AdminState:
    state = AdminState()
    for record in await read_all(repository.bus, topics.ADMIN):
        state = admin_records.fold(state, record)
    return state
