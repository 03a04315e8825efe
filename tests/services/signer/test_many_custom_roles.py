"""With thousands of custom roles a signer's other tasks wait for less than 100 ms at a time."""

from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from tufline import records
from tufline.bus import Bus, Message
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.metadata import envelope
from tufline.metadata.delegations import Delegation
from tufline.records import Head, topics
from tufline.records.cursor import MAX_OFFSET
from tufline.trust import roles
from tufline_testing.log import DEFAULT_DAYS, announce_bootstrap, bootstrap_record
from tufline_testing.loop_turns import turns_of
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add

LIMIT_SECONDS: Final = 0.1
ROLES: Final = [Delegation(name=f"role-{number}", paths=(f"{number}/*",)) for number in range(10_000)]
AT_ONCE: Final = 1000


async def write_heads(log: BootstrappedLog, bus: Bus) -> None:
    """Write the heads of the custom roles, as if bins workers had made them: they would need a transaction for each."""
    keyids = [*roles.online_bin_keys((await log.state()).roots[0].signed).keys]
    expires = envelope.expiry(utc_now(), timedelta(days=DEFAULT_DAYS["bins"]))
    head = Head(version=1, sha256="", length=1, expires=expires, offset=0, keyids=keyids, admin=MAX_OFFSET)
    of_partition = defaultdict(list)
    routing = log.routing(ROLES)
    for role in ROLES:
        of_partition[routing.partition_of(role.name)].append(role.name)
    for partition, names in of_partition.items():
        await bus.append([Message(topics.HEADS, name, records.encode(head), partition) for name in names])


async def test_many_custom_roles_do_not_hold_the_loop(tmp_path: Path) -> None:
    """Neither the targets that name them all, nor a start, nor any later commit takes longer: it costs only what has changed."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, mode="rstuf")
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    await announce_bootstrap(bus, bootstrap)
    log = BootstrappedLog(bus, utc_now, tmp_path, bootstrap)
    async with log.signer():
        await log.settled()
    await write_heads(log, bus)
    for first in range(0, len(ROLES), AT_ONCE):
        offset = await log.delegate("add", *ROLES[first : first + AT_ONCE])

    state = await log.state()
    assert state.routing is not None
    state.routing.roles_of(add("other"))  # what the test itself does is not the signer's work

    async def commits() -> None:
        async with log.signer():
            await log.covered(offset)
            for number in range(3):
                await log.announce(add("other", number + 1), state=state)
                await log.settled()

    _, longest = await turns_of(commits, LIMIT_SECONDS)
    await bus.close()
    assert longest.seconds < LIMIT_SECONDS, longest
