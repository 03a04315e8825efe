"""Randomness that a seed determines: tokens, identifiers and private keys."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tufline.trust import ceremony

PROCESS_ID = 4711
"""The process id in the audit records; it is the same in each replay."""


class _Keys:
    """Private keys that a random generator determines."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def generate(self) -> Ed25519PrivateKey:
        """Make a key in place of ``Ed25519PrivateKey.generate``."""
        return Ed25519PrivateKey.from_private_bytes(self._chance.randbytes(32))

    def generate_on(self, curve: EllipticCurve) -> EllipticCurvePrivateKey:
        """Make a key in place of ``ec.generate_private_key``."""
        return derive_private_key(self._chance.randrange(1, 2 ** (curve.key_size - 1)), curve)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let a seed determine what ``os.urandom``, ``secrets`` and ``uuid`` return, and which keys a ceremony makes; the process id is fixed.

    Args:
        seed: the seed. It does not determine ECDSA signatures, because each has its own random number.

    Yields:
        Nothing.
    """
    chance = random.Random(f"drawn from {seed}")
    keys = _Keys(chance)
    with (
        patch.object(os, "urandom", chance.randbytes),
        patch.object(os, "getpid", lambda: PROCESS_ID),
        patch.object(random, "_urandom", chance.randbytes),  # what ``secrets`` calls
        patch.object(ceremony, "Ed25519PrivateKey", keys),
        patch.object(ceremony, "generate_private_key", keys.generate_on),
    ):
        yield
