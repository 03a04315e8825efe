"""Online keys through securesystemslib's signers: ``awskms:``, ``gcpkms:``, ``azurekms:``, ``hsm:`` (PKCS#11), ``file2:`` and others.

Their libraries are synchronous and make one signature at a time. They run in threads, several at once if the provider allows it, so that
the event loop never waits. Each library is an extra of Tufline; its errors become ``KeyUnavailableError``.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import SecretStr
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, HSMSigner, Key, Signer, SSlibKey

from tufline.errors import KeyUnavailableError
from tufline.keys import PROBE
from tufline.keys.public import with_uri
from tufline.keys.verifying import verify_all
from tufline.metadata.envelope import SignatureEntry

EXTRAS: Final[Mapping[str, str]] = MappingProxyType({"awskms": "aws", "azurekms": "azure", "gcpkms": "gcp", "hsm": "hsm"})
"""Each scheme of a URI, with the extra of Tufline that installs its library."""

TELL_PUBLIC: Final = frozenset(EXTRAS)
"""The schemes whose providers return the public part of a key."""

KMS_CALLS: Final = 8
"""How many calls to a cloud's KMS run at the same time. A PKCS#11 token allows only one, as its login holds for the whole process."""


class Pin:
    """The PIN of a PKCS#11 token. A PIN that the token refused is not tried again, as a few wrong attempts lock a token for good."""

    def __init__(self, pin: SecretStr, file: Path | None) -> None:
        """Start without reading the file.

        Args:
            pin: the PIN; not used if ``file`` is set.
            file: a file that has the PIN; None if ``pin`` is the PIN.
        """
        self._pin = pin
        self._file = file
        self._last_read = ""
        self._refused: str | None = None

    def get(self, _: str = "") -> str:
        """Return the PIN.

        Returns:
            The PIN.

        Raises:
            ValueError: if no PIN is set, or the token refused it before.
            OSError: if the file can't be read.
        """
        pin = self._pin.get_secret_value() if self._file is None else self._file.read_text().strip()
        if not pin:
            raise ValueError("signer.hsm_pin or signer.hsm_pin_file is not set")
        if pin == self._refused:
            raise ValueError("the token refused the PIN, which is not tried again as that could lock the token: set another signer.hsm_pin")
        self._last_read = pin
        return pin

    def note(self, error: Exception) -> None:
        """Remember that the token refused the PIN, if this is the reason of an error.

        Args:
            error: the error that a call to the token raised.
        """
        if type(error).__name__ in {"PinIncorrect", "PinInvalid", "PinLenRange"}:
            self._refused = self._last_read


class ProviderKey:
    """A key of a provider that makes one signature per call."""

    is_probed = True

    def __init__(self, public: Key, sign: Callable[[bytes], str], threads: ThreadPoolExecutor) -> None:
        """Hold a key.

        Args:
            public: the public key from the metadata.
            sign: makes a signature, in hexadecimal; runs in threads.
            threads: the provider's threads.
        """
        self.public = public
        self._sign = sign
        self._threads = threads

    async def sign_many(self, payloads: Sequence[bytes]) -> list[SignatureEntry]:
        """Sign payloads; see ``SigningKey.sign_many``."""
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(self._threads, self._sign, payload) for payload in payloads]
        try:
            signatures = [SignatureEntry(self.public.keyid, signature) for signature in await asyncio.gather(*calls)]
        finally:
            for call in calls:
                call.cancel()
        await verify_all(self.public, signatures, payloads)
        return signatures


class Providers:
    """The providers of a process, each with its threads."""

    def __init__(self, pin: Pin) -> None:
        """Start unconnected; opening a key connects.

        Args:
            pin: the PIN of the PKCS#11 token.
        """
        self._pin = pin
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def open(self, uri: str, public: Key) -> ProviderKey:
        """Open a private key, and check that it belongs to the public key in the metadata.

        Args:
            uri: a URI of securesystemslib.
            public: the public key from the metadata.

        Returns:
            The key.

        Raises:
            KeyUnavailableError: if the key can't be used.
        """
        scheme = uri.partition(":")[0]
        signer: Signer = await self._in_thread(scheme, uri, lambda: Signer.from_priv_key_uri(uri, public, self._pin.get))

        def sign(payload: bytes) -> str:
            return str(self._translated(uri, lambda: signer.sign(payload).signature))

        key = ProviderKey(public, sign, self._of(scheme))
        await key.sign_many([PROBE])
        return key

    async def public_of(self, uri: str) -> SSlibKey:
        """Read the public key that belongs to a provider's private key.

        Args:
            uri: a URI of securesystemslib.

        Returns:
            The public key, with the URI in the form that the provider's library returns.

        Raises:
            KeyUnavailableError: if the provider does not return it.
        """
        scheme, _, rest = uri.partition(":")
        ask: dict[str, Callable[[], tuple[str, SSlibKey]]] = {
            "awskms": lambda: AWSSigner.import_(rest),
            "gcpkms": lambda: GCPSigner.import_(rest),
            "azurekms": lambda: AzureSigner.import_(*_azure_names(rest)),
            "hsm": lambda: HSMSigner.import_(*_hsm_names(rest), self._pin.get),
        }
        if scheme not in ask:
            known = ", ".join(f"{name}:" for name in ask)
            raise KeyUnavailableError(f"the provider of {uri!r} does not return public keys: only those of {known} do")
        found, public = await self._in_thread(scheme, uri, ask[scheme])
        return with_uri(public, found)

    def close(self) -> None:
        """Drop the calls that have not started; none can be made any more."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    def _of(self, scheme: str) -> ThreadPoolExecutor:
        if scheme not in self._threads:
            calls = KMS_CALLS if scheme.endswith("kms") else 1
            self._threads[scheme] = ThreadPoolExecutor(calls, thread_name_prefix=scheme)
        return self._threads[scheme]

    async def _in_thread(self, scheme: str, uri: str, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._of(scheme), self._translated, uri, work)

    def _translated(self, uri: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UnsupportedLibraryError as error:
            extra = EXTRAS.get(uri.partition(":")[0])
            advice = f": in a clone of Tufline, pip install '.[{extra}]'" if extra else ""
            raise KeyUnavailableError(f"the online key {uri!r} needs a library that is not installed ({error}){advice}") from error
        except Exception as error:
            # Each provider's library has its own errors, and no such error may end a partition's work for good.
            self._pin.note(error)
            raise KeyUnavailableError(f"the online key {uri!r} can't be used: {str(error) or type(error).__name__}") from error


def _azure_names(rest: str) -> tuple[str, str]:
    host, _, path = rest.removeprefix("//").partition("/")
    parts = path.split("/")
    if not host.endswith(".vault.azure.net") or len(parts) < 2 or parts[0] != "keys":  # noqa: PLR2004 (keys/<name>)
        raise ValueError("write azurekms://<vault>.vault.azure.net/keys/<key>/<version>")
    return host.partition(".")[0], parts[1]


def _hsm_names(rest: str) -> tuple[int | None, str | None]:
    number, _, query = rest.partition("?")
    return int(number) if number else None, dict(parse_qsl(query)).get("label")
