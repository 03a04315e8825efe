"""Online keys: who holds them, and how the signer asks for signatures.

A private key never leaves its provider. ``SigningKey`` is all that the signer sees of one. Only the signer may import this package
(import-linter holds it).
"""

from collections.abc import Sequence
from typing import Final, Protocol

from securesystemslib.signer import Key

from tufline.metadata.envelope import SignatureEntry

PROBE: Final = b"tufline: is this the key?"
"""What a key signs when it is opened, to show that it is the one; no metadata, whatever reads it."""


class SigningKey(Protocol):
    """A private key somewhere."""

    @property
    def public(self) -> Key:
        """The public key, with the keyid that the metadata has for it."""

    @property
    def is_probed(self) -> bool:
        """Whether ``PROBE`` was signed to open it."""

    async def sign_many(self, payloads: Sequence[bytes]) -> Sequence[SignatureEntry]:
        """Sign payloads.

        An implementation MUST verify every signature against ``public`` before it returns, MUST return one for each payload in order, and
        MUST NOT hold the event loop for more than a few milliseconds at a time.

        Args:
            payloads: the bytes to sign.

        Returns:
            A signature for each payload.

        Raises:
            KeyUnavailableError: if any could not be made; none is to be used then.
        """
