"""Online keys in the Transit engine of Vault or OpenBao: ``vault:<mount>/<key>#<version>``.

The version is pinned: each version has its own public key, and so is a key of its own in the metadata. For P-256 the SHA-256 of each
payload is sent, 32 bytes; for Ed25519 the whole payload. In: payloads. Out: a signature for each, made in calls of at most 400 over a few
connections and verified here against the public key in the metadata. When the key is opened, and again after any failure, the public key
in the metadata is compared with the one in Vault, so that a wrong key or a missing version is reported as such.
"""

import asyncio
import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from securesystemslib.signer import Key

from tufline.errors import KeyUnavailableError
from tufline.keys.public import P256, SCHEMES, same_public
from tufline.keys.vault.session import VaultSession, data_of
from tufline.keys.verifying import verify_all
from tufline.metadata.envelope import SignatureEntry
from tufline.metadata.key_uris import VaultKeyName

if TYPE_CHECKING:
    import hvac

MOST_SIGNATURES: Final = 400
"""The most signatures in one call; Vault refuses 500."""

MOST_BYTES: Final = 8_000_000
"""The most bytes of payloads in one call; Vault refuses bodies of 32 MB, and base64 makes payloads a third larger."""


class VaultKey:
    """A version of a key in Vault."""

    is_probed = False

    def __init__(self, name: VaultKeyName, public: Key, session: VaultSession) -> None:
        """Hold a key that has not been checked yet; see ``open_vault_key``.

        Args:
            name: the key's name and version in Vault.
            public: the public key from the metadata.
            session: the process's session with Vault.
        """
        self.public = public
        self._name = name
        self._session = session
        self._is_prehashed = public.scheme == P256
        self._is_checked = False

    async def sign_many(self, payloads: Sequence[bytes]) -> list[SignatureEntry]:
        """Sign payloads; see ``SigningKey.sign_many``."""
        if not self._is_checked:
            await self.check()
        try:
            parts = await asyncio.gather(*map(self._sign, self._calls(payloads)))
            signatures = [signature for part in parts for signature in part]
            await verify_all(self.public, signatures, payloads)
        except KeyUnavailableError:
            self._is_checked = False  # so that the next attempt reports what has changed
            raise
        return signatures

    async def check(self) -> None:
        """Check that this version exists, can sign, and is the key in the metadata.

        Raises:
            KeyUnavailableError: if one of these is not the case.
        """
        name = self._name
        found = await read_versions(self._session, name)
        if name.version not in found.publics:
            existing = ", ".join(map(str, sorted(found.publics))) or "none"
            raise KeyUnavailableError(
                f"the metadata needs version {name.version} of the key {name.path}, but Vault lacks it (it has {existing}): restore it"
            )
        if name.version < found.least_version:
            raise KeyUnavailableError(
                f"version {name.version} of the key {name.path} in Vault may not sign, as min_encryption_version is {found.least_version}"
            )
        if SCHEMES.get(found.kind) != self.public.scheme or not same_public(self.public, found.publics[name.version]):
            raise KeyUnavailableError(
                f"{name.uri} is not the key {self.public.keyid[:12]} in the metadata: restore that key in Vault, or correct the URI"
            )
        self._is_checked = True

    def _calls(self, payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
        call: list[bytes] = []
        size = 0
        for payload in payloads:
            length = 0 if self._is_prehashed else len(payload)
            if call and (len(call) == MOST_SIGNATURES or size + length > MOST_BYTES):
                yield call
                call, size = [], 0
            call.append(payload)
            size += length
        if call:
            yield call

    async def _sign(self, payloads: list[bytes]) -> list[SignatureEntry]:
        answer = await self._session.call(f"sign with {self._name.path}", partial(self._ask, payloads))
        results = data_of(answer).get("batch_results")
        if not isinstance(results, list) or len(results) != len(payloads):
            raise KeyUnavailableError(f"Vault did not return {len(payloads)} signatures of {self._name.uri} for as many payloads")
        return [self._entry(result) for result in results]

    def _ask(self, payloads: list[bytes], client: "hvac.Client") -> Any:
        kind: dict[str, Any] = {}
        if self._is_prehashed:
            payloads = [hashlib.sha256(payload).digest() for payload in payloads]
            kind = {"prehashed": True, "hash_algorithm": "sha2-256", "marshaling_algorithm": "asn1"}
        batch = [{"input": b64encode(payload).decode()} for payload in payloads]
        name = self._name
        # The version is set for the whole call, because Vault ignores a version in an item of the batch.
        return client.secrets.transit.sign_data(name.key, mount_point=name.mount, key_version=name.version, batch_input=batch, **kind)

    def _entry(self, result: Any) -> SignatureEntry:
        # Vault answers 200 even if some or all signatures of a call failed.
        if not isinstance(result, dict) or result.get("error"):
            answered = result.get("error") if isinstance(result, dict) else "nothing"
            raise KeyUnavailableError(f"Vault did not sign with {self._name.uri}: it answered {str(answered)!r}")
        head, _, encoded = str(result.get("signature")).rpartition(":")
        if head != f"vault:v{self._name.version}":
            raise KeyUnavailableError(f"Vault signed with {head!r}, not with version {self._name.version} of {self._name.path}")
        try:
            return SignatureEntry(self.public.keyid, b64decode(encoded, validate=True).hex())
        except binascii.Error as error:
            raise KeyUnavailableError(f"Vault returned a signature of {self._name.uri} that is not base64") from error


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions and settings of a key in Vault.

    Attributes:
        kind: Transit's name of the key's type, such as ``ecdsa-p256``.
        publics: version to public key: PEM, or for Ed25519 the 32 bytes in base64.
        least_version: the oldest version that may sign; 0 if all may.
        settings: everything that Vault returned.
    """

    kind: str
    publics: dict[int, str]
    least_version: int
    settings: dict[str, Any]


async def read_versions(session: VaultSession, name: VaultKeyName) -> Versions:
    """Read the versions and settings of a key in Vault.

    Args:
        session: the session with Vault.
        name: the key's name; the version is ignored.

    Returns:
        The versions and settings.

    Raises:
        KeyUnavailableError: if the key does not exist, has a type that TUF can't use, or can't be read.
    """
    doing = f"read the key {name.path}"
    data = data_of(await session.call(doing, lambda client: client.secrets.transit.read_key(name.key, mount_point=name.mount)))
    kind, keys = str(data.get("type")), data.get("keys")
    if kind not in SCHEMES or not isinstance(keys, dict):
        raise KeyUnavailableError(f"the key {name.path} in Vault is of the type {kind}: TUF needs {' or '.join(SCHEMES)}")
    publics = {int(version): str(about.get("public_key")) for version, about in keys.items() if isinstance(about, dict)}
    return Versions(kind, publics, int(data.get("min_encryption_version") or 0), data)


async def open_vault_key(uri: str, public: Key, session: VaultSession) -> VaultKey:
    """Open a key in Vault, and check that it belongs to the public key in the metadata.

    Args:
        uri: ``vault:<mount>/<key>#<version>``.
        public: the public key from the metadata.
        session: the session with Vault.

    Returns:
        The key.

    Raises:
        KeyUnavailableError: if the key can't be used.
    """
    name = VaultKeyName.parse(uri)
    if public.scheme not in SCHEMES.values():
        raise KeyUnavailableError(f"{uri} can't sign with the scheme {public.scheme!r}: a key in Vault is {' or '.join(SCHEMES.values())}")
    key = VaultKey(name, public, session)
    await key.check()
    return key
