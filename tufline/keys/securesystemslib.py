"""Online keys through securesystemslib's signers: ``awskms:``, ``gcpkms:``, ``azurekms:``, ``hsm:`` (PKCS#11), ``file2:`` and others.

Their libraries are synchronous and make one signature at a time: they run in threads, several at once where the provider allows it, so that
the event loop never waits. Each library is an extra of Tufline's; what one of them raises becomes ``KeyUnavailableError``.
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
"""Scheme of an URI to the extra of Tufline that brings its library."""

KMS_CALLS: Final = 8
"""Calls to a cloud's key management at the same time. A PKCS#11 token takes one: its login is the process's."""


class Pin:
    """The PIN of a PKCS#11 token. One that the token refused is not tried again: a few wrong tries lock a token for good."""

    def __init__(self, pin: SecretStr, file: Path | None) -> None:
        """Read nothing yet.

        Args:
            pin: itself.
            file: that has it, in place of it.
        """
        self._pin = pin
        self._file = file
        self._given = ""
        self._refused: str | None = None

    def get(self, _: str = "") -> str:
        """Give the PIN.

        Returns:
            It.

        Raises:
            ValueError: if there is none, or it was refused before.
            OSError: if its file can't be read.
        """
        pin = self._pin.get_secret_value() if self._file is None else self._file.read_text().strip()
        if not pin:
            raise ValueError("signer.hsm_pin or signer.hsm_pin_file is not set")
        if pin == self._refused:
            raise ValueError("the token refused the PIN: set another signer.hsm_pin (the same is not tried again, as that locks a token)")
        self._given = pin
        return pin

    def note(self, error: Exception) -> None:
        """Take note of what the token said.

        Args:
            error: that it raised.
        """
        if type(error).__name__ in {"PinIncorrect", "PinInvalid", "PinLenRange"}:
            self._refused = self._given


class ProviderKey:
    """A key that a provider signs with, one signature a call."""

    is_probed = True

    def __init__(self, public: Key, sign: Callable[[bytes], str], threads: ThreadPoolExecutor) -> None:
        """Hold a key.

        Args:
            public: the public key as the metadata has it.
            sign: makes a signature, in hexadecimal; runs in threads.
            threads: of the provider.
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
        """Reach nothing yet.

        Args:
            pin: of the PKCS#11 token.
        """
        self._pin = pin
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def open(self, uri: str, public: Key) -> ProviderKey:
        """Open a private key, and make sure that it is the one whose public part the metadata has.

        Args:
            uri: as securesystemslib defines it.
            public: its public part.

        Returns:
            The key.

        Raises:
            KeyUnavailableError: if it can't be used.
        """
        scheme = uri.partition(":")[0]
        signer: Signer = await self._in_thread(scheme, uri, lambda: Signer.from_priv_key_uri(uri, public, self._pin.get))

        def sign(payload: bytes) -> str:
            return str(self._said(uri, lambda: signer.sign(payload).signature))

        key = ProviderKey(public, sign, self._of(scheme))
        await key.sign_many([PROBE])
        return key

    async def public_of(self, uri: str) -> SSlibKey:
        """Ask a provider for the public part of a key.

        Args:
            uri: as securesystemslib defines it.

        Returns:
            The key, with the URI as the provider's library writes it.

        Raises:
            KeyUnavailableError: if it does not give it.
        """
        scheme, _, rest = uri.partition(":")
        ask: dict[str, Callable[[], tuple[str, SSlibKey]]] = {
            "awskms": lambda: AWSSigner.import_(rest),
            "gcpkms": lambda: GCPSigner.import_(rest),
            "azurekms": lambda: AzureSigner.import_(*_azure_names(rest)),
            "hsm": lambda: HSMSigner.import_(*_hsm_names(rest), self._pin.get),
        }
        if scheme not in ask:
            raise KeyUnavailableError(f"{uri!r} names no provider that gives its public part: {', '.join(f'{name}:' for name in ask)}")
        found, public = await self._in_thread(scheme, uri, ask[scheme])
        return with_uri(public, found)

    def close(self) -> None:
        """Begin no call any more."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    def _of(self, scheme: str) -> ThreadPoolExecutor:
        if scheme not in self._threads:
            calls = KMS_CALLS if scheme.endswith("kms") else 1
            self._threads[scheme] = ThreadPoolExecutor(calls, thread_name_prefix=scheme)
        return self._threads[scheme]

    async def _in_thread(self, scheme: str, uri: str, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._of(scheme), self._said, uri, work)

    def _said(self, uri: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UnsupportedLibraryError as error:
            extra = EXTRAS.get(uri.partition(":")[0])
            advice = f": in a clone of Tufline, pip install '.[{extra}]'" if extra else ""
            raise KeyUnavailableError(f"the online key {uri!r} needs a library that is not installed ({error}){advice}") from error
        except Exception as error:
            # Each provider's library has a tree of errors of its own; none of them may end a partition's work for good.
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
