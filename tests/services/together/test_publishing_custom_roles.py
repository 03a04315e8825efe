"""Signer and publisher with custom roles: at every step of the origin a client refreshes, and finds what is in custom roles and in bins."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import tufline_publisher.service
from tufline.checks.fsck import compare
from tufline.config.settings import PublisherConfig
from tufline.metadata.delegations import Delegation
from tufline.origin.directory import LocalStore
from tufline_testing.custom_roles import make_key
from tufline_testing.log import DEFAULT_DAYS, eventually, on_a_log
from tufline_testing.log import running as running_services
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader, checked_store
from tufline_testing.publishing import Listening
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add

DEV = Delegation(name="dev", paths=("dev/*",))


@asynccontextmanager
async def publisher(log: BootstrappedLog, name: str = "origin") -> AsyncIterator[Listening]:
    """Run a publisher to an origin, which a client reads before and after each operation."""
    directory, health = log.path / name, Listening()
    store = checked_store(directory, log.clock)
    config = PublisherConfig(directory=directory, origin=name)
    async with running_services(tufline_publisher.service.run(log.bus, config, store, clock=log.clock, health=health)):
        yield health


async def shows(log: BootstrappedLog, expected: dict[str, int], name: str = "origin") -> None:
    """Wait until the newest commit is published; clients find exactly these paths, and fsck finds nothing."""
    directory = log.path / name

    async def is_shown() -> bool:
        newest = (await log.settled()).timestamp
        path = directory / "timestamp.json"
        return path.exists() and path.read_bytes() == newest and Reader(directory, log.clock).refresh() == expected

    await eventually(is_shown, 120)
    assert (await compare(log.bus, LocalStore(directory), name)).findings == []


def test_roles_come_change_their_keys_and_go(tmp_path: Path) -> None:
    """A client finds every artifact at every step; a role that is deleted, and comes back with another key, is not a problem."""
    people = Offline(tmp_path / "keys", bins=4, mode="rstuf", days=DEFAULT_DAYS)
    bootstrap = people.bootstrap(PARTITIONS)

    async def story(log: BootstrappedLog) -> None:
        (first, first_key), (second, second_key) = make_key(log, "first", "ecdsa"), make_key(log, "second", "ecdsa")
        mine = Delegation(name="mine", paths=("mine/*",), keyids=(first,))
        async with log.signer(renewal_check=600.0, release_delay=5.0, release_grace=600.0), publisher(log) as health:
            await log.announce(add("dev/a"), add("mine/a"), add("other"))
            await shows(log, {"dev/a": 1, "mine/a": 1, "other": 1})
            health.said.clear()
            await log.covered(await log.delegate("add", DEV, mine, keys={first: first_key}))
            await log.announce(add("dev/a", 2), add("mine/b", 2), add("other", 2))
            await shows(log, {"dev/a": 2, "mine/a": 1, "mine/b": 2, "other": 2})
            await log.covered(
                await log.delegate("update", Delegation(name="mine", paths=("mine/*",), keyids=(second,)), keys={second: second_key})
            )
            await log.announce(add("mine/b", 3))
            await shows(log, {"dev/a": 2, "mine/a": 1, "mine/b": 3, "other": 2})
            await announce_updates(log.bus, people.rotate(now=log.clock()))
            await asyncio.sleep(1800)
            assert (log.path / "origin" / "2.root.json").exists()
            await shows(log, {"dev/a": 2, "mine/a": 1, "mine/b": 3, "other": 2})
            await log.covered(await log.delegate("delete", deleted=("mine",)))
            await shows(log, {"dev/a": 2, "mine/a": 1, "other": 2})
            await log.covered(await log.delegate("delete", deleted=("dev",)))
            await shows(log, {"dev/a": 1, "mine/a": 1, "other": 2})
            async with publisher(log, "mirror") as of_mirror:
                await shows(log, {"dev/a": 1, "mine/a": 1, "other": 2}, "mirror")
                await log.covered(await log.delegate("add", mine, keys={first: first_key}))
                await log.announce(add("mine/c"))
                for name in ("origin", "mirror"):
                    await shows(log, {"dev/a": 1, "mine/a": 1, "mine/c": 1, "other": 2}, name)
                assert of_mirror.problems == {}
            assert health.said == []

    on_a_log(tmp_path / "log.db", bootstrap, lambda bus, clock: story(BootstrappedLog(bus, clock, tmp_path, bootstrap)))
