"""Custom roles have keys and a lifetime of their own, and a key that can't be used holds no other role back."""

from datetime import timedelta
from pathlib import Path

from tufline.metadata.delegations import Delegation
from tufline.records import Vector
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_signer.signing.key_selection import Released, keys_of_bins, keys_of_custom
from tufline_testing.custom_roles import DEV, content_of, delegating, head_of, keyids_of, lengths, make_key, outcomes
from tufline_testing.log import eventually
from tufline_testing.signing import BootstrappedLog, add, on_a_bootstrapped_log


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
