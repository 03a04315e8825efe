"""When a new root is published: never while the published commit does not verify under it.

Clients find a root by its number alone, so they see it as soon as it is uploaded. The signer releases a root when timestamp, snapshot and
targets are signed for it, but a publisher may be behind. So the commits before a root are published before it, and a root under which the
published commit does not verify waits for a commit that does. There is one exception: the next commit does not verify under the
published root either (its keys are lost, or this publisher was down for longer than the grace time). Then the root is published
immediately before that commit.

In: root records of the log, the origin. Out: root files at the origin.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise

from tuf.api.metadata import Root, Snapshot, Targets

from tufline.bus import Record
from tufline.errors import ForeignOriginError, MetadataError
from tufline.metadata import envelope
from tufline.origin.provenance import intact_root
from tufline.origin.store import TIMESTAMP, Store
from tufline.records.metadata import role_of_key
from tufline_publisher.origin_state import Origin
from tufline_publisher.trust_chain import stands_under, targets_named

Replace = Callable[[str, bytes, bytes | None], Awaitable[None]]
"""``Store.replace``, repeated while another process keeps the origin locked: name, new content, expected current content."""


def is_root(record: Record) -> bool:
    """Return whether a record of ``metadata`` is a root.

    Args:
        record: any record of ``metadata``.
    """
    return role_of_key(record.key) == Root.type


def before_each_root(batch: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Split a batch so that each root starts a new part.

    Args:
        batch: records of ``metadata``.

    Yields:
        The parts; a single empty one for an empty batch.
    """
    starts = [0, *(number for number, record in enumerate(batch) if number and is_root(record)), len(batch)]
    for start, end in pairwise(starts):
        if start < end or not batch:
            yield batch[start:end]


class Roots:
    """The roots of an origin, and the roots that are held back."""

    def __init__(self, store: Store, replace: Replace) -> None:
        """Start with no root held back.

        Args:
            store: the origin.
            replace: writes a root to the origin.
        """
        self._store = store
        self._replace = replace
        self._held: list[Record] = []

    @property
    def first_held(self) -> int | None:
        """The offset of the first root that is held back; None if there is none."""
        return self._held[0].offset if self._held else None

    async def take(self, record: Record, origin: Origin) -> None:
        """Publish a root if the published commit verifies under it; otherwise hold it back.

        Args:
            record: the root's record, already checked by the chain.
            origin: the state of the origin.
        """
        if _name(record) not in origin.names and (self._held or not await self._stands(record.value, origin)):
            self._held.append(record)
        else:
            await self._put([record], origin)

    async def before(self, timestamp: bytes, snapshot: int, origin: Origin) -> None:
        """Publish the held roots before a commit, if that commit does not verify under the published root.

        Args:
            timestamp: bytes of the commit's timestamp file.
            snapshot: version of the snapshot that it names, which is at the origin.
            origin: the state of the origin.
        """
        if not self._held:
            return
        published = await self._store.get(envelope.file_name(Root.type, origin.newest_root))
        if published is None or not await self._commit_stands(published, timestamp, snapshot):
            await self._put_held(origin)

    async def after(self, timestamp: bytes, snapshot: int, origin: Origin) -> None:
        """Publish the held roots after a commit, if that commit verifies under the last of them.

        Args:
            timestamp: bytes of the commit's timestamp file.
            snapshot: version of the snapshot that it names, which is at the origin.
            origin: the state of the origin.
        """
        if self._held and await self._commit_stands(self._held[-1].value, timestamp, snapshot):
            await self._put_held(origin)

    async def _stands(self, root: bytes, origin: Origin) -> bool:
        timestamp = await self._store.get(TIMESTAMP)
        return timestamp is None or await self._commit_stands(root, timestamp, origin.snapshot.version)

    async def _commit_stands(self, root: bytes, timestamp: bytes, snapshot: int) -> bool:
        content = await self._store.get(envelope.file_name(Snapshot.type, snapshot))
        try:
            named = 0 if content is None else targets_named(content)
        except MetadataError:
            return False
        targets = await self._store.get(envelope.file_name(Targets.type, named)) if named else None
        return content is not None and targets is not None and stands_under(root, timestamp, content, targets)

    async def _put_held(self, origin: Origin) -> None:
        await self._put(self._held, origin)
        self._held = []

    async def _put(self, roots: Sequence[Record], origin: Origin) -> None:
        for record in roots:
            name = _name(record)
            there = await self._store.get(name)
            if there != record.value:
                if there is not None and intact_root(there) is not None:
                    differs = f"the origin's {name} differs from this log's: another log published it"
                    raise ForeignOriginError(f"{differs}; see docs/how-to/fsck.md")
                await self._replace(name, record.value, there)
            origin.names.add(name)


def _name(record: Record) -> str:
    return f"{record.key}.json"
