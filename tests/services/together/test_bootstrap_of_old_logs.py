"""A bootstrap on a log that was written before the record of the start existed: bins, or a root, may already exist."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

import tufline_signer.service
from tufline import records
from tufline.bus import Message, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import utc_now
from tufline.config.settings import SignerConfig
from tufline.metadata.profiles import STANDARD
from tufline.records import FIRST_RULES, Add, Bootstrap, BootstrapStarted, Head, Settings, topics
from tufline.runtime.health import Health
from tufline.trust.ceremony import ONLINE_KEY_FILE
from tufline_testing.log import DEFAULT_DAYS, Published, announce, announce_bootstrap, eventually, read_all, running, settled
from tufline_testing.origin import Reader
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, rest

URL = "/api/v1/bootstrap/"
BINS = 8

Kept = Callable[[str], bool]


def is_bin(role: str) -> bool:
    return role not in {"1.root", Targets.type, Snapshot.type, Timestamp.type}


def comes_first(role: str) -> bool:
    """Return whether a file is on the log before the first commit."""
    return role not in {Snapshot.type, Timestamp.type}


async def old_log(path: Path, kept: Kept, *, is_damaged: bool = False) -> tuple[EmbeddedBus, Bootstrap]:
    """Make the log of a bootstrap under the first rules, with the files of some roles from before its publication.

    If it is damaged, the head of root can't be read.
    """
    metadata = make_bootstrap(path / "keys", bins=BINS, days=DEFAULT_DAYS).payload["metadata"]
    first = Bootstrap(settings=Settings(BINS, "bins", PARTITIONS, DEFAULT_DAYS, STANDARD), root=metadata["root"], rules=FIRST_RULES)
    whole = await open_embedded(path / "whole.db", topics.topics(PARTITIONS))
    await announce_bootstrap(whole, first)
    async with running(tufline_signer.service.run(whole, SignerConfig(key_dir=path / "keys"), health=Health())):
        await announce(whole, first.settings, [Add("a", 1, {"sha256": "0" * 64})])
        await settled(whole)
    log = await open_embedded(path / "log.db", topics.topics(PARTITIONS))
    await _copy(whole, log, kept, is_damaged=is_damaged)
    await whole.close()
    return log, first


async def _copy(whole: EmbeddedBus, log: EmbeddedBus, kept: Kept, *, is_damaged: bool) -> None:
    offsets: dict[int, int] = {}

    async def put(topic: str, record: Record, value: bytes) -> None:
        (position,) = await log.append([Message(topic, record.key, value, record.partition, record.headers)])
        if topic == topics.METADATA:
            offsets[record.offset] = position.offset

    for topic in (topics.ADMIN, topics.ARTIFACTS, topics.METADATA, topics.RECEIPTS, topics.HEADS):
        for partition in range(whole.partitions(topic)):
            for record in await read_all(whole, topic, partition):
                value = record.value
                match topic:
                    case topics.ADMIN if isinstance(records.decode(records.admin_decoder, value), BootstrapStarted):
                        continue
                    case topics.METADATA if not kept(record.key):
                        continue
                    case topics.HEADS:
                        head = records.decode(records.heads_decoder, value)
                        if partition == topics.commit_partition(whole.partitions(topic)) and record.key not in {Root.type, Targets.type}:
                            continue
                        if isinstance(head, Head):
                            if head.offset not in offsets:
                                continue
                            moved = msgspec.structs.replace(head, offset=offsets[head.offset])
                            value = b"{" if is_damaged and record.key == Root.type else records.encode(moved)
                await put(topic, record, value)


def keys_of(root: Root) -> set[str]:
    return set(root.keys)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
async def test_an_old_bootstrap_that_is_stuck_behind_its_bins_is_replaced(tmp_path: Path, mode: str) -> None:
    """If a bootstrap that could not be published is replaced, its bins are signed again, and go live with their changes."""
    log, first = await old_log(tmp_path, is_bin)
    (tmp_path / "keys" / ONLINE_KEY_FILE).unlink()
    good = make_bootstrap(tmp_path / "keys", bins=BINS, mode=mode, days=DEFAULT_DAYS).payload
    (tmp_path / "keys" / ONLINE_KEY_FILE).rename(tmp_path / "kept.pem")
    other = make_bootstrap(tmp_path / "other", bins=2 * BINS, mode=mode, days=DEFAULT_DAYS).payload
    await announce(log, first.settings, [Add("b", 2, {"sha256": "0" * 64})])
    async with rest(tmp_path, whole=True, bus=log) as server:
        await eventually(lambda: asyncio.sleep(0, any(ONLINE_KEY_FILE in reason for reason in server.health.problems.values())))
        assert (await server.ask("GET", URL))[1]["data"]["state"] == "pre"
        status, answer = await server.ask("POST", URL, {**other, "replace": True})
        assert (status, "has 8 bins, which may be on the log already: use the same number" in answer["detail"]) == (422, True), answer
        (tmp_path / "kept.pem").rename(tmp_path / "keys" / ONLINE_KEY_FILE)
        status, answer = await server.ask("POST", URL, {**good, "replace": True})
        assert status == 202, answer
        assert (await server.task(answer["data"]["task_id"]))["result"]["status"]
        reader = Reader(tmp_path / "origin", utc_now)
        await eventually(lambda: asyncio.sleep(0, reader.refresh() == {"a": 1, "b": 2}))
        root = Metadata[Root].from_bytes((tmp_path / "origin" / "1.root.json").read_bytes()).signed
        assert keys_of(root) == set(good["metadata"]["root"]["signed"]["keys"])
        await eventually(lambda: asyncio.sleep(0, server.health.ready))
    assert set((await Published.read(log)).verify(utc_now())) == {"a", "b"}
    await log.close()


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_an_old_bootstrap_whose_root_is_there_is_not_replaced(tmp_path: Path, is_damaged: bool) -> None:
    """With a root on the log and no record of the start, a replacement is refused with the reason; the old bootstrap goes live."""
    log, first = await old_log(tmp_path, comes_first, is_damaged=is_damaged)
    good = make_bootstrap(tmp_path / "other", bins=BINS, days=DEFAULT_DAYS).payload
    async with rest(tmp_path, bus=log) as server:
        before = await server.on_log()
        assert (await server.ask("GET", URL))[1]["data"]["state"] == "pre"
        status, answer = await server.ask("POST", URL, {**good, "replace": True})
        assert (status, "first root is on the log" in answer["detail"]["error"]) == (404, True), answer
        assert await server.on_log() == before
    async with rest(tmp_path, whole=True, bus=log) as server:
        await eventually(lambda: asyncio.sleep(0, server.health.ready))
        assert Reader(tmp_path / "origin", utc_now).refresh() == {"a": 1}
        status, answer = await server.ask("POST", URL, {**good, "replace": True})
        assert (status, answer["detail"]["error"].startswith("System already has a Metadata. State: finished")) == (404, True), answer
    published = await Published.read(log)
    assert keys_of(Metadata[Root].from_bytes(published.files["1.root.json"]).signed) == set(first.root["signed"]["keys"])
    await log.close()
