"""Correct signatures over any ``signed``, including content that no client accepts."""

from collections.abc import Iterable
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner


def resign(metadata: dict[str, Any], signers: Iterable[CryptoSigner]) -> None:
    """Sign an object unchanged, in place; an object without a canonical form keeps its old signatures."""
    content = str(encode_canonical(metadata["signed"])).encode()
    metadata["signatures"] = [{"keyid": signer.public_key.keyid, "sig": signer.sign(content).signature} for signer in signers]
