"""Custom roles are added, deleted and added again, also while a signer works or starts. Every commit is read by python-tuf."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from tufline.bus import Message, Reader, Record
from tufline.metadata.delegations import Delegation
from tufline.records import topics
from tufline_signer.commits.online_targets import PATIENCE_SECONDS
from tufline_testing.custom_roles import DEV, content_of, delegating, lengths
from tufline_testing.log import append_marks, delegate
from tufline_testing.seen_bus import SeenBus
from tufline_testing.signing import BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log


def test_a_deleted_role_keeps_its_name_and_loses_its_artifacts(tmp_path: Path) -> None:
    """Clients fall back to the bins; a role that is added again under the same name begins empty, in the next version."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"), add("other/a"))
            await log.settled()
            found = await log.covered(await log.delegate("delete", deleted=["dev"]))
            assert "succinct_roles" in delegating(found)
            assert lengths(found, log) == {"other/a": 1}
            newest = max((name for name in found.files if name.endswith(".snapshot.json")), key=lambda name: int(name.split(".")[0]))
            assert {"dev.json", "bins.json"} <= json.loads(found.files[newest])["signed"]["meta"].keys()
            await log.announce(add("dev/b", 3))
            assert lengths(await log.settled(), log) == {"other/a": 1, "dev/b": 3}
            found = await log.covered(await log.delegate("add", DEV))
            assert lengths(found, log) == {"other/a": 1, "dev/b": 3}
            await log.announce(add("dev/c", 4))
            found = await log.settled()
            assert content_of(found, "dev") == {"dev/c": 4}
            await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_role_that_two_processes_delete_and_add_again_begins_empty(tmp_path: Path) -> None:
    """One read the ends before the other's deletion was on the log, when the role already had all changes below them."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"))
            of_deletion = await append_marks(log.bus, log.bootstrap.settings)
            of_addition = await append_marks(log.bus, log.bootstrap.settings)
            await log.settled()
            await delegate(log.bus, log.bootstrap.settings, "delete", deleted=["dev"], ends=of_deletion)
            found = await log.covered(await delegate(log.bus, log.bootstrap.settings, "add", DEV, ends=of_addition))
            assert lengths(found, log) == {}
            await log.announce(add("dev/b", 2))
            assert lengths(await log.settled(), log) == {"dev/b": 2}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


class SlowReader:
    """Reads a partition of ``heads`` record by record, and waits before each that is of a custom role."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def fetch(self, *, max_wait: float, max_bytes: int = 1) -> Sequence[Record]:
        assert max_bytes >= 1
        batch = await self._reader.fetch(max_wait=max_wait, max_bytes=1)
        await asyncio.sleep(2 * PATIENCE_SECONDS if any(record.key == DEV.name for record in batch) else 0.0)
        return batch


class SlowHeads(SeenBus):
    """A log whose heads are read slowly."""

    def reader(self, topic: str, partition: int, offset: int) -> Any:
        reader = self.bus.reader(topic, partition, offset)
        return SlowReader(reader) if topic == topics.HEADS else reader


def test_a_signer_that_starts_again_leaves_no_role_out(tmp_path: Path) -> None:
    """It makes no targets before it has read all heads: until then, a role whose head comes last would seem not to exist."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"))
            before = await log.settled()
        await log.announce(add("dev/b"))
        await log.delegate("add", Delegation(name="docs", paths=("docs/*",)))
        async with log.signer(SlowHeads(log.bus), renewal_check=1.0):
            found = await log.settled()
            made = [name for name in found.files if name.endswith(".targets.json") and name not in before.files]
            named = [json.loads(found.files[name])["signed"]["delegations"]["roles"] for name in made]
            assert [[role["name"] for role in one] for one in named] == [["dev", "docs", "bins"]]
            assert lengths(found, log) == {"dev/a": 1, "dev/b": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_a_deleted_role_holds_nothing_back_in_a_quiet_repository(tmp_path: Path) -> None:
    """The commit that deletes it comes after everything else on the log, so no other commit follows soon."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(commit_delay=10.0, renewal_check=3600.0) as health:
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"))
            await log.settled()
            offset = await log.delegate("delete", deleted=["dev"])
            await asyncio.sleep(60.0)
            assert health.problems == {}
            vector = (await log.settled()).vector
            assert vector is not None
            assert vector.admin > offset
            ends = [await log.bus.end(topics.ARTIFACTS, number) for number in range(log.bus.partitions(topics.ARTIFACTS))]
            assert vector.artifacts == ends

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_role_that_is_deleted_while_it_is_signed_does_not_stop_its_partition(tmp_path: Path) -> None:
    """Its first version is signed, but not yet on the log: the worker of its partition goes on, and the role can be added again."""

    async def story(log: BootstrappedLog) -> None:
        async def slow(messages: Sequence[Message]) -> None:
            # Uses of keys are recorded after each signature, before what is signed goes to the log.
            await asyncio.sleep(2.0 if messages[0].topic == topics.AUDIT else 0.0)

        with structlog.testing.capture_logs() as said:
            async with log.signer(SeenBus(log.bus, on_append=slow)):
                await log.announce(add("dev/a"))
                await log.settled()
                for _ in range(3):
                    await log.delegate("add", DEV)
                    await asyncio.sleep(1.0)
                    found = await log.covered(await log.delegate("delete", deleted=["dev"]))
                    assert lengths(found, log) == {"dev/a": 1}
                await log.covered(await log.delegate("add", DEV))
                await log.announce(add("dev/a", 2))
                found = await log.settled()
                assert (lengths(found, log), content_of(found, "dev")) == ({"dev/a": 2}, {"dev/a": 2})
        assert [entry for entry in said if entry["event"] == "partition.failed"] == []

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")
