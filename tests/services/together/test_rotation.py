"""An online key is changed: no client fails at any moment, whatever root it has, and in the end the old key signs nothing."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from tuf.api.metadata import Root

from tufline.metadata.delegations import Delegation
from tufline.records import Add, topics
from tufline_testing.log import DEFAULT_DAYS, announce, delegate, eventually, read_all
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.rest import rest
from tufline_testing.rotation import BINS, DELAY_SECONDS, GRACE_SECONDS, PARTITIONS, WatchedRepository, in_a_watched_repository

MODES = pytest.mark.parametrize("mode", ["pep458", "rstuf"])


@MODES
def test_no_client_fails_while_a_key_is_changed(tmp_path: Path, mode: str) -> None:
    """A new online key, signed once offline, takes over all roles; its root is published late enough, and the old key retires in time."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            old, asked = repository.offline.online, repository.clock()
            offset = await announce_updates(repository.bus, repository.offline.rotate(now=asked))

            async def is_shown() -> bool:
                repository.look("wait")
                assert await repository.published_admin() <= offset or repository.reader.root == 2, "done before it is shown"
                return repository.reader.root == 2

            async def is_covered() -> bool:
                return await repository.published_admin() > offset

            await repository.announce(2)
            await eventually(is_shown, seconds=GRACE_SECONDS, step=1)
            assert repository.clock() >= asked + timedelta(seconds=DELAY_SECONDS)
            assert repository.reader.keyids == {old, repository.offline.online}
            await eventually(is_covered)
            await repository.announce(3)
            await repository.shows_only_the_new_key()
            assert repository.clock() >= repository.root_since[2] + timedelta(seconds=GRACE_SECONDS)
            await repository.announce(4)
            online = {role: keyids for role, keyids in (await repository.newest_keyids()).items() if role not in {"root", "targets"}}
            assert len(online) == BINS + 2
            assert set(map(frozenset, online.values())) == {frozenset({repository.offline.online})}
            await asyncio.sleep(1)
            assert set(repository.reader.refresh().values()) == {4}
            assert repository.health.ready, repository.health.problems

    in_a_watched_repository(tmp_path, mode, story)


@MODES
def test_a_new_key_that_is_not_there_stops_nothing(tmp_path: Path, mode: str) -> None:
    """While the new key is unavailable the old one is used; once it is available, the change continues without intervention."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            updates = repository.offline.rotate(now=repository.clock())
            new = repository.path / "keys" / "online-2.pem"
            hidden = new.rename(new.with_suffix(".away"))
            await announce_updates(repository.bus, updates)
            for length in range(2, 6):
                await repository.announce(length)
                await asyncio.sleep(GRACE_SECONDS)
            repository.look("wait")
            assert repository.reader.root == 1
            commits = len(await read_all(repository.bus, topics.METADATA))
            await asyncio.sleep(600)
            assert len(await read_all(repository.bus, topics.METADATA)) < commits + 2 * 600 / 60 + 2, "it tries too often"
            hidden.rename(new)
            await repository.shows_only_the_new_key()

    in_a_watched_repository(tmp_path, mode, story)


def test_the_own_key_of_online_bins_is_changed(tmp_path: Path) -> None:
    """If targets are online and the bins have a separate key, only that one is changed, and no client fails meanwhile."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            updates, new = repository.offline.rotate_bins(repository.clock())
            await announce_updates(repository.bus, updates)
            await repository.announce(2)

            async def is_changed() -> bool:
                repository.look("wait")
                signed_by = await repository.newest_keyids()
                of_bins = {frozenset(keyids) for role, keyids in signed_by.items() if role.startswith("bins")}
                return repository.reader.root == 2 and of_bins == {frozenset({new})}

            await repository.announce(3)
            await eventually(is_changed, seconds=4 * GRACE_SECONDS, step=10)
            await repository.announce(4)
            await asyncio.sleep(1)
            assert set(repository.reader.refresh().values()) == {4}
            assert (await repository.newest_keyids())["snapshot"] == {repository.offline.online}

    in_a_watched_repository(tmp_path, "rstuf", story, own_bins=True)


@MODES
def test_lost_keys_are_left_behind_at_once(tmp_path: Path, mode: str) -> None:
    """If the old key is lost, nothing can be signed with both; a root with ``skip_overlap`` makes the repository work again."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
        (repository.path / "keys" / "online.pem").unlink()
        updates = repository.offline.rotate(skip_overlap=True, now=repository.clock())
        async with repository.running():
            await announce_updates(repository.bus, updates)
            await repository.announce(2)
            await repository.shows_only_the_new_key()
            assert set(repository.reader.refresh().values()) == {2}

    # A client that does not see the new root yet must fail then: no available key can sign for it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedRepository, "look", lambda repository, operation: repository.refresh() if operation == "wait" else None)
        in_a_watched_repository(tmp_path, mode, story)


def test_a_lost_key_is_no_problem_any_more_once_it_is_replaced(tmp_path: Path) -> None:
    """A key that could not be used makes the process unready only as long as something needs the key."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
        (repository.path / "keys" / "online.pem").unlink()
        async with repository.running():
            settings = repository.offline.bootstrap(PARTITIONS).settings
            await announce(repository.bus, settings, [Add("p/0", 2, {"sha256": "0" * 64})])
            await eventually(lambda: asyncio.sleep(0, bool(repository.health.problems.get("signer.key.fn:online.pem"))))
            await announce_updates(repository.bus, repository.offline.rotate(skip_overlap=True, now=repository.clock()))
            for length in range(3, 40):
                await repository.announce(length)
                await asyncio.sleep(60)
            assert repository.health.ready, repository.health.problems

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedRepository, "look", lambda repository, operation: repository.refresh() if operation == "wait" else None)
        in_a_watched_repository(tmp_path, "pep458", story)


