"""An index of ``receipts``: finds the receipts of a record of ``artifacts`` in a few steps, however many receipts there are.

The bins' writer applies ``artifacts`` in batches. The receipts of one batch are contiguous and are called a **run**. The runs of a
partition are numbered from 1 and form a skip list. The writer's newest ``Progress`` names the newest run and, for each power of two, the
newest run whose number is divisible by that power; the first receipt of a run names the same for the runs before it. So finding a run takes
one receipt for each halving of the remaining runs. A record that is in no run has no receipt. No I/O.
"""

from collections.abc import Sequence

import msgspec


class Run(msgspec.Struct, frozen=True, array_like=True):
    """The receipts of one batch of a partition of ``artifacts``; after a crash within the batch, of all records that were read again.

    Attributes:
        number: counts the runs of the partition, from 1.
        since: the offset in ``artifacts`` at which the batch starts; at least the ``until`` of the previous run.
        until: the offset in ``artifacts`` at which the batch ends (exclusive).
        first: the offset in ``receipts`` of its first receipt.
        last: the offset in ``receipts`` of its last receipt that is written so far.
    """

    number: int
    since: int
    until: int
    first: int
    last: int


class ReceiptIndex(msgspec.Struct, frozen=True, array_like=True):
    """The index of a partition's receipts: its runs.

    Attributes:
        start: the offset in ``artifacts`` from which on every receipt is in a run; receipts of earlier records are in none.
        runs: the newest run, then the older ones that the module describes, newest first.
    """

    start: int
    runs: tuple[Run, ...] = ()

    @property
    def newest(self) -> Run | None:
        """The newest run."""
        return self.runs[0] if self.runs else None

    def begins(self, since: int) -> bool:
        """Whether receipts of a batch start a new run.

        Args:
            since: the offset in ``artifacts`` at which the batch starts. After a crash, the records that are read again continue the run,
                even in smaller batches, as some of their receipts may exist already.
        """
        return self.newest is None or self.newest.until <= since

    def extended(self, since: int, until: int, first: int, last: int) -> "ReceiptIndex":
        """Add receipts of a batch.

        Args:
            since: the offset in ``artifacts`` at which the batch starts.
            until: the offset in ``artifacts`` at which the batch ends (exclusive).
            first: the offset in ``receipts`` of the first of these receipts.
            last: the offset in ``receipts`` of the last of these receipts.

        Returns:
            The index with these receipts.
        """
        newest = self.newest
        if newest is not None and since < newest.until:
            grown = Run(newest.number, newest.since, max(until, newest.until), newest.first, last)
            return ReceiptIndex(self.start, (grown, *self.runs[1:]))
        number = newest.number + 1 if newest else 1
        older = (run for run in self.runs if run.number & -run.number > number & -number)
        return ReceiptIndex(self.start, (Run(number, since, until, first, last), *older))


def step(runs: Sequence[Run], offset: int) -> Run | None:
    """Make one step of the search for the newest run that does not start after an offset.

    Args:
        runs: the runs in ``Progress`` or in a run's first receipt, newest first.
        offset: an offset in ``artifacts``.

    Returns:
        A run. If its ``since`` is at most ``offset``, it is the wanted run; otherwise its first receipt has the runs for the next step.
        None if there are no runs.
    """
    if not runs or runs[0].since <= offset:
        return runs[0] if runs else None
    return next(run for run in reversed(runs) if run.since > offset)
