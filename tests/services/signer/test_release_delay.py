"""How long a root that changes an online key is held back, in virtual time: by default longer than caches keep what came before it."""

from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

import tufline_signer.service
from tufline import records
from tufline.bus import Bus
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.metadata.profiles import Profile
from tufline.records import Head, topics
from tufline.runtime.health import Health
from tufline_testing.log import DEFAULT_DAYS, eventually, on_a_log, read_all, running
from tufline_testing.offline import Offline, announce_updates

PARTITIONS = 2
BINS = 16


async def heads(bus: Bus, role: str) -> list[tuple[int, Head]]:
    """Return the time, in milliseconds, and the content of each head of a role of the commit worker."""
    of_role = [record for record in await read_all(bus, topics.HEADS, PARTITIONS) if record.key == role]
    found = [(record.time, records.decode(records.heads_decoder, record.value)) for record in of_role]
    return [(time, head) for time, head in found if isinstance(head, Head)]


@pytest.mark.parametrize(
    ("profile", "setting", "delay"),
    [("rstuf", None, 5.0), ("standard", None, 60.0), ("rstuf", 90.0, 90.0), ("standard", 0.0, 0.0)],
)
def test_a_new_online_key_is_released_after_the_delay(tmp_path: Path, profile: Profile, setting: float | None, delay: float) -> None:
    """The root follows the last of the roles that it governs after exactly the delay: the setting, or without one the profile's default."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode="rstuf", days=DEFAULT_DAYS)
    started = offline.bootstrap(PARTITIONS)
    started = msgspec.structs.replace(started, settings=msgspec.structs.replace(started.settings, client_profile=profile))

    async def story(bus: Bus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", release_delay=setting)

        async def is_released(version: int) -> bool:
            found = await heads(bus, Root.type)
            return bool(found) and found[-1][1].version == version

        async with running(tufline_signer.service.run(bus, config, clock=clock, health=Health())):
            await eventually(lambda: is_released(1), step=0.5)
            await eventually(lambda: _has(bus, Timestamp.type), step=0.5)
            submitted = clock()
            await announce_updates(bus, offline.rotate())
            await eventually(lambda: is_released(2), seconds=300, step=0.5)
            taken = (clock() - submitted).total_seconds()
        released = (await heads(bus, Root.type))[-1][0]
        met = [
            next(time for time, head in await heads(bus, role) if offline.online in head.keyids)
            for role in (Targets.type, Snapshot.type, Timestamp.type)
        ]
        assert 0 <= (released - max(met)) / 1000 - delay < 1
        assert taken < delay + 5, "all that comes before and after the delay takes a moment only: nothing waits for a check of its own"

    on_a_log(tmp_path / "log.db", started, story)


async def _has(bus: Bus, role: str) -> bool:
    return bool(await heads(bus, role))
