"""The commit worker: the only writer of root, targets, snapshot and timestamp.

Workflow. Take over the last partition of ``heads`` (``tufline_signer.commits.taking_over``). At the bootstrap, append root and targets.
Follow all other partitions of ``heads``. Once every bin exists, and from then on whenever something has changed, append one new snapshot
with its timestamp: immediately after a quiet time, otherwise at most once in the commit interval. The vector that a commit covers is in the
timestamp's headers; if only the vector has moved, the same timestamp is appended again with the new one. Snapshot and timestamp are renewed
before they expire, even if nothing else happens.

A snapshot never goes back behind the last one: it starts from the versions that the last one names. It names a bin only in a version that
verifies under the targets that it names. If a bin's newest version does not, the progress of its partition stops until the bin is signed
again.

A submitted version of root or targets is released once everything that it governs verifies under it (``tufline_signer.commits.release``):
targets with the first commit that may name them, a root by itself, when timestamp and snapshot have been signed for it long enough.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import structlog
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import records
from tufline.bus import Message, Position, Record
from tufline.metadata import envelope
from tufline.metadata.delegations import NO_DELEGATIONS
from tufline.metadata.envelope import parse_expires
from tufline.metadata.snapshot import read_snapshot
from tufline.records import PROGRESS_KEY, Bootstrap, Committed, Head, Vector, topics
from tufline.records.metadata import VECTOR_HEADER
from tufline.runtime.passed_over import PassedOver
from tufline.trust import roles
from tufline.trust.admin_state import Bootstrapped
from tufline.trust.roles import RoleKeys
from tufline_signer import metrics
from tufline_signer.commits.files import CommitFiles, delegated_of
from tufline_signer.commits.online_targets import OnlineTargets
from tufline_signer.commits.release import (
    RootRelease,
    covered_in_admin,
    current_root,
    lost_roots,
    next_submitted_targets,
    targets_stand,
    unfinished_renewals,
    waits_for_people,
)
from tufline_signer.commits.state import CommitState
from tufline_signer.commits.trust_report import TrustReport, describe_left, describe_lost_root, describe_missing, describe_withheld
from tufline_signer.context import SignerContext
from tufline_signer.heads import OwnedHeads
from tufline_signer.signing.key_selection import roots_in_grace
from tufline_signer.signing.keyring import Sign, SignedFile, signed_by_people

PART: Final = "signer.commits"
"""The name of this work: in health, in logs, and as writer id."""

_log = structlog.get_logger(__name__)


def last_vector(owned: OwnedHeads, partitions: int) -> Vector:
    """Return how far the last commit goes.

    Args:
        owned: the last partition of ``heads``.
        partitions: number of partitions of ``artifacts``.

    Returns:
        The last commit's vector; all zeros before the first commit.
    """
    return owned.progress.vector if isinstance(owned.progress, Committed) else Vector([0] * partitions, 0)


class CommitWorker:
    """Makes the commits, after taking over the last partition of ``heads``."""

    def __init__(self, context: SignerContext, owned: OwnedHeads, bootstrap: Bootstrap) -> None:
        """Start with the state read from the log.

        Args:
            context: shared by the workers of the process.
            owned: the last partition of ``heads``, taken over.
            bootstrap: the repository's bootstrap.
        """
        self._context = context
        self._owned = owned
        self._bootstrap = bootstrap
        self._committed = last_vector(owned, bootstrap.settings.partitions)
        self.passed = PassedOver(context.health, PART)
        self._state = CommitState(bootstrap.settings, self._committed, self.passed)
        self._files = CommitFiles(context, bootstrap, owned.heads, PART)
        self._online_targets = OnlineTargets()
        self._root_release = RootRelease()
        self._catch_all_keys: RoleKeys | None = None
        self._released = sum(version.offset < self._committed.admin for version in context.admin.repository.delegations)
        self._waiting: tuple[int, ...] = ()
        self._left: tuple[str, ...] = ()
        self._expected: tuple[int, int] | None = None
        self._coming: dict[str, float] = {}
        self._unread = {*range(bootstrap.settings.partitions)}
        self._report = TrustReport(context.health, PART, bootstrap)
        self._news = asyncio.Event()

    @property
    def _heads(self) -> dict[str, Head]:
        return self._owned.heads

    @property
    def _repository(self) -> Bootstrapped:
        return self._context.admin.repository

    @property
    def _online(self) -> bool:
        return self._bootstrap.targets is None

    async def restore(self) -> None:
        """Read back the bins' current keys from the targets, and the last snapshot, so that no version goes back."""
        if head := self._heads.get(Targets.type):
            delegated = await delegated_of(await self._files.read_back(Targets.type, head))
            if self._online:
                await asyncio.to_thread(self._online_targets.find, delegated)
            self._state.name_under(delegated)
        if (catch_all := self._state.delegated.catch_all if head else None) is not None:
            content = await self._files.read_back(catch_all, self._heads[catch_all])
            self._catch_all_keys = roles.bin_keys(roles.parse(Targets, content).signed)
        if head := self._heads.get(Snapshot.type):
            content = await self._files.read_back(Snapshot.type, head)
            for role, version in read_snapshot(envelope.disassemble(content).signed).items():
                self._state.set(role, version)
            self._state.changed = False  # clients have this snapshot: a restart alone makes no new one

    async def publish_trust(self) -> None:
        """Append root and targets of the bootstrap, unless they are on the log."""
        if Root.type in self._heads:
            return
        submitted = self._bootstrap.targets
        root = signed_by_people(Root.type, self._bootstrap.root)
        first = self._repository.roots[0].signed
        if submitted is None:
            async with self._context.keyring.together(PART) as sign:
                targets, delegated = await self._files.make_targets(sign, 1, first)
            self._online_targets.name(delegated, NO_DELEGATIONS)
        else:
            targets = signed_by_people(Targets.type, submitted)
            delegated = await delegated_of(targets.content)
        await self._append([root, targets])
        self._state.name_under(delegated)

    async def _append(self, files: Sequence[SignedFile], vector: Vector | None = None) -> None:
        # The headers of the timestamp, the last file, have the vector that the commit covers.
        covers = {} if vector is None else {VECTOR_HEADER: records.encode_vector(vector)}
        messages = [*(file.message() for file in files[:-1]), files[-1].message(covers)]
        heads: dict[str, Head] = {}

        def then(positions: Sequence[Position]) -> list[Message]:
            heads.update({file.role: file.head(position) for file, position in zip(files, positions, strict=True)})
            named = {role: records.encode(head) for role, head in heads.items()}
            named[PROGRESS_KEY] = records.encode(Committed(vector=vector or self._committed))
            return [Message(topics.HEADS, key, value, self._owned.partition) for key, value in named.items()]

        began = self._context.clock.monotonic()
        positions = await self._owned.writer.commit(messages, then)
        self._context.clock.observe(positions[-1].time, began)
        self._heads.update(heads)
        self._committed = vector or self._committed
        for role, head in heads.items():
            metrics.expires.labels(role).set(parse_expires(head.expires).timestamp())

    async def take_heads(self, partition: int, batch: Sequence[Record]) -> None:
        """Apply new heads and progress.

        Args:
            partition: partition of ``heads``.
            batch: the partition's next records.
        """
        self._state.take(partition, batch)
        self._news.set()

    def caught_up(self, partition: int) -> None:
        """Learn that all heads of a partition have been read that were on the log at the start.

        Args:
            partition: partition of ``heads``.
        """
        self._unread.discard(partition)
        self._news.set()

    async def follow_admin(self) -> None:
        """Wake the worker whenever ``admin`` has a new record, until cancelled."""
        seen = 0
        while True:
            seen = (await self._context.admin.wait_for(lambda state: state.next_offset > seen)).next_offset  # noqa: B023 (awaited at once)
            self._news.set()

    async def run(self) -> None:
        """Commit whenever there are changes or a role approaches its expiry, until cancelled."""
        config = self._context.config
        loop = asyncio.get_running_loop()
        while True:
            # A request's changes are in several partitions, whose workers finish shortly after each other: one commit covers them all.
            await asyncio.sleep(config.commit_delay)
            began = loop.time()
            if await self.commit():
                await asyncio.sleep(max(0.0, began + config.commit_interval - loop.time()))
            try:
                waits = self._root_release.wait(loop.time()), self._online_targets.wait(loop.time())
                async with asyncio.timeout(min(config.renewal_check, *waits)):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def commit(self) -> bool:
        """Make a commit, if one is needed.

        Returns:
            Whether a commit was made.
        """
        self._news.clear()
        if self._unread:
            return False  # by older heads, roles would seem to be missing
        if unknown := frozenset(self._state.unknown):
            known = await self._context.bus.end(topics.ADMIN, 0)
            await self._context.admin.wait_for(lambda state: state.next_offset >= known)
        self._state.expect(self._expect(), unknown)
        if missing := self._state.missing:
            self._context.health.problem(PART, describe_missing(missing, self._bootstrap.settings.number_of_bins))
            return False
        now = self._context.clock.latest()
        with metrics.commit_seconds.time():
            kind = await self._commit(now)
            await self._release_root()
        self._report.update(self._heads, self._context.admin.state, self._describe_withheld(), now)
        if kind:
            metrics.commits.labels(kind).inc()
        return bool(kind)

    def _describe_withheld(self) -> str:
        of_roles = describe_withheld(self._repository, self._state)
        return "; ".join(filter(None, (describe_left(self._left), of_roles)))

    def _expect(self) -> dict[str, float]:
        """Return the custom roles of the delegations that targets does not follow yet, and of those that it follows."""
        routing = self._repository.routing
        if (expected := (self._released, len(routing.versions))) != self._expected:
            self._expected = expected
            versions = routing.versions[-1:] if self._online else routing.versions[max(0, self._released - 1) :]
            names = {role.name for version in versions for role in version.delegations.roles}
            self._coming = {name: routing.added(name) if routing.delegations.find(name) else -1 for name in names}
        return self._coming

    async def _commit(self, now: datetime) -> str:
        due = {role for role in (Snapshot.type, Timestamp.type) if await self._files.is_due(role, now)}
        async with self._context.keyring.together(PART) as sign:
            files, vector = await self._make_files(sign, now, due)
        if not files:
            return "" if vector == self._committed else await self._append_vector(vector)
        await self._append(files, vector)
        _log.info("commits.committed", version=files[-1].version, roles=[file.role for file in files], vector=vector.artifacts)
        return files[0].role

    async def _make_files(self, sign: Sign, now: datetime, due: Collection[str]) -> tuple[list[SignedFile], Vector]:
        """Make the files of a commit, the timestamp last.

        Args:
            sign: signs payloads; see ``Keyring.together``.
            now: current time, with a time zone.
            due: which of snapshot and timestamp must be renewed, whether or not anything has changed.

        Returns:
            The files, none if nothing has changed; and the vector that the commit covers.
        """
        state = self._state
        lost = lost_roots(self._repository, self._heads)
        current = current_root(self._repository, self._heads).signed
        root = lost[-1].signed if lost else current
        before = state.delegated, self._released, self._waiting
        targets = await self._next_targets(sign, root, now)
        targets_version = targets.version if targets else self._heads[Targets.type].version
        if lost and waits_for_people(self._repository, targets_version, current, root):
            lost, root = [], current
        if lost and not targets_stand(self._repository, targets_version, state, root):
            self._context.health.problem(PART, describe_lost_root(root))
            state.name_under(before[0])
            self._released, self._waiting = before[1:]
            return [], self._committed
        state.expect(self._expect(), ())  # a role that these targets no longer name holds nothing back any more
        files = [*(signed_by_people(Root.type, submitted.metadata) for submitted in lost), *([targets] if targets else [])]
        state.set(Targets.type, targets_version)
        if (catch_all := await self._next_catch_all(sign, now)) is not None:
            files.append(catch_all)
            state.set(catch_all.role, catch_all.version)
        has_snapshot = bool(files or state.changed or Snapshot.type in due)
        made = {file.role for file in files} | ({Snapshot.type, Timestamp.type} if has_snapshot else {Timestamp.type} & {*due})
        unfinished = unfinished_renewals(self._repository, self._heads, state, made, self._committed.end)
        in_admin, end, waiting = covered_in_admin(self._repository, root.version, targets_version, unfinished, self._waiting)
        vector = Vector(list(state.covered), in_admin, state.publishes, end, waiting)
        if has_snapshot:
            # Heads applied after this line are for the next snapshot: this one is encoded before any other task can run.
            state.changed = False
            files.append(await self._files.make_snapshot(sign, self._state.snapshot, now))
            files.append(await self._files.make_timestamp(sign, files[-1].version, files[-1].content, now))
        elif Timestamp.type in due:
            head = self._heads[Snapshot.type]
            files.append(await self._files.make_timestamp(sign, head.version, await self._files.read_back(Snapshot.type, head), now))
        return files, vector

    async def _next_targets(self, sign: Sign, root: Root, now: datetime) -> SignedFile | None:
        """Make or take the next version of targets, and name what it delegates to; None if there is no need for one."""
        if self._online:
            now_here = asyncio.get_running_loop().time()
            choice = self._online_targets.choose(self._repository, self._state, self._committed, now_here)
            targets = None
            if not choice.is_same or await self._files.is_due(Targets.type, now):
                version = self._heads[Targets.type].version + 1
                targets, delegated = await self._files.make_targets(sign, version, choice.root, choice.custom)
                self._online_targets.name(delegated, choice.custom)
                self._state.name_under(delegated)
            self._left, self._waiting = choice.left, choice.waiting
            return targets
        in_grace = roots_in_grace(self._repository, self._context.released, self._context.clock.earliest())
        submitted = next_submitted_targets(self._repository, self._heads, self._state, root, in_grace)
        if submitted is not None:
            self._released = sum(version.offset <= submitted.offset for version in self._repository.delegations)
        self._waiting = tuple(version.offset for version in self._repository.delegations[self._released :])
        if submitted is None:
            return None
        targets = signed_by_people(Targets.type, submitted.metadata)
        self._state.name_under(await delegated_of(targets.content))
        return targets

    async def _next_catch_all(self, sign: Sign, now: datetime) -> SignedFile | None:
        """Make the catch-all role, if targets delegates to it and its current version is due or names other keys."""
        delegated = self._state.delegated
        if delegated.catch_all is None:
            return None
        is_same = self._catch_all_keys is not None and roles.same_keys(delegated.bins, self._catch_all_keys)
        if is_same and not await self._files.is_due(delegated.catch_all, now):
            return None
        made = await self._files.make_catch_all(sign, delegated.bins)
        self._catch_all_keys = delegated.bins
        return made

    async def _release_root(self) -> None:
        """Release the next root, once everything that it governs has verified under it for long enough."""
        delay = self._context.config.release_delay_of(self._context.admin.state.profile)
        submitted = self._root_release.due(self._repository, self._heads, self._state, asyncio.get_running_loop().time(), delay)
        if submitted is None:
            return
        await self._append([signed_by_people(Root.type, submitted.metadata)])
        self._news.set()  # more of admin is covered now
        _log.info("commits.root_released", version=submitted.signed.version)

    async def _append_vector(self, vector: Vector) -> str:
        head = self._heads[Timestamp.type]
        content = await self._files.read_back(Timestamp.type, head)
        file = SignedFile(Timestamp.type, head.version, head.expires, content, head.keyids)
        await self._append([file], vector)
        return "vector"

    def leave(self) -> None:
        """Stop reporting: another process makes the commits now."""
        self._report.withdraw()
        self.passed.forget()
