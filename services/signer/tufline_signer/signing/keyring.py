"""Signs roles: one call signs with all keys of a role, and returns the signed file with its head.

All signatures are made here, and none is used before its record is written (``audit_trail``).
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
from tufline.trust import roles
from tufline.trust.roles import RoleKeys
from tufline_signer.signing.audit_trail import KeyUse, Trail

RETRY_SECONDS: Final = 60.0
"""How often an unavailable key is tried again while signing goes on without it, in seconds."""

FORGET_SECONDS: Final = 300.0
"""How long health reports an unavailable key that is no longer requested, in seconds: another one has replaced it."""

INLINE_HASH_BYTES: Final = 1_000_000
"""Up to this size payloads are hashed in the event loop (under a millisecond); larger ones in a thread, while the key signs."""

OF_PROBE: Final = SignedDigest(PROBE_ROLE, 0, envelope.sha256(PROBE))

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A metadata file that is ready for the log.

    Attributes:
        role: name of the file's role.
        version: the role's version.
        expires: the expiry as written in the file.
        content: bytes of the file.
        keyids: keyids of the keys that signed it.
    """

    role: str
    version: int
    expires: str
    content: bytes
    keyids: list[str]

    def message(self, headers: dict[str, str] | None = None) -> Message:
        """Make the record of ``metadata``.

        Args:
            headers: headers in addition to the version.

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
            position: position of the file in ``metadata``.
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
    """A payload that becomes a ``SignedFile``.

    Attributes:
        role: name of the payload's role.
        version: the role's version.
        expires: the expiry as written in ``signed``.
        signed: the canonical bytes to sign.
        in_file: the payload as written in the file; None if it is the same bytes (see ``roles.verified``).
    """

    role: str
    version: int
    expires: str
    signed: bytes
    in_file: bytes | None = None


def signed_by_people(role: str, metadata: Mapping[str, Any]) -> SignedFile:
    """Make a file of root or targets that was signed offline.

    Args:
        role: root or targets.
        metadata: the object, ``{"signatures": […], "signed": {…}}``.

    Returns:
        The file.
    """
    content, common, keyids = roles.read_file(role, metadata)
    return SignedFile(role, common.version, common.expires, content, keyids)


Sign = Callable[[Sequence[RoleKeys], Sequence[ToSign]], Awaitable[list[SignedFile]]]
"""Signs payloads so that they verify under several roles' keys; see ``Keyring.sign``."""


