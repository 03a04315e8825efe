"""Verifying a provider's signatures, in slices so that other tasks can run in between."""

import asyncio
from collections.abc import Sequence
from typing import Final

from securesystemslib.signer import Key

from tufline.errors import KeyUnavailableError
from tufline.metadata.envelope import SignatureEntry, is_signed_by

SLICE_SIGNATURES: Final = 16
SLICE_BYTES: Final = 2_000_000
"""How many signatures and bytes are signed or verified before other tasks run: a few milliseconds of work."""


def verify(public: Key, signature: SignatureEntry, payload: bytes) -> None:
    """Verify a provider's signature.

    Args:
        public: the public key from the metadata.
        signature: the provider's signature.
        payload: the bytes that were signed.

    Raises:
        KeyUnavailableError: if the signature is not valid.
    """
    if not is_signed_by(public, signature, payload):
        raise KeyUnavailableError(f"the provider's signature does not verify with the key {public.keyid[:12]}: it may hold another key")


async def verify_all(public: Key, signatures: Sequence[SignatureEntry], payloads: Sequence[bytes]) -> None:
    """Verify a provider's signatures.

    Args:
        public: the public key from the metadata.
        signatures: the provider's signatures.
        payloads: the bytes that were signed, in the same order.

    Raises:
        KeyUnavailableError: if any signature is not valid.
    """
    sliced = 0
    for count, (signature, payload) in enumerate(zip(signatures, payloads, strict=True), 1):
        verify(public, signature, payload)
        sliced += len(payload)
        if count % SLICE_SIGNATURES == 0 or sliced > SLICE_BYTES:
            sliced = 0
            await asyncio.sleep(0)
