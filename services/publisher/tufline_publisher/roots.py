"""When a new root is put at the origin: never while the commit that is shown there does not verify under it.

A root is the one file that clients find by its number alone, so it is seen at once. The signer brings it when timestamp and snapshot are
signed for it; but a publisher may be behind. So the commits before a root are shown before it, and a root under which the shown
commit does not stand waits for one that does. Only where a commit comes that does not stand under the shown root either (its keys are
lost, or this publisher has slept longer than the grace time) the root is put first, a moment before that commit.

In: root records of the log, the origin. Out: root files at the origin.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise

from tuf.api.metadata import Root, Snapshot

from tufline.bus import Record
from tufline.errors import ForeignOriginError
from tufline.metadata import envelope
from tufline.origin.provenance import whole_root
from tufline.origin.store import TIMESTAMP, Store
from tufline.records.metadata import role_of_key
from tufline_publisher.chain import stands_under
from tufline_publisher.origin_state import Origin

Replace = Callable[[str, bytes, bytes | None], Awaitable[None]]
"""``Store.replace``, however long another process keeps the origin locked: name, content, and the content that is expected there."""


def is_root(record: Record) -> bool:
    """Say whether a record of ``metadata`` is a root.

    Args:
        record: any.
    """
    return role_of_key(record.key) == Root.type


def before_each_root(batch: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut a batch so that each root begins a part.

    Args:
        batch: records of ``metadata``.

    Yields:
        The parts; one that is empty for an empty batch.
    """
    begins = [0, *(number for number, record in enumerate(batch) if number and is_root(record)), len(batch)]
    for begin, end in pairwise(begins):
        if begin < end or not batch:
            yield batch[begin:end]


class Roots:
    """The roots of an origin, and those that wait to be put there."""

    def __init__(self, store: Store, replace: Replace) -> None:
        """Hold nothing back.

        Args:
            store: the origin.
            replace: puts a root there.
        """
        self._store = store
        self._replace = replace
        self._held: list[Record] = []

    @property
    def first_held(self) -> int | None:
        """The offset of the first root that waits; None if none does."""
        return self._held[0].offset if self._held else None

    async def take(self, record: Record, origin: Origin) -> None:
        """Put a root at the origin, if clients there can go on under it; else hold it back.

        Args:
            record: of the root; checked by the chain.
            origin: what is there.
        """
        if _name(record) not in origin.names and (self._held or not await self._stands(record.value, origin)):
            self._held.append(record)
        else:
            await self._put([record], origin)

    async def before(self, timestamp: bytes, snapshot: int, origin: Origin) -> None:
        """Make ready for a commit that is about to be shown.

        Args:
            timestamp: the file.
            snapshot: version of the snapshot that it names, which is at the origin.
            origin: what is there.
        """
        if not self._held:
            return
        shown = await self._store.get(envelope.file_name(Root.type, origin.newest_root))
        if shown is None or not await self._commit_stands(shown, timestamp, snapshot):
            await self._put_held(origin)

    async def after(self, timestamp: bytes, snapshot: int, origin: Origin) -> None:
        """Put the roots that waited for a commit, now that it is shown.

        Args:
            timestamp: the file.
            snapshot: version of the snapshot that it names, which is at the origin.
            origin: what is there.
        """
        if self._held and await self._commit_stands(self._held[-1].value, timestamp, snapshot):
            await self._put_held(origin)

    async def _stands(self, root: bytes, origin: Origin) -> bool:
        timestamp = await self._store.get(TIMESTAMP)
        return timestamp is None or await self._commit_stands(root, timestamp, origin.snapshot.version)

    async def _commit_stands(self, root: bytes, timestamp: bytes, snapshot: int) -> bool:
        content = await self._store.get(envelope.file_name(Snapshot.type, snapshot))
        return content is not None and stands_under(root, timestamp, content)

    async def _put_held(self, origin: Origin) -> None:
        await self._put(self._held, origin)
        self._held = []

    async def _put(self, roots: Sequence[Record], origin: Origin) -> None:
        for record in roots:
            name = _name(record)
            there = await self._store.get(name)
            if there != record.value:
                if there is not None and whole_root(there) is not None:
                    raise ForeignOriginError(f"the origin holds another {name} than this log: another log published it; see docs/fsck.md")
                await self._replace(name, record.value, there)
            origin.names.add(name)


def _name(record: Record) -> str:
    return f"{record.key}.json"
