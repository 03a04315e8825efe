"""Signing roles: the keys of a role behind one call, and a signed file with its head.

Here alone signatures are made, and none leaves before its record is written (``audit``).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from securesystemslib.signer import Key

from tufline.audit.records import PROBE_ROLE, SignedDigest
from tufline.bus import Message, Position
from tufline.errors import ConfigError, KeyUnavailableError
from tufline.keys import PROBE, SigningKey
from tufline.keys.opening import KeyOpener
from tufline.metadata import envelope
from tufline.metadata.envelope import SignatureEntry
from tufline.records import Head, topics
from tufline.records.metadata import VERSION_HEADER, metadata_key
from tufline.runtime.health import Health
from tufline.trust import rules
from tufline.trust.rules import RoleKeys
from tufline_signer.signing.audit_trail import Trail, Use

RETRY_SECONDS: Final = 60.0
"""How often a key is tried that could not be used and without which all goes on."""

FORGET_SECONDS: Final = 300.0
"""After so long nobody has asked for a key that could not be used: another one has taken its place."""

INLINE_HASH_BYTES: Final = 1_000_000
"""As much is hashed in the event loop: under a millisecond of work. More of it, in a thread, while the key signs."""

OF_PROBE: Final = SignedDigest(PROBE_ROLE, 0, envelope.sha256(PROBE))

_log = structlog.get_logger(__name__)


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
        return Message(
            topics.METADATA,
            metadata_key(self.role, self.version),
            self.content,
            headers={VERSION_HEADER: str(self.version), **(headers or {})},
        )

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
            sha256=envelope.sha256(self.content),
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
        shown: the same as it stands in the file; None where that is the same bytes (see ``rules.verified``).
    """

    role: str
    version: int
    expires: str
    signed: bytes
    shown: bytes | None = None


def signed_by_people(role: str, metadata: Mapping[str, Any]) -> SignedFile:
    """Make a file of root or targets that people signed.

    Args:
        role: its role.
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The file.
    """
    content, common, keyids = rules.read_file(role, metadata)
    return SignedFile(role, common.version, common.expires, content, keyids)


Sign = Callable[[Sequence[RoleKeys], Sequence[ToSign]], Awaitable[list[SignedFile]]]
"""Signs payloads so that they verify under several keys; see ``Keyring.sign``."""


