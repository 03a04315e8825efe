"""An accepted bootstrap can be replaced until its first root is published; the order in ``admin`` decides for all services."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root

import tufline_signer.service
from tufline import records
from tufline.bus import Bus, Message, Position
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock, utc_now
from tufline.config.settings import SignerConfig, VaultConfig
from tufline.errors import KeyUnavailableError
from tufline.keys.opening import KeyOpener
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.profiles import STANDARD
from tufline.records import CURRENT_RULES, FIRST_RULES, Add, Bootstrap, BootstrapStarted, Settings, topics
from tufline.records.partitioning import partition_bits
from tufline.runtime.health import Health
from tufline.trust import admin_records, ceremony
from tufline.trust.admin_state import AdminState
from tufline.trust.roles import RoleKeys
from tufline_ingest.rest.bootstrap import make_bootstrap as make_record
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.schemas.trust import BootstrapRequest
from tufline_signer.signing.audit_trail import Trail
from tufline_signer.signing.keyring import Keyring, ToSign
from tufline_testing.log import DEFAULT_DAYS, Published, announce, announce_bootstrap, eventually, read_all, settled
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, rest
from tufline_testing.simulation.virtual_time import run_virtual

URL = "/api/v1/bootstrap/"


def bootstrap(
    key_dir: Path, *, bins: int = 4, replaces: bool = False, rules: int = CURRENT_RULES, mode: str = "pep458", by_hash: bool = True
) -> Bootstrap:
    """Make keys, and the record of their bootstrap; the name of the online key's file is the directory's."""
    key = ceremony.make_key("ecdsa", f"fn:{key_dir.name}.pem")
    ceremony.write_private(key_dir.parent / f"{key_dir.name}.pem", key.pem)
    online = dict.fromkeys(ceremony.ONLINE_ROLES[mode], key.signer.public_key)
    metadata: dict[str, Any] = make_bootstrap(key_dir, bins=bins, mode=mode, days=DEFAULT_DAYS, online=online).payload["metadata"]
    bits = None if rules == FIRST_RULES else partition_bits(PARTITIONS, bins)
    settings = Settings(bins, "bins", PARTITIONS, DEFAULT_DAYS, STANDARD, bits if by_hash else None)
    return Bootstrap(
        v=settings.schema, settings=settings, root=metadata["root"], targets=metadata.get("targets"), replace=replaces, rules=rules
    )


async def fold(bus: Bus) -> AdminState:
    """Fold ``admin`` as every service does."""
    state = AdminState()
    for record in await read_all(bus, topics.ADMIN):
        state = admin_records.fold(state, record)
    return state


def root_of(content: bytes) -> set[str]:
    """Name a root by its keys."""
    return set(Metadata[Root].from_bytes(content).signed.keys)


def keys_of(made: Bootstrap) -> set[str]:
    return set(made.root["signed"]["keys"])


@dataclass
class RacingBus:
    """The bus of a signer where another record reaches ``admin`` just before or just after the signer's record of the start."""

    bus: EmbeddedBus
    rival: Bootstrap
    before: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        is_begun = any(message.topic == topics.ADMIN and message.key == "begun" for message in messages)
        if is_begun and self.before and not any(record.offset for record in await read_all(self.bus, topics.ADMIN)):
            await announce_bootstrap(self.bus, self.rival)
        positions = await self.bus.append(messages)
        if is_begun and not self.before:
            await announce_bootstrap(self.bus, self.rival)
        return positions


def on_a_new_log(path: Path, story: Callable[[EmbeddedBus, Clock], Any]) -> None:
    """Tell a story in virtual time, on a log without a bootstrap."""

    async def main(clock: Clock) -> None:
        bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS), clock=clock, threads=False)
        try:
            await story(bus, clock)
        finally:
            await bus.close()

    run_virtual(main)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