@MODES
def test_a_publisher_that_slept_shows_the_commits_before_the_root_first(tmp_path: Path, mode: str) -> None:
    """A publisher that was down during the whole change catches up, and no client that finds all roots fails meanwhile."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
        async with repository.running(publish=False):
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(2)
            await asyncio.sleep(2 * DELAY_SECONDS)
            await repository.announce(3)
        async with repository.running():
            await repository.shows_only_the_new_key()
            assert set(repository.reader.refresh().values()) == {3}

    in_a_watched_repository(tmp_path, mode, story)


@MODES
def test_a_key_that_has_ended_stays_ended(tmp_path: Path, mode: str) -> None:
    """A restarted signer does not sign with the old key again, and does not even open it."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(2)
            await repository.shows_only_the_new_key()
        (repository.path / "keys" / "online.pem").unlink()
        with structlog.testing.capture_logs() as said:
            for length in range(3, 6):
                async with repository.running():
                    await repository.announce(length)
                    signed_by = await repository.newest_keyids()
                    assert signed_by["timestamp"] == signed_by["snapshot"] == {repository.offline.online}
                    await asyncio.sleep(GRACE_SECONDS / 3)
        assert not [one for one in said if one["event"] == "key.unavailable"]

    in_a_watched_repository(tmp_path, mode, story)


def test_the_grace_time_ends_however_often_the_signer_restarts(tmp_path: Path) -> None:
    """If it is unknown whether a release was published, its time counts from the first restart of a signer, and not from later ones."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running(publish=False):
            await repository.announce(1)
            old = repository.offline.online
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(2)
            await eventually(lambda: is_released(repository), seconds=10 * DELAY_SECONDS, step=1)
        await asyncio.sleep(2 * GRACE_SECONDS)
        began = repository.clock()
        while repository.clock() < began + timedelta(seconds=1.5 * GRACE_SECONDS):
            async with repository.running():
                await repository.announce(3)
                is_over = repository.clock() >= began + timedelta(seconds=1.2 * GRACE_SECONDS)
                assert ((await repository.newest_keyids())["timestamp"] == {repository.offline.online}) or not is_over
                if repository.clock() < began + timedelta(seconds=0.9 * GRACE_SECONDS):
                    assert (await repository.newest_keyids())["timestamp"] == {old, repository.offline.online}
                await asyncio.sleep(GRACE_SECONDS / 5)

    async def is_released(repository: WatchedRepository) -> bool:
        return any(record.key == "2.root" for record in await read_all(repository.bus, topics.METADATA))

    in_a_watched_repository(tmp_path, "pep458", story)


def test_two_changes_at_once(tmp_path: Path) -> None:
    """A second change that is submitted during the first one follows it, and the key in between is replaced, too."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await asyncio.sleep(DELAY_SECONDS / 2)
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(2)
            await repository.shows_only_the_new_key()
            assert repository.offline.root.version == 3

    for mode in ("pep458", "rstuf"):
        (tmp_path / mode).mkdir()
        in_a_watched_repository(tmp_path / mode, mode, story)


def set_root(repository: Offline, change: Callable[[Root], None]) -> dict[str, Any]:
    """Make the next root, correctly signed, with something wrong in it."""
    root = copy.deepcopy(repository.root)
    root.version, root.expires = root.version + 1, datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    change(root)
    return repository.sign(root)


def without_uri(root: Root) -> None:
    for keyid in root.roles["timestamp"].keyids:
        root.keys[keyid].unrecognized_fields.clear()


BAD_ROOTS: dict[str, tuple[Callable[[Root], None], str]] = {
    "a version too far": (lambda root: setattr(root, "version", 3), "the next version is 2"),
    "the same version": (lambda root: setattr(root, "version", 1), "the next version is 2"),
    "expired": (lambda root: setattr(root, "expires", datetime(2020, 1, 1, tzinfo=UTC)), "expired on"),
    "no consistent snapshot": (lambda root: setattr(root, "consistent_snapshot", False), "consistent_snapshot"),
    "an online key without place": (without_uri, "x-rstuf-online-key-uri"),
}