class Keyring:
    """The online keys of a process; each is opened once. One that must sign is a part of the process's health until it does."""

    def __init__(self, opener: KeyOpener, trail: Trail, health: Health) -> None:
        """Open no key yet.

        Args:
            opener: of keys.
            trail: where their uses are recorded.
            health: where it is said when a key can't be used that must be.
        """
        self._opener = opener
        self._trail = trail
        self._health = health
        self._open: dict[tuple[str, str], SigningKey] = {}
        self._opening: dict[tuple[str, str], asyncio.Task[SigningKey]] = {}
        # A keyid need not cover the URI: the same key may be named with another place, where it is or is not.
        self._probed: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], float] = {}
        self._worked: set[tuple[str, str]] = set()
        self._said: dict[str, float] = {}

    async def can_meet(self, of: RoleKeys, requester: str) -> bool:
        """Say whether enough of some keys can be used, as far as is known. One that could not is tried again after a while.

        Args:
            of: the keys.
            requester: as in ``sign``.

        Raises:
            AuditError: if what was tried may not be on record.
        """
        tried_since = asyncio.get_running_loop().time() - RETRY_SECONDS
        for keyid, uri in of.online.items():
            if self._failed.get((keyid, uri), tried_since) < tried_since:
                await self._trail.ready()
                if not isinstance(await self._try(uri, of.keys[keyid], [PROBE]), Exception):
                    await self._trail.record([Use(requester, keyid, uri, [*self._probe(keyid, uri), OF_PROBE])])
        return of.are_met_by({keyid for keyid, uri in of.online.items() if (keyid, uri) not in self._failed})

    async def prove(self, roles: Iterable[Sequence[RoleKeys]], requester: str) -> None:
        """Make sure that roles can be signed, by signing something that is none; a key that signed when it was last used is not asked.

        Args:
            roles: the keys of each, as ``under`` of ``sign``.
            requester: as in ``sign``.

        Raises:
            KeyUnavailableError: if one of them can't be.
            AuditError: if it may not be on record.
        """
        distinct = {(frozenset(keys[0].keys), frozenset(keys[0].online.items()), keys[0].threshold): keys for keys in roles}
        for keys in distinct.values():
            if not keys[0].are_met_by({keyid for keyid, uri in keys[0].online.items() if (keyid, uri) in self._worked}):
                await self.sign(keys[:1], [ToSign(PROBE_ROLE, 0, "", PROBE)], requester)

    async def sign(self, under: Sequence[RoleKeys], payloads: Sequence[ToSign], requester: str) -> list[SignedFile]:
        """Sign payloads, so that they verify under several keys, and record that.

        Args:
            under: the first are those that must be met; the others are met as far as their keys can be used.
            payloads: what to sign; all of roles that have these keys.
            requester: the part of the process that asks, which is its writer id.

        Returns:
            The signed files, in the same order, each with the signatures of all keys that could be used. These are on record.

        Raises:
            KeyUnavailableError: if fewer keys than the threshold of the first can sign.
            AuditError: if the signatures may not be on record.
        """
        async with self.together(requester) as sign:
            return await sign(under, payloads)

    @asynccontextmanager
    async def together(self, requester: str) -> AsyncIterator[Sign]:
        """Sign one thing after the other, and record all of it at once.

        Args:
            requester: as in ``sign``.

        Yields:
            As ``sign``; but what it gives is on record only after the block: it must not leave before that.

        Raises:
            AuditError: if the signatures may not be on record.
        """
        uses: list[Use] = []

        async def sign(under: Sequence[RoleKeys], payloads: Sequence[ToSign]) -> list[SignedFile]:
            await self._trail.ready()
            return await self._make(under, payloads, requester, uses)

        try:
            yield sign
        finally:
            if uses:
                await self._trail.record(uses)

    async def _make(self, under: Sequence[RoleKeys], payloads: Sequence[ToSign], requester: str, uses: list[Use]) -> list[SignedFile]:
        wanted = {(keyid, uri): of.keys[keyid] for of in under for keyid, uri in of.online.items()}
        signed = [payload.signed for payload in payloads]
        signing = asyncio.gather(*(self._try(uri, public, signed) for (_, uri), public in wanted.items()))
        digests, every = await asyncio.gather(_digests(payloads), signing)
        made = {place: done for place, done in zip(wanted, every, strict=True) if not isinstance(done, Exception)}
        by_key = {keyid: done for (keyid, _), done in made.items()}
        # Also where they do not suffice: they were made.
        uses += [Use(requester, keyid, uri, [*self._probe(keyid, uri), *digests]) for keyid, uri in made]
        problems = {uri: done for (_, uri), done in zip(wanted, every, strict=True) if isinstance(done, Exception)}
        self._say(under[0], problems)
        if not under[0].are_met_by(by_key):
            reasons = [str(problems[uri]) for uri in under[0].online.values() if uri in problems]
            raise KeyUnavailableError("; ".join(reasons) or "no key of the role says where the signer finds it")
        return [
            SignedFile(
                payload.role, payload.version, payload.expires, envelope.assemble(payload.shown or payload.signed, signatures), list(by_key)
            )
            for payload, signatures in zip(payloads, zip(*by_key.values(), strict=True), strict=True)
        ]

    async def _try(self, uri: str, public: Key, signed: Sequence[bytes]) -> Sequence[SignatureEntry] | Exception:
        try:
            done = await (await self._key(uri, public)).sign_many(signed)
        except (ConfigError, KeyUnavailableError) as error:
            if (public.keyid, uri) not in self._failed:
                _log.warning("key.unavailable", keyid=public.keyid, uri=uri, error=str(error))
            self._failed[public.keyid, uri] = asyncio.get_running_loop().time()
            self._worked.discard((public.keyid, uri))
            return error
        self._failed.pop((public.keyid, uri), None)
        self._worked.add((public.keyid, uri))
        return done

    async def _key(self, uri: str, public: Key) -> SigningKey:
        if (known := self._open.get((public.keyid, uri))) is not None:
            return known
        # Whoever else wants it meanwhile waits for the same opening.
        opening = self._opening.get((public.keyid, uri))
        if opening is None:
            opening = self._opening[public.keyid, uri] = asyncio.create_task(self._open_key(uri, public), name="signer.key")
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(opening)

    async def _open_key(self, uri: str, public: Key) -> SigningKey:
        try:
            key = self._open[public.keyid, uri] = await self._opener.open(uri, public)
        finally:
            del self._opening[public.keyid, uri]
        if key.is_probed:
            self._probed.add((public.keyid, uri))
        return key

    def _say(self, must: RoleKeys, problems: Mapping[str, Exception]) -> None:
        now = asyncio.get_running_loop().time()
        for uri in must.online.values():
            if uri in problems:
                self._said[uri] = now
                self._health.problem(f"signer.key.{uri}", str(problems[uri]))
            else:
                self._said.pop(uri, None)
                self._health.ok(f"signer.key.{uri}")
        for uri in [uri for uri, at in self._said.items() if at < now - FORGET_SECONDS]:
            del self._said[uri]
            self._health.gone(f"signer.key.{uri}")

    def _probe(self, keyid: str, uri: str) -> list[SignedDigest]:
        # Its opening was a use of the key too, and goes on record with the first signatures.
        if (keyid, uri) not in self._probed:
            return []
        self._probed.remove((keyid, uri))
        return [OF_PROBE]


async def _digests(payloads: Sequence[ToSign]) -> list[SignedDigest]:
    def make() -> list[SignedDigest]:
        return [SignedDigest(payload.role, payload.version, envelope.sha256(payload.signed)) for payload in payloads]

    if sum(len(payload.signed) for payload in payloads) <= INLINE_HASH_BYTES:
        return make()
    return await asyncio.to_thread(make)
