"""The classic mistakes, made on purpose: each must be caught by the simulation."""

from collections.abc import Callable, Sequence
from typing import Any

import tufline_publisher.service
import tufline_signer.bins_worker
from tufline.bus import _log
from tufline_publisher.service import Publisher
from tufline_signer.bins import apply_changes
from tufline_signer.bins_worker import BinsWorker


def snapshot_before_bins() -> None:
    """The publisher shows a commit before the bins that it names are at the origin."""
    take, publish = Publisher._take, Publisher._publish_newest

    async def no_take(self: Publisher, batch: Any) -> None:
        self.held = batch  # type: ignore[attr-defined]
        put_many = self._store.put_many

        async def nothing(_: Any) -> None:
            pass

        self._store.put_many = nothing  # type: ignore[method-assign, assignment]
        await take(self, batch)
        self._store.put_many = put_many  # type: ignore[method-assign]

    async def late(self: Publisher, next_offset: int, began: float) -> None:
        await publish(self, next_offset, began)
        await take(self, self.held)  # type: ignore[attr-defined]

    Publisher._take, Publisher._publish_newest = no_take, late  # type: ignore[method-assign]


def progress_outside_the_transaction() -> None:
    """The bins' worker moves its progress before the transaction that it belongs to."""
    commit = BinsWorker._commit

    async def early(self: BinsWorker, signed: Any, receipts: Any = (), progress: int | None = None, applied: int = 0) -> None:
        if progress is not None and signed:
            await commit(self, [], [], progress)
        await commit(self, signed, receipts, progress, applied)

    BinsWorker._commit = early  # type: ignore[method-assign]


def no_fencing() -> None:
    """The log takes transactions of a writer that another one has replaced."""
    execute = _log.Log.execute

    def unfenced(self: _log.Log, operations: Sequence[Any]) -> Any:
        free = [_log.Append(one.messages, one.then) if isinstance(one, _log.Append) else one for one in operations]
        return execute(self, free)

    _log.Log.execute = unfenced  # type: ignore[method-assign]


def older_over_newer() -> None:
    """What was applied before a crash is applied again, in another order."""

    def backwards(target_bin: Any, changes: Any, applied: int) -> Any:
        del applied
        return apply_changes(target_bin, list(reversed(list(changes))), 0)

    tufline_signer.bins_worker.apply_changes = backwards  # type: ignore[attr-defined]


def no_flush() -> None:
    """The publisher replaces the timestamp before what it names is durable."""
    show = tufline_publisher.service.Publisher._show

    async def unflushed(self: Publisher, *arguments: Any) -> None:
        self._unflushed = False
        await show(self, *arguments)

    Publisher._show = unflushed  # type: ignore[method-assign, assignment]


MUTATIONS: dict[str, Callable[[], None]] = {
    mistake.__name__: mistake
    for mistake in (snapshot_before_bins, progress_outside_the_transaction, no_fencing, older_over_newer, no_flush)
}
