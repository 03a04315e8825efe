"""Custom roles: written like bins, found as clients look, and gone when they are deleted. Every commit is read by python-tuf."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from tufline import records
from tufline.bus import Message, Reader, Record
from tufline.metadata.delegations import Delegation
from tufline.records import Head, Remove, Vector, topics
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.records.routing import MOVED
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import ceremony
from tufline_signer.commits.online_targets import PATIENCE_SECONDS
from tufline_signer.signing.key_selection import Released, keys_of_bins, keys_of_custom
from tufline_testing.log import Published, append_marks, delegate, eventually, read_all
from tufline_testing.seen_bus import SeenBus
from tufline_testing.signing import BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log

DEV = Delegation(name="dev", paths=("dev/*",))
PATHS = [f"{folder}/{number}" for folder in ("dev", "other") for number in range(8)]


def lengths(found: Published, log: BootstrappedLog) -> dict[str, int]:
    """Return what clients find: path to length."""
    return {path: target["length"] for path, target in found.verify(log.clock()).items()}


def delegating(found: Published) -> dict[str, Any]:
    """Return what the newest targets delegates to."""
    version = max(int(name.split(".")[0]) for name in found.files if name.endswith(".targets.json"))
    delegations: dict[str, Any] = json.loads(found.files[f"{version}.targets.json"])["signed"]["delegations"]
    return delegations


def content_of(found: Published, role: str) -> dict[str, int]:
    """Return what the newest version of a role has: path to length."""
    version = max(int(name.split(".")[0]) for name in found.files if name.endswith(f".{role}.json"))
    targets = json.loads(found.files[f"{version}.{role}.json"])["signed"]["targets"]
    return {path: target["length"] for path, target in targets.items()}


async def outcomes(log: BootstrappedLog) -> list[tuple[str, str, str]]:
    """Return the receipts of changes: path, outcome and reason."""
    partitions = range(log.bus.partitions(topics.ARTIFACTS))
    found = [
        records.decode(receipt_decoder, one.value) for number in partitions for one in await read_all(log.bus, topics.RECEIPTS, number)
    ]
    return [(one.path, one.outcome, one.reason) for one in found if isinstance(one, ChangeReceipt)]


def make_key(log: BootstrappedLog, name: str) -> tuple[str, dict[str, Any]]:
    """Make a key in the signer's key directory, and return its keyid and its object."""
    key = ceremony.make_key("ed25519", f"fn:{name}")
    ceremony.write_private(log.path / "keys" / name, key.pem)
    return key.signer.public_key.keyid, key.signer.public_key.to_dict()


