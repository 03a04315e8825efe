"""The signer as a service: a bins worker for each partition that the group assigns to this process, and the commit worker if assigned.

In: ``artifacts`` and ``admin``. Out: ``metadata``, ``heads``, ``receipts`` and ``audit``. Only the signer holds online keys, and it signs
only what it built from the log. It joins its groups once it has proved that it can sign.
"""

from datetime import timedelta
from functools import partial
from typing import Final

from tuf.api.metadata import Snapshot, Timestamp

from tufline.bus import Bus
from tufline.clock import Clock, utc_now
from tufline.config.settings import SignerConfig, VaultConfig
from tufline.keys.opening import KeyOpener
from tufline.records import topics
from tufline.reference_clock import DEFAULT_TOLERANCE_SECONDS, ReferenceClock
from tufline.runtime.clock_watch import watch_clock
from tufline.runtime.health import Health
from tufline.runtime.partitions import keep_working, own_partitions
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.task_groups import all_of
from tufline.views.admin import AdminFollower
from tufline_signer.bins import bins_worker
from tufline_signer.bins.bin_cache import BinCache
from tufline_signer.bins.context import BinsContext, part
from tufline_signer.commits import commit_worker, taking_over
from tufline_signer.context import SignerContext
from tufline_signer.signing.audit_sinks import open_sink
from tufline_signer.signing.audit_trail import Trail
from tufline_signer.signing.key_selection import Released, keys_of_bins, keys_of_role
from tufline_signer.signing.keyring import Keyring

PART: Final = "signer"
ADMIN_PART: Final = "signer.admin"
RELEASED_PART: Final = "signer.released"

BINS_GROUP: Final = "signer.bins"
COMMITS_GROUP: Final = "signer.commits"


async def run(
    bus: Bus,
    config: SignerConfig,
    *,
    vault: VaultConfig | None = None,
    clock: Clock = utc_now,
    clock_tolerance: float = DEFAULT_TOLERANCE_SECONDS,
    health: Health,
) -> None:
    """Sign what the log asks for, until cancelled.

    Args:
        bus: the log.
        config: the signer's settings.
        vault: how to reach Vault, for keys that are there.
        clock: the wall clock.
        clock_tolerance: by how many seconds the clock may differ from the log's before health reports it.
        health: where the parts report their state.
    """
    admin = AdminFollower(bus, PassedOver(health, ADMIN_PART))
    released = Released(bus, timedelta(seconds=config.release_grace), PassedOver(health, RELEASED_PART))
    opener, trail = KeyOpener(config, vault or VaultConfig()), Trail(bus, clock, open_sink(config.audit_file))
    keyring = Keyring(opener, trail, health)
    reference = ReferenceClock(clock, clock_tolerance)
    context = SignerContext(bus, config, reference, health, admin, keyring, released)
    try:
        await all_of(
            watch_clock(reference, PART, health),
            keep_working(ADMIN_PART, admin.run, health),
            keep_working(RELEASED_PART, released.run, health),
            keep_working(PART, partial(_share_the_work, context), health),
        )
    finally:
        await trail.close()
        await opener.close()


async def _share_the_work(context: SignerContext) -> None:
    # A signer that can't sign would hold partitions that others could serve, and block all their artifacts.
    context.health.problem(PART, "checking that the keys can be used and that their uses can be recorded")
    await context.admin.known.wait()
    await context.released.known.wait()
    if (repository := context.admin.state.bootstrapped) is not None:
        under = [keys_of_role(repository, context.released, role, context.clock.earliest()) for role in (Timestamp.type, Snapshot.type)]
        await context.keyring.prove([*under, keys_of_bins(repository, context.released)], PART)

    async def joining() -> None:
        context.health.gone(PART)  # from here on the groups report

    bus, health = context.bus, context.health
    last = bus.partitions(topics.ARTIFACTS)
    bins_work = partial(bins_worker.work, BinsContext(context, BinCache(context.config.bin_memory_bytes)))
    await all_of(
        own_partitions(bus, BINS_GROUP, topics.ARTIFACTS, part, bins_work, health, lambda number: (topics.HEADS, number)),
        own_partitions(
            bus,
            COMMITS_GROUP,
            topics.ADMIN,
            lambda _: commit_worker.PART,
            lambda _: taking_over.work(context),
            health,
            lambda _: (topics.HEADS, last),
        ),
        joining(),
    )
