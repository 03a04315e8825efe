"""Artifacts and removals go to the custom roles in which clients look, also when paths move. Every commit is read by python-tuf."""

from pathlib import Path

import pytest

from tufline.metadata.delegations import Delegation
from tufline.records import Remove
from tufline.records.routing import MOVED
from tufline_testing.custom_roles import DEV, content_of, delegating, lengths, outcomes
from tufline_testing.signing import BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log

PATHS = [f"{folder}/{number}" for folder in ("dev", "other") for number in range(8)]


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
