"""With thousands of custom roles a publisher's other tasks wait for less than 100 ms at a time."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

import tufline_publisher.service
from tufline.bus.embedded.bus import open_embedded
from tufline.config.settings import PublisherConfig
from tufline.metadata.delegations import Delegation
from tufline.origin.directory import LocalStore
from tufline.origin.store import TIMESTAMP
from tufline.records import topics
from tufline.runtime.health import Health
from tufline_testing.hand_signed import BINS, HandSigned
from tufline_testing.log import announce_bootstrap, eventually, running
from tufline_testing.loop_turns import turns_of

LIMIT_SECONDS: Final = 0.1
ROLES: Final = [Delegation(name=f"role-{number}", paths=(f"{number}/*",)) for number in range(10_000)]


async def is_there(store: LocalStore, timestamp: bytes) -> bool:
    """Return whether an origin has a timestamp."""
    return await store.get(TIMESTAMP) == timestamp


async def test_many_custom_roles_do_not_hold_the_loop(tmp_path: Path) -> None:
    """Neither the targets that name them all nor the publication of any commit does."""
    metadata = HandSigned(tmp_path / "keys")
    bus = await open_embedded(tmp_path / "log.db", topics.topics(BINS))
    await announce_bootstrap(bus, metadata.bootstrap)
    tries = iter(range(10))

    async def publish() -> None:
        directory = tmp_path / f"origin-{next(tries)}"
        config, store = PublisherConfig(directory=directory, origin=directory.name), LocalStore(directory)
        async with running(tufline_publisher.service.run(bus, config, store, health=Health())):
            for _ in range(2):
                await asyncio.to_thread(metadata.commit)
                await metadata.append(bus)
                await eventually(partial(is_there, store, metadata.newest["timestamp"]), seconds=120)

    metadata.targets(*ROLES)
    metadata.catch_all()
    for role in ROLES:
        metadata.role(role.name)
    metadata.commit()
    await metadata.append(bus)
    _, longest = await turns_of(publish, LIMIT_SECONDS)
    await bus.close()
    assert longest.seconds < LIMIT_SECONDS, longest
