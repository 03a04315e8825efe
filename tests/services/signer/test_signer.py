"""The signer on a real log: clients accept what it makes, whatever happens to it."""

import asyncio
import itertools
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tufline import records
from tufline.records import Add, Head, Remove, topics
from tufline_signer.bins import bins_log, bins_worker
from tufline_testing.log import Published, eventually, read_all
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log

CHECK_SECONDS = 4 * 3600.0


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_bootstrap_gives_an_empty_repository(tmp_path: Path, mode: str) -> None:
    """After the bootstrap a client accepts the repository even without any change, in both modes of trust."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer() as health:
            published = await log.settled()
            assert published.verify(log.clock()) == {}
            await eventually(lambda: asyncio.sleep(0, health.ready))

    on_a_bootstrapped_log(tmp_path, story, mode=mode)


@pytest.mark.parametrize("seed", range(6))
def test_any_history_gives_its_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever is added, replaced and removed, in batches of any size, with any memory for bins, clients see the last state."""
    chance = random.Random(seed)
    monkeypatch.setattr(bins_worker, "BACKLOG_BYTES", chance.choice([1, 2_000_000]))
    monkeypatch.setattr(bins_log, "PIECE_BINS", chance.choice([2, 400]))

    async def story(log: BootstrappedLog) -> None:
        expected: dict[str, Add] = {}
        settings: dict[str, Any] = {"bin_memory_bytes": chance.choice([1, 3000, 10**9]), "batch_max_bytes": chance.choice([1, 500, 10**7])}
        async with log.signer(**settings):
            for number in range(30):
                changes: list[Add | Remove] = []
                for _ in range(chance.choice([1, 1, 5, 40])):
                    path = f"p/{chance.randrange(60)}"
                    if chance.random() < 0.3:
                        changes.append(Remove(path))
                        expected.pop(path, None)
                    else:
                        changes.append(expected.setdefault(path, add(path, number)) if chance.random() < 0.2 else add(path, number))
                        expected[path] = changes[-1]  # type: ignore[assignment]
                await log.announce(*changes)
                await asyncio.sleep(chance.choice([0, 0, 0.01, 1]))
            published = await log.settled()
        seen = published.verify(log.clock())
        assert {path: entry["length"] for path, entry in seen.items()} == {path: change.length for path, change in expected.items()}
        await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story)


@pytest.mark.parametrize("seed", range(12))
def test_restarts_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    """A signer that is stopped repeatedly, at any moment, and sometimes runs twice, produces the state that was announced last."""
    chance = random.Random(seed)

    async def story(log: BootstrappedLog) -> None:
        expected: dict[str, int] = {}
        numbers = itertools.count(1)

        async def announce_some() -> None:
            for _ in range(chance.randrange(4)):
                changes: list[Add | Remove] = []
                for path in (f"p/{chance.randrange(40)}" for _ in range(chance.randrange(1, 30))):
                    if chance.random() < 0.3:
                        changes.append(Remove(path))
                        expected.pop(path, None)
                    else:
                        expected[path] = next(numbers)
                        changes.append(add(path, expected[path]))
                await log.announce(*changes)

        for _ in range(25):
            await announce_some()
            async with log.signer():
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    async with log.signer():
                        await announce_some()
                        await asyncio.sleep(chance.choice([0, 0.001, 1]))
        async with log.signer():
            published = await log.settled()
        assert {path: entry["length"] for path, entry in published.verify(log.clock()).items()} == expected
        await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, bins=8)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_nothing_expires_in_quiet_days(tmp_path: Path, mode: str) -> None:
    """Without traffic for ten days a client always accepts everything published, and bins are not renewed all at once."""
    renewals: Counter[int] = Counter()

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(renewal_check=1800.0):
            await log.settled()
            began, signed = log.clock(), 0
            while log.clock() < began + timedelta(days=10):
                await asyncio.sleep(CHECK_SECONDS)
                published = await Published.read(log.bus)
                published.verify(log.clock())
                newest = Counter[str]()
                for version, role, _suffix in (name.split(".") for name in published.files):
                    newest[role] = max(newest[role], int(version) if role.startswith("bins") else 0)
                renewals[newest.total() - signed] += 1
                signed = newest.total()
        await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode=mode, bins=32, days={"targets": 7} if mode == "rstuf" else None)
    assert sum(count * times for count, times in renewals.items()) > 32 * 4
    assert max(renewals) <= 32, renewals
    assert sum(times for count, times in renewals.items() if count > 16) <= 1, f"bins are renewed all at once: {renewals}"


def test_an_expired_offline_role_is_reported(tmp_path: Path) -> None:
    """When an offline role, which only its key holders can renew, has expired, the signer reports it."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(renewal_check=3600.0) as health:
            await log.settled()
            await asyncio.sleep(timedelta(days=11).total_seconds())
            assert "targets has expired" in health.problems["signer.commits"]

    on_a_bootstrapped_log(tmp_path, story, days={"targets": 10})


def test_head_names_what_is_on_the_log(tmp_path: Path) -> None:
    """Every head's offset, hash, length, expiry and version are those of the file it names."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(*(add(f"p/{number}") for number in range(50)))
            await log.settled()
        seen = set()
        for partition in range(PARTITIONS + 1):
            for record in await read_all(log.bus, topics.HEADS, partition):
                content = records.decode(records.heads_decoder, record.value)
                if isinstance(content, Head) and record.key != "root":
                    file = await log.bus.read(topics.METADATA, 0, content.offset, key=record.key, sha256=content.sha256)
                    assert len(file) == content.length
                    assert f'"version":{content.version}'.encode() in file
                    assert content.expires.encode() in file
                    seen.add(record.key)
        assert seen >= {"targets", "snapshot", "timestamp", "bins-0", "bins-f"}

    on_a_bootstrapped_log(tmp_path, story)
