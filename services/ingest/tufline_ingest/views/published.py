"""The published state: read models of ``published`` and ``heads``.

Ingest calls no other service: it follows ``published``, where the publisher records each published commit, and ``heads``, where the signer
records where files are.
"""

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from tuf.api.metadata import Snapshot, Targets

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Position, Record
from tufline.bus.follow import follow
from tufline.bus.scan import scan
from tufline.config.settings import HELD_WARNING_FRACTION
from tufline.errors import RecordGoneError
from tufline.metadata import envelope
from tufline.metadata.bins import find_target
from tufline.metadata.delegations import NO_DELEGATIONS, Delegations
from tufline.metadata.snapshot import read_snapshot
from tufline.metadata.target import Target
from tufline.records import FileRef, Head, Progress, Proposed, Published, topics
from tufline.records.routing import Routing
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.task_groups import all_of
from tufline.trust import roles
from tufline.trust.delegated import read_custom
from tufline.views.published import follow_origin
from tufline_ingest import metrics
from tufline_ingest.errors import NotLiveError, NotNowError
from tufline_ingest.views import signed_by_people
from tufline_ingest.views.signed_by_people import SignedByPeople

HEADS_KEPT: Final = 8
"""How many heads of a role are kept: the signer may be this many versions ahead of the origin."""

WATCHED_REQUESTS: Final = 10_000
"""How many accepted requests can be timed until they are live; further ones are not timed."""

COUNTED_GAP: Final = 16
"""If at most this many offsets are not live yet, their records are counted one by one."""

CATCH_UP_SECONDS: Final = 2.0
"""How long a query waits for a head that has not been read yet."""


@dataclass(frozen=True, slots=True)
class PublishedArtifact:
    """A live artifact.

    Attributes:
        target: the target in the metadata.
        role: the custom role or the bin that it is in.
        role_version: of that role.
        snapshot_version: the version of the published snapshot.
    """

    target: Target
    role: str
    role_version: int
    snapshot_version: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """The accepted records that are not live yet.

    Attributes:
        count: the number of records; an estimate if there are many.
        since: when the oldest of them was appended, in milliseconds since 1970; None if there are none.
    """

    count: int
    since: int | None