@pytest.mark.parametrize("by_hash", [True, False])
def test_artifacts_go_to_the_role_that_clients_find(tmp_path: Path, by_hash: bool) -> None:
    """Before and after a delegation: each path has its newest artifact, the role's own in the role, and all others in bins."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(*(add(path) for path in PATHS))
            found = await log.covered(await log.delegate("add", DEV))
            assert [role["name"] for role in delegating(found)["roles"]] == ["dev", "bins"]
            assert lengths(found, log) == dict.fromkeys(PATHS, 1)
            assert content_of(found, "dev") == {}
            await log.announce(*(add(path, 2) for path in PATHS[::2]))
            found = await log.settled()
            assert lengths(found, log) == {path: 2 if path in PATHS[::2] else 1 for path in PATHS}
            assert content_of(found, "dev") == {path: 2 for path in PATHS[::2] if path.startswith("dev/")}
            await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", by_hash=by_hash)


def test_a_removal_removes_what_a_delegation_hides(tmp_path: Path) -> None:
    """An older artifact, in the bin from before the delegation, does not come back; only a path that no role has was not found."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("dev/a"), add("dev/b"))
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a", 2))
            await log.announce(Remove("dev/a"), Remove("dev/b"), Remove("dev/c"), request="removal")
            assert lengths(await log.settled(), log) == {}
            missing = [path for path, outcome, _ in await outcomes(log) if outcome == "not_found"]
            assert missing.count("dev/c") == len({*log.routing([DEV]).partitions_of(Remove("dev/c"))})

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_role_that_gets_a_path_back_has_no_older_artifact_of_it(tmp_path: Path) -> None:
    """While it was not trusted for the path, a newer artifact went to the bin. Its other artifacts stay."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", Delegation(name="dev", paths=("dev/*", "docs/*"))))
            await log.announce(add("dev/a"), add("docs/a"))
            await log.settled()
            await log.covered(await log.delegate("update", Delegation(name="dev", paths=("docs/*",))))
            await log.announce(add("dev/a", 2))
            await log.settled()
            found = await log.covered(await log.delegate("update", Delegation(name="dev", paths=("dev/*", "docs/*"))))
            assert lengths(found, log) == {"dev/a": 2, "docs/a": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


@pytest.mark.parametrize("hold", [False, True])
def test_what_waits_for_a_role_that_loses_a_path_does_not_come_over_a_newer_artifact(tmp_path: Path, hold: bool) -> None:
    """It waits because no signer runs, or is held; when the role has the path again, it is refused or dropped."""
    both = Delegation(name="dev", paths=("dev/*", "docs/*"))

    async def story(log: BootstrappedLog) -> None:
        await log.delegate("add", both)
        if hold:
            async with log.signer():
                await log.announce(add("dev/a"), add("docs/a"), hold=True)
                await log.settled()
        else:
            await log.announce(add("dev/a"), add("docs/a"))
        await log.delegate("update", Delegation(name="dev", paths=("docs/*",)))
        await log.announce(add("dev/a", 2))
        offset = await log.delegate("update", both)
        published = await log.publish()
        async with log.signer():
            await log.covered(offset)
            assert lengths(await log.published(published), log) == {"dev/a": 2, "docs/a": 1}
            assert [(path, reason) for path, _, reason in await outcomes(log)] == ([] if hold else [("dev/a", MOVED)])

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_removal_of_a_path_that_a_deleted_role_had_is_not_refused(tmp_path: Path) -> None:
    """The role has nothing any more, so the bin alone says whether the path was found; its partition is usually another one."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("dev/a"))
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/b"))
            await log.settled()
            await log.covered(await log.delegate("delete", deleted=["dev"]))
            await log.announce(Remove("dev/a"), Remove("dev/b"))
            assert lengths(await log.settled(), log) == {}
            assert [(path, outcome) for path, outcome, _ in await outcomes(log)] == [("dev/b", "not_found")]

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_removal_that_one_partition_has_for_two_roles_is_found_in_either(tmp_path: Path) -> None:
    """With one partition, the role and the bin are both in it: the receipt says that the path was not found only if neither has it."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("dev/old"))
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/new"))
            await log.announce(Remove("dev/old"), Remove("dev/new"), Remove("dev/none"))
            assert lengths(await log.settled(), log) == {}
            assert [(path, outcome) for path, outcome, _ in await outcomes(log)] == [("dev/none", "not_found")]

    on_a_bootstrapped_log(tmp_path, story, partitions=1, mode="rstuf")


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


def test_a_change_that_was_routed_by_older_delegations_is_refused_if_its_path_has_moved(tmp_path: Path) -> None:
    """It would go to a role in which clients look after another one. Its receipt says to send it again."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            before = await log.state()
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"), add("other/a"), state=before)
            assert lengths(await log.settled(), log) == {"other/a": 1}
            assert await outcomes(log) == [("dev/a", "refused", MOVED)]

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_changes_that_wait_below_a_delegation_are_routed_by_what_was_before(tmp_path: Path) -> None:
    """No signer runs while they are announced and the delegation follows: they were accepted before it."""

    async def story(log: BootstrappedLog) -> None:
        await log.announce(add("dev/a"), add("dev/b"))
        offset = await log.delegate("add", DEV)
        await log.announce(add("dev/b", 2))
        async with log.signer():
            found = await log.covered(offset)
            assert lengths(found, log) == {"dev/a": 1, "dev/b": 2}
            assert content_of(found, "dev") == {"dev/b": 2}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_role_has_keys_and_a_lifetime_of_its_own(tmp_path: Path) -> None:
    """Its keys are replaced like those of bins: signed by both, then named by targets. Its lifetime is its own, and it is renewed by it."""

    async def story(log: BootstrappedLog) -> None:
        old, new = make_key(log, "old"), make_key(log, "new")
        mine = Delegation(name="mine", paths=("mine/*",), keyids=(old[0],), days=2)
        async with log.signer():
            await log.covered(await log.delegate("add", mine, keys=dict([old])))
            await log.announce(add("mine/a"))
            assert lengths(await log.settled(), log) == {"mine/a": 1}
            assert await keyids_of(log, "mine") == [old[0]]
            changed = Delegation(name="mine", paths=("mine/*",), keyids=(new[0],), days=2)
            found = await log.covered(await log.delegate("update", changed, keys=dict([new])))
            assert lengths(found, log) == {"mine/a": 1}
            assert delegating(found)["roles"][0]["keyids"] == [new[0]]
            await log.announce(add("mine/b"))
            assert lengths(await log.settled(), log) == {"mine/a": 1, "mine/b": 1}
            assert await keyids_of(log, "mine") == [new[0]]
            version = (await head_of(log, "mine")).version

            async def is_renewed() -> bool:
                return (await head_of(log, "mine")).version > version

            await eventually(is_renewed, seconds=2 * 86_400.0, step=3600.0)
            assert lengths(await log.settled(), log) == {"mine/a": 1, "mine/b": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


async def head_of(log: BootstrappedLog, role: str) -> Head:
    """Return the newest head of a custom role."""
    partition = log.routing([DEV]).partition_of(role)
    found = [
        records.decode(records.heads_decoder, one.value) for one in await read_all(log.bus, topics.HEADS, partition) if one.key == role
    ]
    newest = found[-1]
    assert isinstance(newest, Head)
    return newest


async def keyids_of(log: BootstrappedLog, role: str) -> list[str]:
    """Return the keys that signed the newest version of a custom role."""
    return (await head_of(log, role)).keyids


def test_a_role_whose_key_can_not_be_used_holds_nothing_else_back(tmp_path: Path) -> None:
    """Health names the role and what to do; the changes for it are refused with that reason; all else goes on, also after its deletion."""

    async def story(log: BootstrappedLog) -> None:
        keyid, key = make_key(log, "lost")
        (log.path / "keys" / "lost").unlink()
        mine = Delegation(name="mine", paths=("mine/*",), keyids=(keyid,))
        async with log.signer() as health:
            await log.announce(add("other/a"))
            await log.settled()
            offset = await log.delegate("add", mine, keys={keyid: key})
            await log.announce(add("mine/a"), add("other/b"))
            assert lengths(await log.settled(), log) == {"other/a": 1, "other/b": 1}
            ((path, outcome, reason),) = await outcomes(log)
            assert (path, outcome) == ("mine/a", "refused")
            assert "the custom role mine can't be signed" in reason
            assert any("the custom role mine can't be signed" in text for text in health.problems.values())
            assert (await log.settled()).vector.admin <= offset  # type: ignore[union-attr]
            # Later changes are published, with what goes to their roles.
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"))
            assert lengths(await log.settled(), log) == {"other/a": 1, "other/b": 1, "dev/a": 1}
            found = await log.covered(await log.delegate("delete", deleted=["mine", "dev"]))
            assert lengths(found, log) == {"other/a": 1, "other/b": 1}

            async def is_well() -> bool:
                return not health.problems

            await eventually(is_well, seconds=2 * 86_400.0, step=3600.0)  # the key is forgotten when others sign again

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_changed_role_keeps_its_previous_key_until_the_new_one_can_be_used(tmp_path: Path) -> None:
    """Health names the key; what else the change says counts at once, and so do later changes. Only its own task waits."""

    async def story(log: BootstrappedLog) -> None:
        old, lost, partition = make_key(log, "old"), make_key(log, "lost"), log.routing([DEV]).partition_of("mine")
        (log.path / "keys" / "lost").rename(log.path / "elsewhere")
        mine = Delegation(name="mine", paths=("mine/*",), keyids=(old[0],))
        async with log.signer() as health:
            await log.covered(await log.delegate("add", mine, keys=dict([old])))
            changed = Delegation(name="mine", paths=("mine/*", "yours/*"), keyids=(lost[0],))
            waits = await log.delegate("update", changed, keys=dict([lost]))
            found = await log.covered(await log.delegate("add", DEV))
            assert found.vector is not None
            assert not found.vector.has_applied(waits)
            (of_mine, of_dev, _) = delegating(found)["roles"]
            assert (of_mine["keyids"], of_mine["paths"], of_dev["name"]) == ([old[0]], ["mine/*", "yours/*"], "dev")
            await log.announce(add("mine/a"), add("yours/a"), add("dev/a"))
            found = await log.settled()
            assert lengths(found, log) == {"mine/a": 1, "yours/a": 1, "dev/a": 1}
            assert content_of(found, "mine") == {"mine/a": 1, "yours/a": 1}

            async def is_named() -> bool:
                of_role = health.problems.get(f"signer.bins.{partition}.mine", "")
                of_commits = health.problems.get("signer.commits", "")
                words = ("mine", lost[0], "fn:lost", "PUT /api/v1/delegations", "tufline delegations update mine")
                return all(word in of_role for word in words) and "mine" in of_commits and "dev" not in of_commits

            await eventually(is_named, seconds=600.0)
            # It is in effect when the signer starts again, too.
        async with log.signer() as health:
            await log.announce(add("dev/b"))
            found = await log.settled()
            assert [role["name"] for role in delegating(found)["roles"]] == ["mine", "dev", "bins"]
            (log.path / "elsewhere").rename(log.path / "keys" / "lost")
            found = await log.covered(waits)
            assert delegating(found)["roles"][0]["keyids"] == [lost[0]]
            assert lengths(found, log) == {"mine/a": 1, "yours/a": 1, "dev/a": 1, "dev/b": 1}

            async def is_well() -> bool:
                return not health.problems

            await eventually(is_well, seconds=600.0)

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


def test_held_changes_for_a_role_are_released_into_it(tmp_path: Path) -> None:
    """Also after a takeover; what was held for a role that is deleted meanwhile is refused by the publish."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", DEV, Delegation(name="docs", paths=("docs/*",))))
            await log.announce(add("dev/a"), add("docs/a"), add("other/a"), hold=True)
            assert lengths(await log.settled(), log) == {}
            await log.covered(await log.delegate("delete", deleted=["docs"]))
        async with log.signer():
            found = await log.published(await log.publish())
            assert lengths(found, log) == {"dev/a": 1, "other/a": 1}
            assert content_of(found, "dev") == {"dev/a": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")


def test_a_role_keeps_only_what_it_still_takes(tmp_path: Path) -> None:
    """Otherwise the older artifact would come back over a newer one, when the role takes its path again."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.covered(await log.delegate("add", DEV))
            await log.announce(add("dev/a"), add("dev/b"))
            await log.settled()
            before = await log.state()
            found = await log.covered(await log.delegate("update", Delegation(name="dev", paths=("dev/b",))))
            assert (content_of(found, "dev"), lengths(found, log)) == ({"dev/b": 1}, {"dev/b": 1})
            await log.announce(add("dev/a", 2), state=before)
            await log.announce(add("dev/a", 3))
            assert lengths(await log.settled(), log) == {"dev/a": 3, "dev/b": 1}
            assert [(path, reason) for path, outcome, reason in await outcomes(log) if outcome == "refused"] == [("dev/a", MOVED)]
        await log.delegate("update", DEV)
        async with log.signer():  # it finds out again what the role no longer took
            offset = await log.delegate("update", Delegation(name="dev", paths=("dev/*", "docs/*")))
            assert lengths(await log.covered(offset), log) == {"dev/a": 3, "dev/b": 1}

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


def test_a_role_that_is_deleted_before_it_is_signed_is_signed_like_bins(tmp_path: Path) -> None:
    """There are no keys of its own any more, and no client reads it."""

    async def story(log: BootstrappedLog) -> None:
        keyid, key = make_key(log, "own")
        await log.delegate("add", Delegation(name="own", paths=("own/*",), keyids=(keyid,)), keys={keyid: key})
        await log.delegate("delete", deleted=["own"])
        repository = (await log.state()).bootstrapped
        assert repository is not None
        released = Released(log.bus, timedelta(0), PassedOver(Health(), "released"))
        released.vector = Vector([], repository.next_offset)
        assert keys_of_custom(repository, released, "own") == keys_of_bins(repository, released)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf")