@pytest.mark.parametrize("before", [True, False])
def test_the_order_in_admin_decides_a_race(tmp_path: Path, before: bool, mode: str) -> None:
    """If a replacement competes with the signer's start, the first one on the log wins, and only its metadata is ever published."""

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        first, second = bootstrap(tmp_path / "a", mode=mode), bootstrap(tmp_path / "b", bins=8, replaces=True, mode=mode)
        await announce_bootstrap(bus, first)
        wins = second if before else first
        config = SignerConfig(key_dir=tmp_path, renewal_check=10.0, commit_interval=0.0)
        racing = RacingBus(bus, second, before)
        signer = asyncio.ensure_future(tufline_signer.service.run(racing, config, clock=clock, health=Health()))
        try:
            await announce(bus, wins.settings, [Add("x", 1, {"sha256": "0" * 64})])
            published = await settled(bus)
        finally:
            signer.cancel()
            await asyncio.gather(signer, return_exceptions=True)
        assert list(published.verify(clock())) == ["x"]
        assert root_of(published.files["1.root.json"]) == keys_of(wins)
        roles = {name.split(".")[1] for name in published.files} - {"root", "targets", "snapshot", "timestamp"}
        layout = wins.settings.layout
        assert roles == {layout.name(index) for index in range(wins.settings.number_of_bins)}
        state = await fold(bus)
        assert state.begun
        assert state.bootstrap == wins
        assert state.refused == ({0: "another bootstrap has replaced it", 2: state.refused[2]} if before else {2: state.refused[2]})

    on_a_new_log(tmp_path, story)


async def test_a_bootstrap_is_replaced_before_it_begins(tmp_path: Path) -> None:
    """A bootstrap whose key can't be used publishes nothing and can be replaced, by one with other bins; a live one can't."""
    lost = ceremony.make_key("ecdsa", "fn:lost.pem").signer.public_key
    online = dict.fromkeys(ceremony.ONLINE_ROLES["rstuf"], lost)
    stuck = make_bootstrap(tmp_path / "keys", bins=8, mode="rstuf", online=online).payload
    good = make_bootstrap(tmp_path / "keys", bins=16, mode="pep458").payload
    async with rest(tmp_path, whole=True) as server:
        status, answer = await server.ask("POST", URL, {**stuck, "replace": True})
        assert status == 202, answer
        first = answer["data"]["task_id"]

        async def says() -> bool:
            return any("lost.pem" in reason for reason in server.health.problems.values())

        await eventually(says)
        assert (await server.ask("POST", URL, good))[0] == 404
        assert (await server.on_log())[topics.METADATA] == [0]
        status, answer = await server.ask("POST", URL, {**good, "replace": True})
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["result"]["status"]
        replaced = (await server.task(first))["result"]
        assert (replaced["status"], replaced["error"]) == (False, "another bootstrap has replaced it")
        published = await Published.read(server.bus)
        assert root_of(published.files["1.root.json"]) == set(good["metadata"]["root"]["signed"]["keys"])
        before = await server.on_log()
        for again in (stuck, good):
            assert (await server.ask("POST", URL, {**again, "replace": True}))[0] == 404
        assert (await server.on_log())[topics.ADMIN] == before[topics.ADMIN]


async def folded(tmp_path: Path, *said: Bootstrap | BootstrapStarted) -> AdminState:
    """Fold some records of ``admin``."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    try:
        await bus.append([Message(topics.ADMIN, "x", records.encode(one)) for one in said])
        return await fold(bus)
    finally:
        await bus.close()


async def test_a_bootstrap_that_was_replaced_can_not_begin(tmp_path: Path) -> None:
    """A signer that was paused for long can't start with a bootstrap that has been replaced meanwhile."""
    first, second = bootstrap(tmp_path / "a"), bootstrap(tmp_path / "b", replaces=True)
    state = await folded(tmp_path, first, second, BootstrapStarted(bootstrap=0))
    assert (state.bootstrap, state.begun, state.bootstrap_offset) == (second, False, 1)
    assert "was replaced before its root was published" in state.refused[2]