class PublishedView:
    """The published commit of an origin, and the progress of the signer."""

    def __init__(self, bus: Bus, origin: str, passed: PassedOver | None = None) -> None:
        """Know nothing yet.

        Args:
            bus: the log.
            origin: its name.
            passed: notified of records that can't be read.
        """
        self._bus = bus
        self._passed = passed or PassedOver(Health(), origin)
        self._origin = origin
        self._changed = asyncio.Condition()
        self._progressed = asyncio.Condition()
        self._heads: dict[str, tuple[FileRef, ...]] = {}
        self._watched: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._snapshot: tuple[int, dict[str, int]] = (0, {})
        self._delegations: tuple[int, Delegations] = (0, NO_DELEGATIONS)
        self.published_known = asyncio.Event()
        """Set once the whole of ``published`` has been read."""
        self.heads_known = asyncio.Event()
        """Set once the whole of ``heads`` has been read."""
        self.expires: dict[str, str] = {}
        self.keyids: dict[str, tuple[str, ...]] = {}
        """For each role, the keys that signed its newest version."""
        self.versions: dict[str, int] = {}
        """For each role, its newest version on the log."""
        self.progress: dict[int, Progress] = {}
        """For each partition of ``artifacts``, the progress of its bins' writer."""
        self.people = SignedByPeople()
        """What waits for people to sign custom roles."""
        self.published: Published | None = None

    async def run(self) -> None:
        """Follow the log, until cancelled."""
        self.heads_known.clear()  # both topics are read from the start, also after a restart of this task
        partitions = range(self._bus.partitions(topics.HEADS))
        unread = set(partitions)

        def caught_up(partition: int) -> None:
            unread.discard(partition)
            if not unread:
                self.heads_known.set()

        heads = (
            follow(self._bus, topics.HEADS, number, 0, self._take_heads, partial(caught_up, number), self._passed) for number in partitions
        )
        await all_of(follow_origin(self._bus, self._origin, self._take_published, self.published_known.set, self._passed), *heads)

    def may_have(self, role: str) -> bool:
        """Return whether the log has a version of a role, or a head that can't be read and may name one.

        Args:
            role: its name.
        """
        return role in self.versions or self._passed.is_in_doubt(topics.HEADS, role)

    async def _take_published(self, published: Published) -> None:
        if self.published is not None and _progress(published) < _progress(self.published):
            return  # from a publisher that was stopped, and reports late what it had published: the newer commit stays the published one
        self.published = published
        self._observe(published)
        async with self._changed:
            self._changed.notify_all()

    async def _take_heads(self, batch: Sequence[Record]) -> None:
        for record in batch:
            content = self._passed.decode(records.heads_decoder, record)
            self.people.take(record.partition, record.key, content)
            if isinstance(content, Head):
                known = self._heads.get(record.key, ())
                ref = FileRef(content.version, content.offset, content.sha256)
                if ref not in known:  # a head is repeated when its bin has applied changes without a new version
                    self._heads[record.key] = (*known[1 - HEADS_KEPT :], ref)
                self.expires[record.key] = content.expires
                self.keyids[record.key] = tuple(map(sys.intern, content.keyids))
                self.versions[record.key] = content.version
            elif isinstance(content, Progress):
                self.progress[record.partition] = content
        async with self._progressed:
            self._progressed.notify_all()

    async def backlog(self) -> Backlog:
        """Return the accepted records of ``artifacts`` that are not live yet.

        Returns:
            How many records there are, and since when they wait.

        Raises:
            BusError: if the log can't be read now.
        """
        found = await asyncio.gather(*map(self._behind, range(self._bus.partitions(topics.ARTIFACTS))))
        return Backlog(sum(one.count for one in found), min((one.since for one in found if one.since is not None), default=None))

    async def _behind(self, partition: int) -> Backlog:
        end = await self._bus.end(topics.ARTIFACTS, partition)
        live = self.published.vector.artifacts[partition] if self.published else 0
        if end <= live:
            return Backlog(0, None)
        # Not every offset has a record: the last ones before the end may have none.
        is_counted = end <= live + COUNTED_GAP
        count, since = 0, None
        max_bytes = DEFAULT_FETCH_BYTES if is_counted else 1
        async with aclosing(scan(self._bus, topics.ARTIFACTS, partition, live, end, max_bytes=max_bytes, passed=self._passed)) as batches:
            async for batch in batches:
                count += len(batch)
                since = batch[0].time if since is None else since
                if not is_counted:
                    return Backlog(end - live, since)
        return Backlog(count, since)

    async def wait_for_change(self, seconds: float, *, of_progress: bool = False) -> None:
        """Wait until another commit is published, or the time is over.

        Args:
            seconds: how long at most.
            of_progress: wait until a writer of bins makes progress instead, published or not.
        """
        changed = self._progressed if of_progress else self._changed
        try:
            async with asyncio.timeout(seconds), changed:
                await changed.wait()
        except TimeoutError:
            pass

    def watch(self, positions: Sequence[Position]) -> None:
        """Time how long a request takes until it is live.

        Args:
            positions: the positions of its records; the last one is watched.
        """
        if positions and len(self._watched) < WATCHED_REQUESTS:
            last = positions[-1]
            self._watched[last.partition, last.offset] = time.perf_counter()

    def _observe(self, published: Published) -> None:
        covered = published.vector.artifacts
        now = time.perf_counter()
        for partition, offset in [place for place in self._watched if place[1] < covered[place[0]]]:
            metrics.visible_seconds.observe(now - self._watched.pop((partition, offset)))

    async def find(self, path: str, routing: Routing) -> PublishedArtifact:
        """Find an artifact in the published metadata, in the same roles and in the same order as a client.

        Args:
            path: the target path.
            routing: of the repository; the custom roles that count are those that the published targets names.

        Returns:
            The artifact.

        Raises:
            NotLiveError: if it is not live.
            NotNowError: if the published metadata can't be read now.
        """
        published = self.published
        if published is None:
            raise NotLiveError("nothing is published yet")
        versions = await self._versions(published.snapshot)
        custom = await self._custom(versions[Targets.type]) if routing.versions else NO_DELEGATIONS
        for role in routing.visited(path, custom):
            content = await self._read(role, await self._file(role, versions.get(role, 0)))
            target = find_target(envelope.disassemble(content).signed, path)
            if target is not None:
                return PublishedArtifact(target, role, versions[role], published.snapshot.version)
        raise NotLiveError(f"{path!r} is not live")

    async def next_version(self, role: str, routing: Routing) -> tuple[Proposed, bytes]:
        """Make the version of a custom role that waits for people to sign it.

        Args:
            role: the role's name.
            routing: of the repository.

        Returns:
            The version, and the bytes to sign.

        Raises:
            NotNowError: if it can't be made now.
        """
        proposed = self.people.proposed(role)
        if proposed is None:
            raise NotNowError(f"the next version of {role} is being made")
        changes, base = self.people.changes(role, proposed.end), None
        if proposed.base:
            base = await self._read(role, await self._file(role, proposed.base))
        # In a thread: megabytes take a tenth of a second.
        return proposed, await asyncio.to_thread(signed_by_people.make, role, proposed, base, changes, routing)

    async def names_by_newest_keys(self, role: str, delegations: Delegations) -> bool:
        """Return whether the published targets name a custom role by the keys that the newest delegations give it.

        Args:
            role: the role's name.
            delegations: the newest delegations.

        Raises:
            NotNowError: if the published targets can't be read now.
        """
        versions, newest = await self.versions_published(), delegations.find(role)
        shown = (await self._custom(versions[Targets.type])).find(role) if versions else None
        return newest is None or (shown is not None and (shown.keyids, shown.threshold) == (newest.keyids, newest.threshold))

    async def versions_published(self) -> Mapping[str, int]:
        """Return the version of each role that the published snapshot names; empty before the first.

        Raises:
            NotNowError: if the published snapshot can't be read now.
        """
        return await self._versions(self.published.snapshot) if self.published is not None else {}

    async def _versions(self, snapshot: FileRef) -> dict[str, int]:
        known, versions = self._snapshot
        if known != snapshot.version:
            content = await self._read(Snapshot.type, snapshot)
            versions = read_snapshot(envelope.disassemble(content).signed)
            self._snapshot = snapshot.version, versions
        return versions

    async def _custom(self, version: int) -> Delegations:
        """Return the custom delegations of a version of targets."""
        if self._delegations[0] != version:
            content = await self._read(Targets.type, await self._file(Targets.type, version))

            def read() -> Delegations:
                custom = read_custom(roles.parse(Targets, content).signed)
                custom.index()
                return custom

            # In a thread: thousands of custom roles take tens of milliseconds.
            self._delegations = version, await asyncio.to_thread(read)
        return self._delegations[1]

    async def _file(self, role: str, version: int) -> FileRef:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP_SECONDS
        while True:
            known = self._heads.get(role, ())
            found = next((ref for ref in known if ref.version == version), None)
            if found is not None:
                return found
            left = deadline - loop.time()
            if left <= 0 or (known and known[0].version > version):
                raise NotNowError(f"version {version} of {role} is not known here yet")
            await self.wait_for_change(min(left, CATCH_UP_SECONDS / 20))

    async def _read(self, key: str, ref: FileRef) -> bytes:
        try:
            return await self._bus.read(topics.METADATA, 0, ref.offset, key=key, sha256=ref.sha256)
        except RecordGoneError:
            raise NotNowError(f"version {ref.version} of {key} has just been superseded") from None


def _progress(published: Published) -> tuple[int, int]:
    return published.timestamp.version, sum(published.vector.artifacts) + published.vector.publishes


def describe_held(progress: Mapping[int, Progress]) -> dict[str, str]:
    """Describe that few more changes can be held.

    Args:
        progress: partition of ``artifacts`` to the progress of its bins' writer.

    Returns:
        For the part of health ``held``, a sentence about the fullest partition; empty if all have room.
    """
    full = [(one.held / one.max_held, partition) for partition, one in progress.items() if one.max_held]
    share, partition = max(full, default=(0.0, 0))
    if share <= HELD_WARNING_FRACTION:
        return {}
    held, limit = progress[partition].held, progress[partition].max_held
    advice = "publish them (POST /api/v1/artifacts/publish) before further ones are refused"
    return {"held": f"partition {partition} holds {held} of at most {limit} changes (signer.max_held_changes): {advice}"}
