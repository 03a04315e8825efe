"""The signer as a service: a bins worker for each partition that the group gives this process, and the commit worker if it is given that.

In: ``artifacts`` and ``admin``. Out: ``metadata``, ``heads``, ``receipts`` and ``audit``. It alone holds online keys, and
signs only what it made from the log.
"""

from datetime import timedelta
from functools import partial
from typing import Final

from tufline import topics
from tufline.bus import Bus
from tufline.bus.partitions import keep_working, own_partitions
from tufline.clock import Clock, utc_now
from tufline.config import SignerConfig, VaultConfig
from tufline.follow import AdminFollower
from tufline.health import Health
from tufline.keys.opening import KeyOpener
from tufline.tasks import all_of
from tufline_signer import bins_worker, commits
from tufline_signer.audit import Trail
from tufline_signer.bins import BinCache
from tufline_signer.bins_writer import part
from tufline_signer.shared import Shared
from tufline_signer.signing import Keyring
from tufline_signer.sinks import open_sink
from tufline_signer.trusted import Released

BINS_GROUP: Final = "signer.bins"
COMMITS_GROUP: Final = "signer.commits"


async def run(bus: Bus, config: SignerConfig, *, vault: VaultConfig | None = None, clock: Clock = utc_now, health: Health) -> None:
    """Sign what the log asks for, until cancelled.

    Args:
        bus: the log.
        config: of the signer.
        vault: where keys are that are in Vault.
        clock: the wall clock.
        health: where the parts say how they are.
    """
    admin, released = AdminFollower(bus), Released(bus, clock(), timedelta(seconds=config.release_grace))
    opener, trail = KeyOpener(config, vault or VaultConfig()), Trail(bus, clock, open_sink(config.audit_file))
    keyring = Keyring(opener, trail, health)
    shared = Shared(bus, config, clock, health, admin, keyring, BinCache(config.bin_memory_bytes), released)
    try:
        await all_of(
            keep_working("signer.admin", admin.run, health),
            keep_working("signer.released", released.run, health),
            own_partitions(bus, BINS_GROUP, topics.ARTIFACTS, part, partial(bins_worker.work, shared), health),
            own_partitions(bus, COMMITS_GROUP, topics.ADMIN, lambda _: commits.PART, lambda _: commits.work(shared), health),
        )
    finally:
        await trail.close()
        await opener.close()
