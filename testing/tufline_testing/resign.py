"""People who sign whatever is put before them: correct signatures over any ``signed``, also one that no client accepts."""

from collections.abc import Iterable
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner


def resign(metadata: dict[str, Any], signers: Iterable[CryptoSigner]) -> None:
    """Sign an object as it stands, in place; what has no canonical form keeps its old signatures."""
    content = str(encode_canonical(metadata["signed"])).encode()
    metadata["signatures"] = [{"keyid": signer.public_key.keyid, "sig": signer.sign(content).signature} for signer in signers]
