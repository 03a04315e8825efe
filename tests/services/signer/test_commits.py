"""Commits, which sign snapshot and timestamp: when there is one, and when there is none."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tufline.records import topics
from tufline.records.metadata import VERSION_HEADER
from tufline_signer.bins import bins_writer
from tufline_testing.log import Published, read_all
from tufline_testing.signing import BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log


def test_no_commit_before_all_bins_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While bins of a partition are missing nothing is committed, and health reports it: a client would look for a bin in vain."""
    create_bins = bins_writer.BinsWriter.create_bins

    async def late(writer: bins_writer.BinsWriter) -> None:
        if writer.partition == 1:
            await asyncio.sleep(600)
        await create_bins(writer)

    monkeypatch.setattr(bins_writer.BinsWriter, "create_bins", late)

    async def story(log: BootstrappedLog) -> None:
        async with log.signer() as health:
            await asyncio.sleep(300)
            assert {record.key for record in await read_all(log.bus, topics.METADATA)}.isdisjoint({"snapshot", "timestamp"})
            assert "bins do not exist yet" in health.problems["signer.commits"]
            await asyncio.sleep(600)
            (await log.settled()).verify(log.clock())
            assert health.ready

    on_a_bootstrapped_log(tmp_path, story)


def test_a_restart_alone_makes_no_snapshot(tmp_path: Path) -> None:
    """A signer that starts knows the last snapshot: it makes no other one until something changes, and then one with a higher version."""

    async def snapshots(log: BootstrappedLog) -> list[str]:
        return [record.headers[VERSION_HEADER] for record in await read_all(log.bus, topics.METADATA) if record.key == "snapshot"]

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a"), add("b"))
            await log.settled()
        before = await snapshots(log)
        async with log.signer():
            await asyncio.sleep(300)
            assert await snapshots(log) == before
            await log.announce(add("c"))
            await log.settled()
            assert len(await snapshots(log)) == len(before) + 1
        await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story)


def test_commits_keep_their_interval(tmp_path: Path) -> None:
    """Under steady traffic there is at most one snapshot per commit interval; after a quiet time one is made immediately."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(commit_interval=5.0):
            await log.settled()
            await asyncio.sleep(10)
            before = len([name for name in (await Published.read(log.bus)).files if "snapshot" in name])
            for number in range(100):
                await log.announce(add(f"p/{number}"))
                await asyncio.sleep(0.5)
            await log.settled()
            after = len([name for name in (await Published.read(log.bus)).files if "snapshot" in name])
            assert 8 <= after - before <= 13
            await asyncio.sleep(10)
            began = log.clock()
            await log.announce(add("q"))
            await log.settled()
            assert log.clock() - began < timedelta(seconds=1)

    on_a_bootstrapped_log(tmp_path, story)