async def test_bad_updates_are_refused(tmp_path: Path) -> None:
    """Versions that clients would refuse, or that could never be released, get 422 with a reason, and leave no trace."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode="pep458", days=DEFAULT_DAYS)
    wrong = []
    async with rest(tmp_path, whole=True) as server:
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": {"root": {}}})
        assert status == 404, answer
        _, answer = await server.ask("POST", "/api/v1/bootstrap/", offline.payload)
        await server.task(answer["data"]["task_id"])
        before = (await server.on_log())[topics.ADMIN]
        bad: dict[str, tuple[dict[str, Any], str]] = {
            name: ({"root": set_root(offline, change)}, says) for name, (change, says) in BAD_ROOTS.items()
        }
        unsigned = set_root(offline, lambda _: None)
        unsigned["signatures"] = []
        assert offline.targets is not None
        other_bins, no_bins = copy.deepcopy(offline.targets), copy.deepcopy(offline.targets)
        other_bins.version = no_bins.version = 2
        assert other_bins.delegations is not None
        assert other_bins.delegations.succinct_roles is not None
        other_bins.delegations.succinct_roles.bit_length += 1
        no_bins.delegations = None
        bad |= {
            "nothing": ({}, "metadata is empty"),
            "no metadata": ({"root": {"signed": 1}}, "not root metadata"),
            "no signature": ({"root": unsigned}, "root version 2 has no valid signature by"),
            "targets of other bins": ({"targets": offline.sign(other_bins)}, "delegates to 8 bins"),
            "targets without bins": ({"targets": offline.sign(no_bins)}, "hash bins"),
        }
        for name, (metadata, says) in bad.items():
            status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": metadata})
            if status != 422 or says not in str(answer):
                wrong.append(f"{name}: {status} {answer}")
        assert not wrong, "\n".join(wrong)
        assert (await server.on_log())[topics.ADMIN] == before


@MODES
async def test_a_change_over_rest(tmp_path: Path, mode: str) -> None:
    """A new root (and targets) over REST is a task, which is done once they are released; GET /api/v1/trust shows the signing keys."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode=mode, days=DEFAULT_DAYS)
    async with rest(tmp_path, whole=True, signer={"release_delay": 0.0, "renewal_check": 0.2}) as server:
        _, answer = await server.ask("POST", "/api/v1/bootstrap/", offline.payload)
        await server.task(answer["data"]["task_id"])
        old = offline.online
        _, trust = await server.ask("GET", "/api/v1/trust")
        assert (trust["root"]["current"], trust["root"]["pending"], trust["keyids"]["timestamp"], trust["bins"]) == (
            1,
            1,
            [old],
            {old: BINS},
        )
        metadata = {update.role: update.metadata for update in offline.rotate()}
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": metadata})
        assert (status, answer["message"]) == (202, "Metadata update accepted.")
        done = await server.task(answer["data"]["task_id"])
        assert done["result"]["task"] == "metadata_update"
        assert done["result"]["details"]["role"] == "root"
        assert done["result"]["status"]
        _, trust = await server.ask("GET", "/api/v1/trust")
        assert (trust["root"]["current"], trust["root"]["pending"], trust["root"]["metadata"]) == (2, 2, metadata["root"])
        assert set(trust["keyids"]["timestamp"]) == {old, offline.online}
        assert trust["bins"][offline.online] == BINS


def test_no_client_fails_while_delegations_and_keys_change(tmp_path: Path) -> None:
    """Custom roles are added, changed and deleted around a change of the online key: after each operation, every client refreshes."""
    dev, low = Delegation(name="dev", paths=("p/1*",)), Delegation(name="low", paths=("p/*",), terminating=True)

    async def story(repository: WatchedRepository) -> None:
        settings = repository.offline.bootstrap(PARTITIONS).settings

        async def change(action: str, *named: Delegation, deleted: Sequence[str] = ()) -> None:
            offset = await delegate(repository.bus, settings, action, *named, deleted=deleted)

            async def is_covered() -> bool:
                return await repository.published_admin() > offset

            await eventually(is_covered, seconds=4 * GRACE_SECONDS, step=1)

        async with repository.running():
            await repository.announce(1)
            await change("add", dev)
            await repository.announce(2)
            assert set(repository.reader.refresh().values()) == {2}
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await change("add", low)
            await repository.announce(3)
            await repository.shows_only_the_new_key()
            await repository.announce(4)
            assert set(repository.reader.refresh().values()) == {4}
            await change("update", replace(dev, paths=("p/2*",)))
            await change("delete", deleted=["low"])
            await repository.announce(5)
            found = repository.reader.refresh()
            assert (len(found), set(found.values())) == (24, {5})
            newest = {role: keyids for role, keyids in (await repository.newest_keyids()).items() if role not in {"root", "low"}}
            assert set(map(frozenset, newest.values())) == {frozenset({repository.offline.online})}
            assert {"dev", "bins"} <= newest.keys()
            assert repository.health.ready, repository.health.problems

    in_a_watched_repository(tmp_path, "rstuf", story)
