"""Verifying what a provider signed, in slices, so that the event loop has its turn in between."""

import asyncio
from collections.abc import Sequence
from typing import Final

from securesystemslib.signer import Key

from tufline.errors import KeyUnavailableError
from tufline.metadata.envelope import SignatureEntry, is_signed_by

SLICE_SIGNATURES: Final = 16
SLICE_BYTES: Final = 2_000_000
"""How much is signed or verified before the event loop has its turn: a few milliseconds of work."""


def verify(public: Key, signature: SignatureEntry, payload: bytes) -> None:
    """Verify a signature that a provider gave.

    Args:
        public: the key as the metadata has it.
        signature: that it gave.
        payload: what it should be over.

    Raises:
        KeyUnavailableError: if it is not.
    """
    if not is_signed_by(public, signature, payload):
        raise KeyUnavailableError(f"the key {public.keyid[:12]} gave a signature that its public part does not verify: is it another key?")


async def verify_all(public: Key, signatures: Sequence[SignatureEntry], payloads: Sequence[bytes]) -> None:
    """Verify signatures that a provider gave.

    Args:
        public: the key as the metadata has it.
        signatures: that it gave.
        payloads: what they should be over, in the same order.

    Raises:
        KeyUnavailableError: if one is not.
    """
    sliced = 0
    for count, (signature, payload) in enumerate(zip(signatures, payloads, strict=True), 1):
        verify(public, signature, payload)
        sliced += len(payload)
        if count % SLICE_SIGNATURES == 0 or sliced > SLICE_BYTES:
            sliced = 0
            await asyncio.sleep(0)
