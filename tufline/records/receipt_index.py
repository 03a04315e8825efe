"""Where in ``receipts`` the receipts of a record of ``artifacts`` are, found in a few steps however many receipts there are.

The bins' writer applies ``artifacts`` in batches. The receipts of one batch stand together: they are a **run**. The runs of a partition are
numbered from 1 and form a skip list. The writer's newest ``Progress`` names the newest run, and for each power of two the newest run whose
number it divides; the first receipt of a run names the same of the runs before it. So a run is found by reading one receipt for each
halving of what is left, and a record without a run near it has no receipt at all. No I/O.
"""

from collections.abc import Sequence

import msgspec


class Run(msgspec.Struct, frozen=True, array_like=True):
    """The receipts of one batch of a partition of ``artifacts``; after a crash in the middle of it, of all that was read again.

    Attributes:
        number: counts the runs of the partition, from 1.
        since: the offset in ``artifacts`` from which on the batch goes; at least the ``until`` of the run before.
        until: the offset in ``artifacts`` at which the batch ends (exclusive).
        first: the offset in ``receipts`` of its first receipt.
        last: the offset in ``receipts`` of its last receipt, as far as it is written.
    """

    number: int
    since: int
    until: int
    first: int
    last: int


class Trail(msgspec.Struct, frozen=True, array_like=True):
    """The runs of a partition.

    Attributes:
        start: the offset in ``artifacts`` from which on every receipt is in a run; those of earlier records were written without.
        runs: the newest run, then older ones as the module describes, the newest first.
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
            since: the offset in ``artifacts`` from which on the batch goes. After a crash, what is read again continues the run, also in
                smaller batches: some of its receipts may be there already.
        """
        return self.newest is None or self.newest.until <= since

    def extended(self, since: int, until: int, first: int, last: int) -> "Trail":
        """Add receipts of a batch.

        Args:
            since: the offset in ``artifacts`` from which on the batch goes.
            until: the offset in ``artifacts`` at which it ends (exclusive).
            first: the offset in ``receipts`` of the first of them.
            last: the offset in ``receipts`` of the last of them.

        Returns:
            The trail with them.
        """
        newest = self.newest
        if newest is not None and since < newest.until:
            grown = Run(newest.number, newest.since, max(until, newest.until), newest.first, last)
            return Trail(self.start, (grown, *self.runs[1:]))
        number = newest.number + 1 if newest else 1
        older = (run for run in self.runs if run.number & -run.number > number & -number)
        return Trail(self.start, (Run(number, since, until, first, last), *older))


def step(runs: Sequence[Run], offset: int) -> Run | None:
    """Make one step of the search for the newest run that does not start after an offset.

    Args:
        runs: of ``Progress`` or of a run's first receipt; the newest first.
        offset: in ``artifacts``.

    Returns:
        A run. If its ``since`` is at most ``offset``, it is the one; otherwise its first receipt has the runs for the next step. None
        where there is none.
    """
    if not runs or runs[0].since <= offset:
        return runs[0] if runs else None
    return next(run for run in reversed(runs) if run.since > offset)
