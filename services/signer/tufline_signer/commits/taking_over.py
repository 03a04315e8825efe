"""Takes over the last partition of ``heads``, makes the bootstrap final, and makes the commits from then on."""

from functools import partial

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import records
from tufline.bus import Message
from tufline.bus.follow import follow
from tufline.records import Bootstrap, BootstrapStarted, topics
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.task_groups import all_of
from tufline.trust.admin_state import Bootstrapped
from tufline_signer.commits.commit_worker import PART, CommitWorker, last_vector
from tufline_signer.context import SignerContext
from tufline_signer.heads import OwnedHeads, take_over
from tufline_signer.signing.key_selection import keys_of_bins, keys_of_role


async def work(context: SignerContext) -> None:
    """Take over the last partition of ``heads`` and make the commits, until cancelled.

    Args:
        context: shared by the workers of the process.

    Raises:
        FencedError: if another worker took it over.
        TuflineError: if the bus or a key fails; the caller starts again.
    """
    partitions = context.bus.partitions(topics.ARTIFACTS)
    began = context.clock.monotonic()
    async with take_over(context.bus, PART, partitions, PassedOver(context.health, f"{PART}.takeover")) as owned:
        context.clock.observe(owned.claimed_at, began)
        await _work(context, owned, partitions)


async def _work(context: SignerContext, owned: OwnedHeads, partitions: int) -> None:
    if context.admin.state.bootstrap is None:
        context.health.problem(PART, "waiting for the bootstrap: post it to /api/v1/bootstrap (see tufline init)")
    await context.released.known.wait()
    known = max(last_vector(owned, partitions).admin, await context.bus.end(topics.ADMIN, 0))
    repository = await context.admin.wait_for_bootstrap(lambda found: found.next_offset >= known)
    bootstrap = await _begin(context, owned, repository)
    worker = CommitWorker(context, owned, bootstrap)
    await worker.restore()
    await worker.publish_trust()
    following = (
        follow(
            context.bus,
            topics.HEADS,
            partition,
            0,
            partial(worker.take_heads, partition),
            partial(worker.caught_up, partition),
            worker.passed,
        )
        for partition in range(partitions)
    )
    try:
        await all_of(*following, worker.follow_admin(), worker.run())
    finally:
        worker.leave()


async def _begin(context: SignerContext, owned: OwnedHeads, repository: Bootstrapped) -> Bootstrap:
    """Make the bootstrap final, before anything of it is published. The order in ``admin`` decides between this record and a replacement.

    Returns:
        The bootstrap that is valid from now on.

    Raises:
        KeyUnavailableError: if its keys can't be used; it may be replaced until they can.
    """
    while not repository.begun:
        if Root.type not in owned.heads:
            roles = [Timestamp.type, Snapshot.type, *([] if repository.targets else [Targets.type])]
            under = [keys_of_role(repository, context.released, role, context.clock.earliest()) for role in roles]
            await context.keyring.prove([*under, keys_of_bins(repository, context.released)], PART)
        message = Message(topics.ADMIN, "begun", records.encode(BootstrapStarted(bootstrap=repository.bootstrap_offset)))
        (position,) = await context.bus.append([message])
        repository = await context.admin.wait_for_bootstrap(lambda found: found.next_offset > position.offset)  # noqa: B023
    return repository.bootstrap
