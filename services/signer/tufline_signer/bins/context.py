"""The state that the bins workers share, in addition to that of all workers of a process."""

import asyncio
from dataclasses import dataclass, field

from tufline_signer.bins.bin_cache import BinCache
from tufline_signer.bins.pacing import RenewalPace
from tufline_signer.context import SignerContext


@dataclass(frozen=True, slots=True)
class BinsContext:
    """The state that the bins workers of a process share.

    Attributes:
        signer: the state shared with the commit worker.
        cache: the bins in memory.
        backlog: held by the partition that works through a backlog, so that only one large batch is in memory.
        renewal: the pace of renewals.
    """

    signer: SignerContext
    cache: BinCache
    backlog: asyncio.Lock = field(default_factory=asyncio.Lock)
    renewal: RenewalPace = field(default_factory=RenewalPace)


def part(partition: int) -> str:
    """Return the name of the work on a partition: in health, in logs, and as writer id.

    Args:
        partition: partition of ``artifacts``.

    Returns:
        ``signer.bins.`` and the partition's number.
    """
    return f"signer.bins.{partition}"
