"""The state that all workers of a signer process share."""

from dataclasses import dataclass

from tufline.bus import Bus
from tufline.config.settings import SignerConfig
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.views.admin import AdminFollower
from tufline_signer.signing.key_selection import Released
from tufline_signer.signing.keyring import Keyring


@dataclass(frozen=True, slots=True)
class SignerContext:
    """The state that all workers of a process share.

    Attributes:
        bus: the log.
        config: of the signer.
        clock: the wall clock, compared with the log's.
        health: where the parts report their state.
        admin: the state folded from ``admin``.
        keyring: the online keys.
        released: the released versions of root and targets.
    """

    bus: Bus
    config: SignerConfig
    clock: ReferenceClock
    health: Health
    admin: AdminFollower
    keyring: Keyring
    released: Released
