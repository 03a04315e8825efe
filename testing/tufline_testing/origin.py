"""An origin whose operations are observed and may fail, and a client that must succeed after each of them."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from tufline.errors import StoreError
from tufline.metadata.envelope import disassemble
from tufline.origin.directory import LocalStore
from tufline.origin.store import OWNER, TIMESTAMP, Store
from tufline_testing.client_view import find_targets


class WatchedStore:
    """Forwards every operation to another store.

    ``before`` is called with each operation's name before it runs, and may raise; ``after`` is called once it has run.
    """

    def __init__(self, store: Store, before: Callable[[str], None], after: Callable[[str], None] = lambda _: None) -> None:
        self._store = store
        self._before = before
        self._after = after

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        others: list[str] = []
        for name, content in files:
            self._before(f"put {name}")
            others += await self._store.put_many([(name, content)])
            self._after(f"put {name}")
        return others

    async def flush(self) -> None:
        self._before("flush")
        await self._store.flush()
        self._after("flush")

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        kind = "root" if name.endswith(".root.json") else "owner" if name == OWNER else "repair"
        operation = "timestamp" if name == TIMESTAMP else f"{kind} {name}"
        self._before(operation)
        await self._store.replace(name, content, expected=expected, owner=owner)
        self._after(operation)

    async def get(self, name: str) -> bytes | None:
        self._before(f"get {name}")
        return await self._store.get(name)

    async def names(self) -> set[str]:
        self._before("names")
        return await self._store.names()

    async def delete_many(self, names: Iterable[str]) -> None:
        for name in names:
            self._before(f"delete {name}")
            await self._store.delete_many([name])
            self._after(f"delete {name}")


class FailingAt:
    """Raises at the n-th operation, and at all later ones until it is repaired."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.failed = False

    def __call__(self, operation: str) -> None:
        self._left -= 1
        if self._left < 0 and not self.failed:
            self.failed = True
            raise StoreError(f"broken at {operation}")


class _RememberingSet(TrustedMetadataSet):
    """python-tuf's rules. The same bytes under the same keys are decoded and their signatures verified only once: that takes most time."""

    def __init__(self, root: bytes, loaded: dict[tuple[object, ...], Any]) -> None:
        self._loaded = loaded
        super().__init__(root, EnvelopeType.METADATA)

    def _load_trusted_root(self, data: bytes) -> None:
        self._load_new, self._load_data = self._load_data, self._load  # type: ignore[assignment]
        super()._load_trusted_root(data)

    def _load(self, role: type[Signed], content: bytes, delegator: Root | Targets | None = None, name: str | None = None) -> Any:
        # Delegators are in ``loaded``, too, so the id of one is never that of another.
        key = role, content, id(delegator), name
        if key not in self._loaded:
            self._loaded[key] = self._load_new(role, content, delegator, name)
        return self._loaded[key]


class Reader:
    """A client that reads an origin's directory repeatedly, as python-tuf does, and remembers what it has trusted."""

    def __init__(self, directory: Path, clock: Callable[[], datetime], newest_root: float = float("inf")) -> None:
        self._directory = directory
        self._newest_root = newest_root  # a cache hides all later roots
        self._clock = clock
        self.timestamp = 0
        self.root = 0
        self.named: dict[str, int] = {}
        """The versions that the snapshot names, by the names of their files."""
        self.keyids: set[str] = set()
        """Keyids of the keys that signed the timestamp and the snapshot."""
        self._loaded: dict[tuple[object, ...], Any] = {}

    def refresh(self) -> dict[str, int]:
        """Verify everything, and return each target's length; any fault raises. An origin without a timestamp has no targets."""
        if not (self._directory / "timestamp.json").exists():
            return {}
        trusted = _RememberingSet(self._file("1.root.json"), self._loaded)
        trusted.reference_time = self._clock()
        while trusted.root.version < self._newest_root and (self._directory / f"{trusted.root.version + 1}.root.json").exists():
            trusted.update_root(self._file(f"{trusted.root.version + 1}.root.json"))
        assert trusted.root.version >= self.root, f"root went back from {self.root} to {trusted.root.version}"
        self.root = trusted.root.version
        timestamp: Timestamp = trusted.update_timestamp(self._file("timestamp.json"))
        assert timestamp.version >= self.timestamp, f"timestamp went back from {self.timestamp} to {timestamp.version}"
        self.timestamp = timestamp.version
        of_snapshot = self._file(f"{timestamp.snapshot_meta.version}.snapshot.json")
        snapshot: Snapshot = trusted.update_snapshot(of_snapshot)
        named = {name: meta.version for name, meta in snapshot.meta.items()}
        back = {name: version for name, version in self.named.items() if named.get(name, 0) < version}
        assert not back, f"the snapshot goes back from {back} to {[named.get(name) for name in back]}"
        self.named = named
        self.keyids = {entry.keyid for content in (self._file("timestamp.json"), of_snapshot) for entry in disassemble(content).signatures}
        targets: Targets = trusted.update_targets(self._file(f"{snapshot.meta['targets.json'].version}.targets.json"))
        found = find_targets(targets, partial(self._role, trusted))
        return {path: target.length for path, target in found.items()}

    def _role(self, trusted: TrustedMetadataSet, role: str, parent: str) -> Targets:
        content = self._file(f"{trusted.snapshot.meta[f'{role}.json'].version}.{role}.json")
        return trusted.update_delegated_targets(content, role, parent)

    def _file(self, name: str) -> bytes:
        return (self._directory / name).read_bytes()


def checked_store(directory: Path, clock: Callable[[], datetime]) -> WatchedStore:
    """Make a store in a directory that a client reads before and after each operation: an operation fails if the client can't."""
    reader = Reader(directory, clock)

    def look(_: str) -> None:
        reader.refresh()

    return WatchedStore(LocalStore(directory), look, look)