class Keyring:
    """The online keys of a process; each is opened once. Health reports a mandatory key until it signs."""

    def __init__(self, opener: KeyOpener, trail: Trail, health: Health) -> None:
        """Create the keyring; keys are opened when they are first used.

        Args:
            opener: opens keys by URI.
            trail: records the uses of keys.
            health: where unavailable mandatory keys are reported.
        """
        self._opener = opener
        self._trail = trail
        self._health = health
        self._open: dict[tuple[str, str], SigningKey] = {}
        self._opening: dict[tuple[str, str], asyncio.Task[SigningKey]] = {}
        # A keyid need not cover the URI: the same key may be named with another URI, where it may be missing.
        self._probed: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], tuple[float, Exception]] = {}
        self._worked: set[tuple[str, str]] = set()
        self._warned_at: dict[str, float] = {}

    async def can_meet(self, of: RoleKeys, requester: str) -> bool:
        """Return whether enough of a role's keys can be used, as far as is known. An unavailable key is tried again after a while.

        Args:
            of: the role's keys and threshold.
            requester: as in ``sign``.

        Raises:
            AuditError: if the trial's use of a key may not be recorded.
        """
        tried_since = asyncio.get_running_loop().time() - RETRY_SECONDS
        for keyid, uri in of.online.items():
            if (keyid, uri) in self._failed and self._failed[keyid, uri][0] < tried_since:
                await self._trail.ready()
                if not isinstance(await self._try(uri, of.keys[keyid], [PROBE]), Exception):
                    await self._trail.record([KeyUse(requester, keyid, uri, [*self._probe(keyid, uri), OF_PROBE])])
        return of.are_met_by({keyid for keyid, uri in of.online.items() if (keyid, uri) not in self._failed})

    def why_not(self, of: RoleKeys) -> str:
        """Return why keys of a role could not be used at the last trial, for people.

        Args:
            of: the role's keys and threshold.

        Returns:
            Each unusable key with its keyid, its URI and the reason.
        """
        online = of.online
        without = [f"key {keyid} has no URI that tells the signer where it is" for keyid in of.keys if keyid not in online]
        failed = [(keyid, uri, self._failed[keyid, uri][1]) for keyid, uri in online.items() if (keyid, uri) in self._failed]
        return "; ".join([*without, *(f"key {keyid} ({uri}): {error}" for keyid, uri, error in failed)])

    async def prove(self, roles: Iterable[Sequence[RoleKeys]], requester: str) -> None:
        """Check that roles can be signed, by signing a probe that is not metadata; keys whose last use succeeded are not asked.

        Args:
            roles: the keys of each, as ``under`` of ``sign``.
            requester: as in ``sign``.

        Raises:
            KeyUnavailableError: if one of the roles can't be signed.
            AuditError: if the uses may not be recorded.
        """
        distinct = {(frozenset(keys[0].keys), frozenset(keys[0].online.items()), keys[0].threshold): keys for keys in roles}
        for keys in distinct.values():
            if not keys[0].are_met_by({keyid for keyid, uri in keys[0].online.items() if (keyid, uri) in self._worked}):
                await self.sign(keys[:1], [ToSign(PROBE_ROLE, 0, "", PROBE)], requester)

    async def sign(self, under: Sequence[RoleKeys], payloads: Sequence[ToSign], requester: str) -> list[SignedFile]:
        """Sign payloads so that they verify under several sets of keys, and record the uses.

        Args:
            under: the first set is mandatory; the keys of the others sign if they can be used.
            payloads: the payloads to sign; all are of roles that have these keys.
            requester: the requesting part of the process, which is its writer id.

        Returns:
            The signed files, in the same order, each with the signatures of all keys that could be used. The uses are recorded.

        Raises:
            KeyUnavailableError: if fewer keys than the threshold of the first can sign.
            AuditError: if the uses may not be recorded.
        """
        async with self.together(requester) as sign:
            return await sign(under, payloads)

    @asynccontextmanager
    async def together(self, requester: str) -> AsyncIterator[Sign]:
        """Sign several payloads one after the other, and record all uses together.

        Args:
            requester: as in ``sign``.

        Yields:
            A function like ``sign``. The uses of keys are recorded only at the end of the block, so the files must not be used before that.

        Raises:
            AuditError: if the uses may not be recorded.
        """
        uses: list[KeyUse] = []

        async def sign(under: Sequence[RoleKeys], payloads: Sequence[ToSign]) -> list[SignedFile]:
            await self._trail.ready()
            return await self._make(under, payloads, requester, uses)

        try:
            yield sign
        finally:
            if uses:
                await self._trail.record(uses)

    async def _make(self, under: Sequence[RoleKeys], payloads: Sequence[ToSign], requester: str, uses: list[KeyUse]) -> list[SignedFile]:
        wanted = {(keyid, uri): of.keys[keyid] for of in under for keyid, uri in of.online.items()}
        signed = [payload.signed for payload in payloads]
        signing = asyncio.gather(*(self._try(uri, public, signed) for (_, uri), public in wanted.items()))
        digests, every = await asyncio.gather(_digests(payloads), signing)
        made = {place: done for place, done in zip(wanted, every, strict=True) if not isinstance(done, Exception)}
        by_key = {keyid: done for (keyid, _), done in made.items()}
        # Recorded even if the signatures do not reach the threshold, because they were made.
        uses += [KeyUse(requester, keyid, uri, [*self._probe(keyid, uri), *digests]) for keyid, uri in made]
        problems = {uri: done for (_, uri), done in zip(wanted, every, strict=True) if isinstance(done, Exception)}
        self._say(under[0], problems)
        if not under[0].are_met_by(by_key):
            reasons = [str(problems[uri]) for uri in under[0].online.values() if uri in problems]
            raise KeyUnavailableError("; ".join(reasons) or "no key of the role has a URI that tells the signer where it is")
        return [
            SignedFile(one.role, one.version, one.expires, envelope.assemble(one.in_file or one.signed, signatures), list(by_key))
            for one, signatures in zip(payloads, zip(*by_key.values(), strict=True), strict=True)
        ]

    async def _try(self, uri: str, public: Key, signed: Sequence[bytes]) -> Sequence[SignatureEntry] | Exception:
        try:
            done = await (await self._key(uri, public)).sign_many(signed)
        except (ConfigError, KeyUnavailableError) as error:
            if (public.keyid, uri) not in self._failed:
                _log.warning("key.unavailable", keyid=public.keyid, uri=uri, error=str(error))
            self._failed[public.keyid, uri] = asyncio.get_running_loop().time(), error
            self._worked.discard((public.keyid, uri))
            return error
        self._failed.pop((public.keyid, uri), None)
        self._worked.add((public.keyid, uri))
        return done

    async def _key(self, uri: str, public: Key) -> SigningKey:
        if (known := self._open.get((public.keyid, uri))) is not None:
            return known
        # Concurrent callers wait for the same opening.
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
                self._warned_at[uri] = now
                self._health.problem(f"signer.key.{uri}", str(problems[uri]))
            else:
                self._warned_at.pop(uri, None)
                self._health.ok(f"signer.key.{uri}")
        for uri in [uri for uri, at in self._warned_at.items() if at < now - FORGET_SECONDS]:
            del self._warned_at[uri]
            self._health.gone(f"signer.key.{uri}")

    def _probe(self, keyid: str, uri: str) -> list[SignedDigest]:
        # Opening the key used it too; that use is recorded with the first signatures.
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
