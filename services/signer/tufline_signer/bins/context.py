"""What the workers of bins share, in addition to what all workers of a process do."""

import asyncio
from dataclasses import dataclass, field

from tufline_signer.bins.batch import BinCache
from tufline_signer.bins.pacing import Pace
from tufline_signer.context import SignerContext


@dataclass(frozen=True, slots=True)
class BinsContext:
    """What the workers of all partitions of a process share.

    Attributes:
        signer: what they share with the commit worker.
        cache: the bins in memory.
        backlog: held by the partition that works through a backlog: one large batch at a time is in memory.
        renewal: when the next bins may be renewed.
    """

    signer: SignerContext
    cache: BinCache
    backlog: asyncio.Lock = field(default_factory=asyncio.Lock)
    renewal: Pace = field(default_factory=Pace)