async def test_a_bootstrap_of_older_rules_keeps_its_bins(tmp_path: Path) -> None:
    """Before replacements existed, bins were made before the first root; a bootstrap with another number of bins would mix them up."""
    first = bootstrap(tmp_path / "a", rules=FIRST_RULES)
    other, same = (bootstrap(tmp_path / name, bins=bins, replaces=True, by_hash=False) for name, bins in (("b", 8), ("c", 4)))
    state = await folded(tmp_path, first, other, same)
    assert state.bootstrap == same
    assert "use the same number" in state.refused[1]


async def test_a_bootstrap_of_older_rules_keeps_its_partitions(tmp_path: Path) -> None:
    """Changes on the log stay in their partitions: a bootstrap that replaces one of older rules over REST uses the same rule."""
    first = bootstrap(tmp_path / "a", rules=FIRST_RULES)
    state = await folded(tmp_path, first, bootstrap(tmp_path / "b", replaces=True))
    assert state.bootstrap == first
    assert "by another rule" in state.refused[1]
    request = decode(BootstrapRequest, json.dumps({**make_bootstrap(tmp_path / "c", bins=4).payload, "replace": True}).encode())
    for before, bits in ((first, None), (bootstrap(tmp_path / "d", by_hash=False), 2), (None, 2)):
        made = make_record(request, PARTITIONS, before)
        assert (made.settings.partition_bits, made.v) == (bits, 1 if bits is None else 2)


@asynccontextmanager
async def one_key_at(tmp_path: Path, *names: str) -> AsyncIterator[tuple[Keyring, list[RoleKeys]]]:
    """Return a keyring, and one key under several URIs; only right.pem has its private part."""
    made = ceremony.make_key("ecdsa")
    ceremony.write_private(tmp_path / "right.pem", made.pem)
    public = made.signer.public_key

    def at(uri: str) -> RoleKeys:
        fields = {**public.unrecognized_fields, ONLINE_KEY_URI: uri}
        return RoleKeys({public.keyid: SSlibKey(public.keyid, public.keytype, public.scheme, public.keyval, fields)}, 1)

    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    opener = KeyOpener(SignerConfig(key_dir=tmp_path), VaultConfig())
    try:
        yield Keyring(opener, Trail(bus, utc_now), Health()), [at(f"fn:{name}.pem") for name in names]
    finally:
        await opener.close()
        await bus.close()


async def test_a_key_that_worked_is_tried_again_at_another_place(tmp_path: Path) -> None:
    """A key that works under one URI may fail under another URI of the same keyid: a bootstrap with the second URI does not start."""
    async with one_key_at(tmp_path, "right", "wrong") as (keyring, (right, wrong)):
        await keyring.prove([[right]], "test")
        for roles in ([[wrong]], [[right], [wrong]]):
            with pytest.raises(KeyUnavailableError, match=r"wrong\.pem"):
                await keyring.prove(roles, "test")


async def test_a_key_that_failed_is_tried_at_another_place(tmp_path: Path) -> None:
    """A key that fails under one URI may work under another URI of the same keyid: after a change to that URI it signs immediately."""
    async with one_key_at(tmp_path, "wrong", "right") as (keyring, (wrong, right)):
        with pytest.raises(KeyUnavailableError):
            await keyring.prove([[wrong]], "test")
        assert not await keyring.can_meet(wrong, "test")
        assert await keyring.can_meet(right, "test")
        for under in ([right, wrong], [wrong, right]):
            (file,) = await keyring.sign(under, [ToSign("bins-0", 1, "2040-01-01T00:00:00Z", b"{}")], "test")
            assert file.keyids == [*right.keys]
        assert await keyring.can_meet(right, "test")
        assert not await keyring.can_meet(wrong, "test")
