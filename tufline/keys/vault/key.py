"""Online keys in the Transit engine of Vault or OpenBao: ``vault:<mount>/<key>#<version>``.

The version is pinned: each is another public key, so another key of the metadata. P-256 sends the SHA-256 of each payload, 32 bytes;
Ed25519 has to send the whole payload. In: payloads. Out: a signature for each, made in calls of at most 400 over a few connections, and
every one verified here against the public key of the metadata. When the key is opened, and again after any failure, its public part in
Vault is compared with that: a wrong key or a version that is gone is said as such.
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
"""In one call; Vault refuses 500."""

MOST_BYTES: Final = 8_000_000
"""Of payloads in one call; Vault refuses bodies of 32 MB, and base64 makes them a third larger."""


class VaultKey:
    """A version of a key in Vault."""

    is_probed = False

    def __init__(self, name: VaultKeyName, public: Key, session: VaultSession) -> None:
        """Hold a key that nothing is known of yet; see ``open_vault_key``.

        Args:
            name: where it is.
            public: the public key as the metadata has it.
            session: to ask by.
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
            self._is_checked = False  # what has changed is told by the next attempt
            raise
        return signatures

    async def check(self) -> None:
        """Make sure that this version is there, can sign, and is the key that the metadata has.

        Raises:
            KeyUnavailableError: if not.
        """
        name = self._name
        found = await read_versions(self._session, name)
        if name.version not in found.publics:
            there = ", ".join(map(str, sorted(found.publics))) or "none"
            raise KeyUnavailableError(
                f"the key {name.path} in Vault has no version {name.version} (it has {there}): the metadata name another"
            )
        if name.version < found.least_version:
            raise KeyUnavailableError(
                f"version {name.version} of the key {name.path} in Vault signs no more: its min_encryption_version is {found.least_version}"
            )
        if SCHEMES.get(found.kind) != self.public.scheme or not same_public(self.public, found.publics[name.version]):
            raise KeyUnavailableError(
                f"{name.uri} is another key than {self.public.keyid[:12]} of the metadata: put that back into Vault, or name the right one"
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
            raise KeyUnavailableError(f"Vault did not give {len(payloads)} signatures of {self._name.uri} for as many payloads")
        return [self._entry(result) for result in results]

    def _ask(self, payloads: list[bytes], client: "hvac.Client") -> Any:
        kind: dict[str, Any] = {}
        if self._is_prehashed:
            payloads = [hashlib.sha256(payload).digest() for payload in payloads]
            kind = {"prehashed": True, "hash_algorithm": "sha2-256", "marshaling_algorithm": "asn1"}
        batch = [{"input": b64encode(payload).decode()} for payload in payloads]
        name = self._name
        # The version counts for the whole call: Vault passes over one in an item.
        return client.secrets.transit.sign_data(name.key, mount_point=name.mount, key_version=name.version, batch_input=batch, **kind)

    def _entry(self, result: Any) -> SignatureEntry:
        # A call is answered with 200 also where some or all of its signatures failed.
        if not isinstance(result, dict) or result.get("error"):
            said = result.get("error") if isinstance(result, dict) else "nothing"
            raise KeyUnavailableError(f"Vault did not sign with {self._name.uri}: it said {str(said)!r}")
        head, _, encoded = str(result.get("signature")).rpartition(":")
        if head != f"vault:v{self._name.version}":
            raise KeyUnavailableError(f"Vault signed with {head!r} where version {self._name.version} of {self._name.path} was asked for")
        try:
            return SignatureEntry(self.public.keyid, b64decode(encoded, validate=True).hex())
        except binascii.Error as error:
            raise KeyUnavailableError(f"Vault gave a signature of {self._name.uri} that is not base64") from error


@dataclass(frozen=True, slots=True)
class Versions:
    """What Vault says of a key.

    Attributes:
        kind: Transit's name of its type, such as ``ecdsa-p256``.
        publics: version to public part: PEM, or for Ed25519 the 32 bytes in base64.
        least_version: the oldest that signs; 0 for all.
        settings: everything that Vault says.
    """

    kind: str
    publics: dict[int, str]
    least_version: int
    settings: dict[str, Any]


async def read_versions(session: VaultSession, name: VaultKeyName) -> Versions:
    """Read what Vault says of a key.

    Args:
        session: to ask by.
        name: of the key; its version does not count.

    Returns:
        It.

    Raises:
        KeyUnavailableError: if it is not there, is no key that TUF can use, or can't be read.
    """
    doing = f"read the key {name.path}"
    data = data_of(await session.call(doing, lambda client: client.secrets.transit.read_key(name.key, mount_point=name.mount)))
    kind, keys = str(data.get("type")), data.get("keys")
    if kind not in SCHEMES or not isinstance(keys, dict):
        raise KeyUnavailableError(f"the key {name.path} in Vault is of the type {kind}: TUF needs {' or '.join(SCHEMES)}")
    publics = {int(version): str(about.get("public_key")) for version, about in keys.items() if isinstance(about, dict)}
    return Versions(kind, publics, int(data.get("min_encryption_version") or 0), data)


async def open_vault_key(uri: str, public: Key, session: VaultSession) -> VaultKey:
    """Open a key in Vault, and make sure that it is the one whose public part the metadata has.

    Args:
        uri: ``vault:<mount>/<key>#<version>``.
        public: its public part.
        session: to ask by.

    Returns:
        The key.

    Raises:
        KeyUnavailableError: if it can't be used.
    """
    name = VaultKeyName.parse(uri)
    if public.scheme not in SCHEMES.values():
        raise KeyUnavailableError(f"{uri} can't sign with the scheme {public.scheme!r}: a key in Vault is {' or '.join(SCHEMES.values())}")
    key = VaultKey(name, public, session)
    await key.check()
    return key
