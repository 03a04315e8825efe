"""Randomness that a seed determines, so that what a schedule found can be played again."""

import secrets
import uuid

from tufline.trust.ceremony import make_key
from tufline_testing.simulation.seeded import drawn_from


def drawn(seed: int) -> list[str]:
    """Return tokens, an identifier and keyids that a seed determines."""
    with drawn_from(seed):
        keys = [make_key(scheme).signer.public_key.keyid for scheme in ("ed25519", "ecdsa")]
        return [secrets.token_hex(8), uuid.uuid4().hex, *keys]


def test_a_seed_determines_tokens_and_keys() -> None:
    """The same seed produces the same tokens and keys, and another seed different ones; after the block they are random again."""
    assert drawn(1) == drawn(1)
    assert not set(drawn(1)) & set(drawn(2))
    assert secrets.token_hex(8) != secrets.token_hex(8)
