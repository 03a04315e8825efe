"""What is live: read models of ``published`` and ``heads``.

Ingest asks no other service: it follows what the publisher appends when an origin shows a commit, and where the signer says the files are.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Snapshot

from tufline import metafile, records, topics
from tufline.bins import find_target
from tufline.bus import Bus, Position, Record
from tufline.bus.last import last_record
from tufline.errors import RecordGoneError
from tufline.follow import follow
from tufline.model import Target
from tufline.records import FileRef, Head, Published, Settings
from tufline.snapshot import read_snapshot
from tufline.tasks import all_of
from tufline_ingest import metrics
from tufline_ingest.errors import NotLiveError, NotNowError

HEADS_KEPT: Final = 8
"""How many heads of a role are kept: the signer may be that many versions ahead of the origin."""

WATCHED_REQUESTS: Final = 10_000
"""How many accepted requests are timed until they are live; beyond that some are not."""

CATCH_UP_SECONDS: Final = 2.0
"""How long a query waits for a head that is on its way."""


@dataclass(frozen=True, slots=True)
class Found:
    """A live artifact.

    Attributes:
        target: what its metadata says.
        role: the bin that it is in.
        role_version: of the bin.
        snapshot_version: of the published snapshot.
    """

    target: Target
    role: str
    role_version: int
    snapshot_version: int


class Live:
    """What an origin shows."""

    def __init__(self, bus: Bus, origin: str) -> None:
        """Know nothing yet.

        Args:
            bus: the log.
            origin: its name.
        """
        self._bus = bus
        self._origin = origin
        self._changed = asyncio.Condition()
        self._heads: dict[str, tuple[FileRef, ...]] = {}
        self._watched: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._snapshot: tuple[int, dict[str, int]] = (0, {})
        self.expires: dict[str, str] = {}
        self.published: Published | None = None

    async def run(self) -> None:
        """Follow the log, for ever."""
        last = await last_record(self._bus, topics.PUBLISHED, 0, lambda record: record.key == self._origin)
        start = await self._bus.end(topics.PUBLISHED, 0) if last is None else last.offset
        partitions = self._bus.partitions(topics.HEADS)
        heads = (follow(self._bus, topics.HEADS, number, 0, self._take_heads) for number in range(partitions))
        await all_of(follow(self._bus, topics.PUBLISHED, 0, start, self._take_published), *heads)

    async def _take_published(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if record.key == self._origin:
                self.published = records.decode(records.published_decoder, record.value)
        if self.published is not None:
            self._observe(self.published)
        async with self._changed:
            self._changed.notify_all()

    async def _take_heads(self, batch: Sequence[Record]) -> None:
        for record in batch:
            content = records.decode(records.heads_decoder, record.value)
            if isinstance(content, Head):
                known = self._heads.get(record.key, ())
                ref = FileRef(content.version, content.offset, content.sha256)
                self._heads[record.key] = (*known[1 - HEADS_KEPT :], ref)
                self.expires[record.key] = content.expires

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until something else is published, or the time is over.

        Args:
            seconds: how long at most.
        """
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()
        except TimeoutError:
            pass

    def watch(self, positions: Sequence[Position]) -> None:
        """Time how long a request takes until it is live.

        Args:
            positions: of its records; the last one is watched.
        """
        if positions and len(self._watched) < WATCHED_REQUESTS:
            last = positions[-1]
            self._watched[last.partition, last.offset] = time.perf_counter()

    def _observe(self, published: Published) -> None:
        covered = published.vector.artifacts
        now = time.perf_counter()
        for partition, offset in [place for place in self._watched if place[1] < covered[place[0]]]:
            metrics.visible_seconds.observe(now - self._watched.pop((partition, offset)))

    async def find(self, path: str, settings: Settings) -> Found:
        """Find what the published metadata say of an artifact.

        Args:
            path: the target path.
            settings: of the repository.

        Returns:
            The artifact.

        Raises:
            NotLiveError: if it is not live.
            NotNowError: if what is published can't be read now.
        """
        published = self.published
        if published is None:
            raise NotLiveError("nothing is published yet")
        layout = settings.layout
        role = layout.name(layout.index_of(path))
        versions = await self._versions(published.snapshot)
        content = await self._read(role, await self._file(role, versions.get(role, 0)))
        target = find_target(metafile.disassemble(content).signed, path)
        if target is None:
            raise NotLiveError(f"{path!r} is not live")
        return Found(target, role, versions[role], published.snapshot.version)

    async def _versions(self, snapshot: FileRef) -> dict[str, int]:
        known, versions = self._snapshot
        if known != snapshot.version:
            content = await self._read(Snapshot.type, snapshot)
            versions = read_snapshot(metafile.disassemble(content).signed)
            self._snapshot = snapshot.version, versions
        return versions

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


def summarize_expiries(expires: dict[str, str], bins: set[str]) -> dict[str, str]:
    """Say when each role expires; of the bins, the first.

    Args:
        expires: role to expiry.
        bins: the roles that are bins.

    Returns:
        Role, or ``bins``, to expiry.
    """
    summary = {role: moment for role, moment in expires.items() if role not in bins}
    of_bins = [moment for role, moment in expires.items() if role in bins]
    return summary | ({"bins": min(of_bins)} if of_bins else {})
