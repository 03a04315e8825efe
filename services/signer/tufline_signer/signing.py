"""Signing roles: the keys of a role behind one call, and a signed file with its head."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tufline import metafile, topics
from tufline.bus import Message, Position
from tufline.errors import KeyUnavailableError
from tufline.keys import SigningKey
from tufline.keys.local import open_key
from tufline.metafile import SignatureEntry
from tufline.records import VERSION_HEADER, Head
from tufline.trust import RoleKeys


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A metadata file that is ready for the log.

    Attributes:
        role: its role.
        version: of the role.
        expires: as in the file.
        content: the file.
        keyids: of the keys that signed it.
    """

    role: str
    version: int
    expires: str
    content: bytes
    keyids: list[str]

    def message(self, headers: dict[str, str] | None = None) -> Message:
        """Make the record of ``metadata``.

        Args:
            headers: beside the version.

        Returns:
            The message.
        """
        return Message(topics.METADATA, self.role, self.content, headers={VERSION_HEADER: str(self.version), **(headers or {})})

    def head(self, position: Position, applied: int = 0) -> Head:
        """Make the head that names this file.

        Args:
            position: of the file in ``metadata``.
            applied: see ``Head``.

        Returns:
            The head.
        """
        return Head(
            version=self.version,
            sha256=metafile.sha256(self.content),
            length=len(self.content),
            expires=self.expires,
            offset=position.offset,
            keyids=self.keyids,
            applied=applied,
        )


@dataclass(frozen=True, slots=True)
class ToSign:
    """What is to become a ``SignedFile``.

    Attributes:
        role: its role.
        version: of the role.
        expires: as in ``signed``.
        signed: the canonical bytes.
        shown: the same as it stands in the file; None where that is the same bytes (see ``trust.verified``).
    """

    role: str
    version: int
    expires: str
    signed: bytes
    shown: bytes | None = None


class Keyring:
    """The online keys of a process; each is opened once."""

    def __init__(self, key_dir: Path) -> None:
        """Open no key yet.

        Args:
            key_dir: directory of ``fn:`` keys.
        """
        self._key_dir = key_dir
        self._open: dict[tuple[str, str], SigningKey] = {}

    def _key(self, keyid: str, uri: str, of: RoleKeys) -> SigningKey:
        known = self._open.get((keyid, uri))
        if known is None:
            known = self._open[keyid, uri] = open_key(uri, of.keys[keyid], self._key_dir)
        return known

    async def sign(self, of: RoleKeys, payloads: Sequence[ToSign]) -> list[SignedFile]:
        """Sign payloads with every online key of their role.

        Args:
            of: the role's keys.
            payloads: what to sign; all of roles that have these keys.

        Returns:
            The signed files, in the same order.

        Raises:
            KeyUnavailableError: if fewer keys than the threshold can sign.
        """
        keys, problems = [], []
        for keyid, uri in of.online.items():
            try:
                keys.append(self._key(keyid, uri, of))
            except KeyUnavailableError as error:
                problems.append(error)
        if len(keys) < of.threshold:
            raise KeyUnavailableError("; ".join(map(str, problems)) or "no key of the role says where the signer finds it")
        signed = [payload.signed for payload in payloads]
        by_key: list[Sequence[SignatureEntry]] = await asyncio.gather(*(key.sign_many(signed) for key in keys))
        keyids = [key.public.keyid for key in keys]
        return [
            SignedFile(
                payload.role, payload.version, payload.expires, metafile.assemble(payload.shown or payload.signed, signatures), keyids
            )
            for payload, signatures in zip(payloads, zip(*by_key, strict=True), strict=True)
        ]
