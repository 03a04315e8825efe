"""Writing to an origin, and the files that the origin is known to have.

In: files that a client accepts. Out: an origin that has them, durable once ``flush`` returns; and the state of the origin. A file that
another log or a crash left there is never taken for this log's.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from tuf.api.metadata import Targets

from tufline.config.settings import PublisherConfig
from tufline.errors import MetadataError, StoreBusyError, StoreChangedError
from tufline.metadata import envelope
from tufline.origin.provenance import parse_name
from tufline.origin.store import TIMESTAMP, Store
from tufline.runtime.health import Health
from tufline_publisher import metrics
from tufline_publisher.errors import FilesLostError
from tufline_publisher.origin_state import Origin
from tufline_publisher.trust_chain import TrustChain

CHECK_SECONDS: Final = 60.0
"""How often to check that the origin still has the uploaded files, in seconds."""

DELETE_AT_ONCE: Final = 1000
"""The most files that are deleted between two batches."""

_log = structlog.get_logger(__name__)


def now() -> float:
    """Return the time by which files are kept, in seconds.

    Returns:
        The event loop's time, so that changes of the wall clock do not affect how long superseded files are kept.
    """
    return asyncio.get_running_loop().time()


class OriginWriter:
    """Writes to one origin."""

    def __init__(self, store: Store, config: PublisherConfig, part: str, health: Health) -> None:
        """Start without knowing what the origin has.

        Args:
            store: the origin.
            config: the origin's name, and how long superseded files are kept.
            part: the publisher's part in the health.
            health: where a locked origin is reported.
        """
        self._store = store
        self._config = config
        self._part = part
        self._health = health
        self.state = Origin(set())
        """The files that the origin has."""
        self._owner: bytes | None = None
        self._unflushed = False
        self._next_check = now() + CHECK_SECONDS

    def resume(self, state: Origin, owner: bytes) -> None:
        """Continue from what was found at the origin.

        Args:
            state: the state of the origin.
            owner: the content of ``OWNER``: nothing is replaced once the origin has another owner.
        """
        self.state, self._owner = state, owner

    async def put(self, files: Sequence[tuple[str, bytes]], chain: TrustChain) -> None:
        """Upload versioned files.

        Args:
            files: name and content of each.
            chain: what clients trust: it tells a damaged file at the origin from another log's.

        Raises:
            StoreError: if the store fails.
        """
        if not files:
            return
        self._unflushed = True
        others = set(await self._store.put_many(files))
        for name, content in files:
            role, version = parse_name(name) or (name, 0)
            is_other = False
            if name in others and (there := await self._store.get(name)) != content:
                # A file that a crash left half-written is uploaded again, but a version that clients accept never changes its content.
                is_other = there is not None and chain.is_valid(role, version, there)
                if is_other:
                    _log.error("publisher.other_content", origin=self._config.origin, name=name)
                else:
                    await self.replace(name, content, there)
            self.state.put(role, name, is_other=is_other)
        metrics.files.inc(len(files))
        metrics.file_bytes.inc(sum(len(content) for _, content in files))

    async def count_what_was_left(self, versions: dict[str, int], chain: TrustChain) -> None:
        """Accept valid files that an earlier publisher uploaded, and that can't be fetched because no head refers to them any more.

        Args:
            versions: role name to version, of a snapshot.
            chain: what clients trust.

        Raises:
            StoreError: if the store fails.
        """
        for role, version in self.state.left(versions):
            name = envelope.file_name(role, version)
            content = await self._store.get(name)
            if content is not None and chain.is_valid(role, version, content):
                self._unflushed = True
                self.state.put(role, name, is_other=False)

    async def verify_again(self, versions: dict[str, int], chain: TrustChain) -> None:
        """Verify files at the origin by the keys of a commit's targets, if other keys verified them or no client reads them so far.

        Args:
            versions: role name to version, as the commit's snapshot names them.
            chain: what clients trust.

        Raises:
            StoreError: if the store fails.
        """
        try:
            for role in chain.delegated.unverified(versions, self.state.published):
                if (content := await self._store.get(envelope.file_name(role, versions[role]))) is not None:
                    chain.delegated.take(role, versions[role], content, versions[Targets.type])
        except MetadataError as error:
            _log.warning("publisher.unverified", origin=self._config.origin, error=str(error))

    async def flush(self) -> None:
        """Make everything uploaded so far durable.

        Raises:
            StoreError: if the store fails.
        """
        if self._unflushed:
            await self._store.flush()
            self._unflushed = False

    async def replace(self, name: str, content: bytes, expected: bytes | None) -> None:
        """Replace a file, as soon as no other process keeps the origin locked.

        Args:
            name: the file's name.
            content: its new content.
            expected: the content that it must have; None if it must not exist.

        Raises:
            StoreChangedError: if it has another content, or the origin another owner.
            StoreError: if the store fails.
        """
        # Starting again would not help while another process keeps the origin locked; health reports the lock until it is released.
        while True:
            try:
                return await self._store.replace(name, content, expected=expected, owner=self._owner)
            except StoreBusyError as error:
                self._health.problem(self._part, str(error))
                _log.warning("publisher.locked_out", origin=self._config.origin, error=str(error))

    async def check(self) -> None:
        """Check, once a minute, that the origin still has the uploaded files.

        Raises:
            StoreChangedError: if another process has written the timestamp.
            FilesLostError: if files have vanished.
            StoreError: if the store fails.
        """
        if now() < self._next_check:
            return
        self._next_check = now() + CHECK_SECONDS
        if await self._store.get(TIMESTAMP) != self.state.content:
            raise StoreChangedError(f"another process changed or deleted {TIMESTAMP}; reading the state of the origin again")
        if lost := self.state.look(await self._store.names(), now()):
            raise FilesLostError(f"{len(lost)} files have vanished from the origin, such as {lost[0]}: uploading them again")

    async def delete_superseded(self) -> None:
        """Delete some of the files that have been superseded for long enough.

        Raises:
            StoreError: if the store fails.
        """
        names = self.state.take_expired(now(), self._config.superseded_retention, DELETE_AT_ONCE)
        if names:
            await self._store.delete_many(names)
            self.state.deleted(names)
            metrics.deleted.inc(len(names))
            _log.info("publisher.deleted", files=len(names))
