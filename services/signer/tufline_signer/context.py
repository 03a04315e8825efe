"""The state that all workers of a signer process share."""

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
    """The state that all workers of a process share.

    Attributes:
        bus: the log.
        config: the signer's settings.
        clock: the wall clock, compared with the log's.
        health: where the parts report their state.
        admin: the state folded from ``admin``.
        keyring: the online keys.
        cache: the bins in memory.
        released: which versions of root and targets are released.
        backlog: held by the partition whose turn it is.
        renewal: the pace of renewals.
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
