"""Online keys: their providers, and how the signer asks them for signatures.

A private key never leaves its provider; the signer only sees a ``SigningKey``. The signer is the only service that may import this package
(import-linter enforces that).
"""

from collections.abc import Sequence
from typing import Final, Protocol

from securesystemslib.signer import Key

from tufline.metadata.envelope import SignatureEntry

PROBE: Final = b"tufline: is this the key?"
"""The bytes that a key signs when it is opened, to prove that it is the expected key. No client can take them for metadata."""


class SigningKey(Protocol):
    """A private key held by a provider."""

    @property
    def public(self) -> Key:
        """The public key, with its keyid in the metadata."""

    @property
    def is_probed(self) -> bool:
        """Whether ``PROBE`` was signed to open the key."""

    async def sign_many(self, payloads: Sequence[bytes]) -> Sequence[SignatureEntry]:
        """Sign payloads.

        An implementation MUST verify every signature against ``public`` before it returns, MUST return one for each payload in order, and
        MUST NOT hold the event loop for more than a few milliseconds at a time.

        Args:
            payloads: the bytes to sign.

        Returns:
            A signature for each payload.

        Raises:
            KeyUnavailableError: if any signature could not be made; then no signature is returned.
        """
