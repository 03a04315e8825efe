"""The audit trail of this process: every use of an online key is recorded before its signatures are used.

In: uses of keys, from all workers concurrently. Out: one chain of records (``tufline.audit``), written durably first to the configured sink
and then to topic ``audit``. Records that wait during a write go with the next one, so that many workers cost one append.

A write whose outcome is unknown is repeated with the same records before any other write: a record may appear twice, but the chain has no
fork and no gap. No key is used until the write succeeds, so the queue stays limited to the uses that were in progress.
"""

import asyncio
import hashlib
import os
import secrets
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from tufline.audit.chain import Chain
from tufline.audit.records import Anchor, SignedDigest
from tufline.bus import Bus, Message
from tufline.bus.scan import last_record
from tufline.clock import Clock
from tufline.errors import BusError
from tufline.records import topics
from tufline_signer import metrics
from tufline_signer.errors import AuditError
from tufline_signer.signing.audit_sinks import Sink

CHAIN_BYTES: Final = 8
"""Number of random bytes in a chain's name."""

CLOSE_SECONDS: Final = 5.0
"""The longest time that the process waits at its end for its last record, in seconds."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One call of a key.

    Attributes:
        part: the part of the process that requested it.
        keyid: keyid of the key.
        uri: URI of the private key.
        signatures: the digests that it signed.
    """

    part: str
    keyid: str
    uri: str
    signatures: Sequence[SignedDigest]


class Trail:
    """Records the uses of keys; see the module."""

    def __init__(self, bus: Bus, clock: Clock, sink: Sink | None = None) -> None:
        """Create the trail; its chain starts before the first use of a key.

        Args:
            bus: the log.
            clock: the wall clock.
            sink: where the records go in addition to the topic; None for nowhere.
        """
        self._bus = bus
        self._clock = clock
        self._sink = sink
        self._chain: Chain | None = None
        self._unwritten: list[bytes] = []
        self._writing = asyncio.Lock()
        self._attempts = 0
        self._failure = ""

    async def ready(self) -> None:
        """Check, as far as possible, that a use can be recorded. Must be called before each use.

        Raises:
            AuditError: if earlier uses could not be recorded yet; then no key may be used.
        """
        if self._chain is None or self._failure:
            await self._done(self._write())

    async def record(self, uses: Sequence[KeyUse]) -> None:
        """Record uses of keys. Must be awaited before their signatures are used in any way.

        Args:
            uses: the uses since ``ready``.

        Raises:
            AuditError: if the uses may not be recorded; do not use the signatures.
        """
        assert self._chain is not None, "a key was used before the trail was ready"
        if not uses:
            return
        with metrics.audit_seconds.time():
            self._unwritten += [self._chain.use(self._clock(), use.part, use.keyid, use.uri, use.signatures) for use in uses]
            await self._done(self._write())

    async def close(self) -> None:
        """Write the chain's last record. No key may be used afterwards."""
        try:
            if self._chain is not None:
                self._unwritten.append(self._chain.end(self._clock()))
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._done(self._write())
        except (AuditError, TimeoutError) as error:
            _log.warning("audit.not_ended", error=str(error))
        finally:
            if self._sink is not None and not self._writing.locked():
                self._sink.close()

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        # Cancelling the caller must not cancel the write, or another caller's lines would end up in the middle of this one's.
        task = asyncio.create_task(work, name="signer.audit")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _write(self) -> None:
        before = self._attempts
        async with self._writing:
            if self._failure and self._attempts > before:
                raise AuditError(self._failure)  # retrying what has just failed would delay all waiting callers, one after the other
            self._attempts += 1
            try:
                if self._chain is None:
                    await self._begin()
                # Everything that waits by now; the next caller may find nothing left to write.
                if batch := list(self._unwritten):
                    await self._write_out(batch)
                    del self._unwritten[: len(batch)]
            except (BusError, OSError) as error:
                self._failure = _explain(error)
                raise AuditError(self._failure) from error
            self._failure = ""

    async def _begin(self) -> None:
        newest = await last_record(self._bus, topics.AUDIT, 0)
        after = Anchor(newest.key, newest.offset, hashlib.sha256(newest.value).hexdigest()) if newest is not None else None
        chain = Chain(secrets.token_hex(CHAIN_BYTES), socket.gethostname(), os.getpid())
        self._unwritten.append(chain.begin(self._clock(), after))
        self._chain = chain

    async def _write_out(self, batch: Sequence[bytes]) -> None:
        assert self._chain is not None
        if self._sink is not None:
            await asyncio.to_thread(self._sink.write, batch)
        await self._bus.append([Message(topics.AUDIT, self._chain.name, record) for record in batch])


def _explain(error: BusError | OSError) -> str:
    reason = f"{error.filename}: {error.strerror} (signer.audit_file)" if isinstance(error, OSError) else f"topic {topics.AUDIT}: {error}"
    return f"no key is used while its use can't be recorded; {reason}; signing resumes when that is fixed"
