"""Correct signatures over any ``signed``, including content that no client accepts."""

from collections.abc import Iterable, Mapping
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner


def signature(metadata: Mapping[str, Any], signer: CryptoSigner) -> dict[str, str]:
    """Sign an object, and return the entry for its signatures."""
    content = str(encode_canonical(metadata["signed"])).encode()
    return {"keyid": signer.public_key.keyid, "sig": signer.sign(content).signature}


def resign(metadata: dict[str, Any], signers: Iterable[CryptoSigner]) -> None:
    """Sign an object unchanged, in place; an object without a canonical form keeps its old signatures."""
    metadata["signatures"] = [signature(metadata, signer) for signer in signers]
