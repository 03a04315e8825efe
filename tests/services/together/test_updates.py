"""New versions of root and targets: one that clients would refuse, or that no service could use, has no effect."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

import tufline_signer.service
from tufline import records
from tufline.bus import Bus, Message
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.records import FIRST_RULES, Add, NewMetadata, topics
from tufline.runtime.health import Health
from tufline.trust import admin_records
from tufline.trust.admin_state import AdminState
from tufline.trust.ceremony import make_key
from tufline_testing.log import DEFAULT_DAYS, announce, eventually, on_a_log, read_all, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.rest import rest

PARTITIONS = 2
BINS = 4

Story = Callable[[Bus, Clock, Offline, Health], Awaitable[None]]


def with_signer(path: Path, mode: str, story: Story) -> None:
    """Tell a story in virtual time, on a log with a bootstrap, while a signer runs."""
    offline = Offline(path / "keys", bins=BINS, mode=mode, days=DEFAULT_DAYS)

    async def run(bus: Bus, clock: Clock) -> None:
        health = Health()
        config = SignerConfig(key_dir=path / "keys", renewal_check=10.0, release_delay=1.0, release_grace=60.0, commit_interval=0.0)
        signer = asyncio.ensure_future(tufline_signer.service.run(bus, config, clock=clock, health=health))
        try:
            await story(bus, clock, offline, health)
        finally:
            signer.cancel()
            await asyncio.gather(signer, return_exceptions=True)

    on_a_log(path / "log.db", offline.bootstrap(PARTITIONS), run)


async def shown_roots(bus: Bus) -> list[int]:
    """Return the versions of root that the log has released."""
    return [int(record.key.partition(".")[0]) for record in await read_all(bus, topics.METADATA) if record.key.endswith(".root")]


async def folded(bus: Bus) -> AdminState:
    """Fold ``admin`` as every service does."""
    state = AdminState()
    for record in await read_all(bus, topics.ADMIN):
        state = admin_records.fold(state, record)
    return state


def next_by_others(offline: Offline) -> dict[str, Any]:
    """Make the next root with foreign root keys, signed only by these."""
    root = copy.deepcopy(offline.root)
    root.version += 1
    others = [make_key("ecdsa").signer for _ in range(2)]
    for keyid in list(root.roles["root"].keyids):
        root.revoke_key(keyid, "root")
    for signer in others:
        root.add_key(signer.public_key, "root")
    metadata = Metadata(root)
    for signer in others:
        metadata.sign(signer, append=True)
    return metadata.to_dict()


def next_root(offline: Offline) -> dict[str, Any]:
    """Make the next root without other changes, signed by its key holders."""
    root = copy.deepcopy(offline.root)
    root.version += 1
    return offline.sign(root)


def test_a_root_that_the_old_keys_did_not_sign_is_never_shown(tmp_path: Path) -> None:
    """A new root is valid only if the previous root's keys signed it, whatever the rules; the next valid one is accepted."""

    async def story(bus: Bus, _: Clock, offline: Offline, __: Health) -> None:
        settings = offline.bootstrap(PARTITIONS).settings
        for rules in (FIRST_RULES, records.CURRENT_RULES):
            await announce_updates(bus, [NewMetadata(role="root", metadata=next_by_others(offline), rules=rules)])
        await announce(bus, settings, [Add("a", 1, {"sha256": "0" * 64})])
        await settled(bus)
        await asyncio.sleep(60)
        assert await shown_roots(bus) == [1]
        state = await folded(bus)
        assert [given.signed.version for given in state.roots] == [1]
        assert all("has 0 valid signatures, but its threshold is 2" in reason for reason in state.refused.values())
        assert len(state.refused) == 2
        await announce_updates(bus, [NewMetadata(role="root", metadata=next_root(offline), rules=records.CURRENT_RULES)])
        await eventually(lambda: shown(bus, [1, 2]), step=1)

    with_signer(tmp_path, "pep458", story)


async def shown(bus: Bus, versions: list[int]) -> bool:
    return await shown_roots(bus) == versions


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_update_that_no_service_can_read_is_passed_over(tmp_path: Path, role: str) -> None:
    """A version valid only under older rules stops no service; health reports it until a clean version arrives and is released."""

    async def story(bus: Bus, _: Clock, offline: Offline, health: Health) -> None:
        settings = offline.bootstrap(PARTITIONS).settings
        assert offline.targets is not None
        offline.targets.version, clean = 2, next_root(offline)
        metadata = clean if role == "root" else offline.sign(offline.targets)
        spoilt = copy.deepcopy(metadata)
        spoilt["signatures"].append({"keyid": "nope", "sig": None})
        # Built by hand: the record on the log is as the previous version wrote it, without its rules.
        value = records.encode(NewMetadata(role=role, metadata=spoilt)).replace(b',"rules":1', b"")  # type: ignore[arg-type]
        await bus.append([Message(topics.ADMIN, role, value)])

        async def says() -> bool:
            return f"{role} can't be published" in health.problems.get("signer.commits", "")

        await announce(bus, settings, [Add("a", 1, {"sha256": "0" * 64})])
        await settled(bus)
        await eventually(says, step=1)
        await asyncio.sleep(120)
        assert await says(), "the problem lasts"
        offset = await announce_updates(bus, [NewMetadata(role=role, metadata=metadata, rules=records.CURRENT_RULES)])  # type: ignore[arg-type]

        async def is_shown() -> bool:
            vector = (await settled(bus)).vector
            return vector is not None and vector.admin > offset

        await eventually(is_shown, seconds=600, step=1)
        await eventually(lambda: asyncio.sleep(0, health.ready), seconds=600, step=1)
        named = f"2.{role}.json"
        assert named in (await settled(bus)).files

    with_signer(tmp_path, "pep458", story)


SPOILT_ENTRIES = [{"keyid": "nope", "sig": None}, {"keyid": "a" * 64, "sig": "zz"}, {"keyid": "toString", "sig": ""}]


@pytest.mark.parametrize("entry", SPOILT_ENTRIES)
async def test_an_entry_that_nobody_signed_is_refused_at_the_edge(tmp_path: Path, entry: dict[str, Any]) -> None:
    """A signed update to which somebody added an entry on the way is refused; the same update without it goes live."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode="pep458", days=DEFAULT_DAYS)
    async with rest(tmp_path, whole=True, signer={"release_delay": 0.0, "renewal_check": 0.2}) as server:
        status, answer = await server.ask("POST", "/api/v1/bootstrap/", spoilt_bootstrap(offline.payload, entry))
        assert status == 422, answer
        _, answer = await server.ask("POST", "/api/v1/bootstrap/", offline.payload)
        await server.task(answer["data"]["task_id"])
        assert offline.targets is not None
        offline.targets.version = 2
        clean = {"root": next_root(offline), "targets": offline.sign(offline.targets)}
        before = await server.on_log()
        for role, metadata in clean.items():
            spoilt = {**metadata, "signatures": [*metadata["signatures"], entry]}
            status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": {role: spoilt}})
            assert status == 422, answer
        assert (await server.on_log())[topics.ADMIN] == before[topics.ADMIN]
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": clean})
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["result"]["status"]


def spoilt_bootstrap(payload: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(payload)
    found["metadata"]["root"]["signatures"].append(entry)
    return found
