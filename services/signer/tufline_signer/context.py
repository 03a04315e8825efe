"""What all workers of a process of the signer share."""

import asyncio
from dataclasses import dataclass, field

from tufline.bus import Bus
from tufline.config.settings import SignerConfig
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.views.admin import AdminFollower
from tufline_signer.bins.batch import BinCache
from tufline_signer.bins.pacing import Pace
from tufline_signer.signing.key_selection import Released
from tufline_signer.signing.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of a process share.

    Attributes:
        bus: the log.
        config: of the signer.
        clock: the wall clock, held against the log's.
        health: where the parts say how they are.
        admin: the state folded from ``admin``.
        keyring: the online keys.
        cache: the bins in memory.
        released: which root and targets are shown.
        backlog: held by the partition whose turn it is.
        renewal: when the next bins may be renewed.
    """

    bus: Bus
    config: SignerConfig
    clock: ReferenceClock
    health: Health
    admin: AdminFollower
    keyring: Keyring
    cache: BinCache
    released: Released
    backlog: asyncio.Lock = field(default_factory=asyncio.Lock)
    renewal: Pace = field(default_factory=Pace)
