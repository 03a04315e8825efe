"""A log whose metadata a test signs by hand: custom roles, a catch-all role, bins, and the commits that name them."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from tufline import records
from tufline.bus import Bus, Message
from tufline.metadata import envelope
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Head, Vector, topics
from tufline.records.metadata import VECTOR_HEADER, VERSION_HEADER, metadata_key
from tufline.records.vector import encode_vector
from tufline.trust import ceremony, roles, rules
from tufline_testing.log import DEFAULT_DAYS, settings_of
from tufline_testing.payloads import make_bootstrap

EXPIRES = datetime(2040, 1, 1, tzinfo=UTC)
BINS = 2


def new_key() -> CryptoSigner:
    """Make a key for a custom role."""
    return ceremony.make_key("ecdsa").signer


class HandSigned:
    """The metadata of a repository, signed by a test.

    Attributes:
        bootstrap: the record that ingest would append for the repository.
        online: the key of everything but root and custom roles.
        versions: role name to version, of everything that is made.
        newest: role name to the file made last.
    """

    def __init__(self, key_dir: Path) -> None:
        """Make a root, targets without custom roles, and empty bins."""
        held = make_bootstrap(key_dir, bins=BINS, mode="rstuf", days=DEFAULT_DAYS)
        assert held.online is not None
        root: dict[str, Any] = held.payload["metadata"]["root"]
        self.settings = settings_of(BINS, BINS, DEFAULT_DAYS)
        self.bootstrap = records.Bootstrap(v=self.settings.schema, settings=self.settings, root=root)
        self.root = roles.parse(Root, root).signed
        self.online = held.online.signer
        self.versions: dict[str, int] = {}
        self.newest: dict[str, bytes] = {}
        self._made: list[str] = []
        self._take("root", 1, roles.file_bytes(root))
        self.targets()
        for number in range(BINS):
            self.role(f"bins-{number}", [f"in-bins/{number}"])

    def sign(self, signed: Signed, *signers: CryptoSigner) -> bytes:
        """Make the file of a role, signed by the online key or by others."""
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers or (self.online,):
            metadata.sign(signer, append=True)
        return roles.file_bytes(metadata.to_dict())

    def targets(self, *custom: Delegation, keys: Sequence[CryptoSigner] = ()) -> None:
        """Make the next targets, which delegates to custom roles."""
        delegations = Delegations({key.public_key.keyid: key.public_key.to_dict() for key in keys}, custom)
        version = self.versions.get("targets", 0) + 1
        signed, in_file = rules.make_targets(self.root, self.settings, delegations, version, EXPIRES)
        self._take("targets", version, self._signed_bytes(signed, in_file))

    def catch_all(self, of_bins: Sequence[CryptoSigner] = (), bins: int = BINS) -> None:
        """Make the next catch-all role, perhaps with other keys of the bins than targets names, or with more bins than there are."""
        keys = {one.public_key.keyid: one.public_key for one in of_bins or (self.online,)}
        version = self.versions.get("bins", 0) + 1
        signed, in_file = rules.make_catch_all(roles.RoleKeys(keys, 1), settings_of(bins, 1, DEFAULT_DAYS), version, EXPIRES)
        self._take("bins", version, self._signed_bytes(signed, in_file))

    def role(self, name: str, paths: Sequence[str] = (), *signers: CryptoSigner) -> None:
        """Make the next version of a bin or a custom role; each path is also the content of its file."""
        content = {path: TargetFile(len(path), {"sha256": hashlib.sha256(path.encode()).hexdigest()}, path) for path in paths}
        version = self.versions.get(name, 0) + 1
        self._take(name, version, self.sign(Targets(version, expires=EXPIRES, targets=content), *signers))

    def commit(self, **others: int) -> None:
        """Make a snapshot of everything, perhaps in other versions (0 leaves a role out), and its timestamp."""
        meta = {**self.versions, **{name.replace("_", "-"): version for name, version in others.items()}}
        named = {
            f"{name}.json": MetaFile(version) for name, version in meta.items() if version and name not in {"root", "snapshot", "timestamp"}
        }
        version = self.versions.get("snapshot", 0) + 1
        snapshot = self.sign(Snapshot(version, expires=EXPIRES, meta=named))
        self._take("snapshot", version, snapshot)
        ref = MetaFile(version, len(snapshot), {"sha256": envelope.sha256(snapshot)})
        number = self.versions.get("timestamp", 0) + 1
        self._take("timestamp", number, self.sign(Timestamp(number, expires=EXPIRES, snapshot_meta=ref)))

    async def append(self, bus: Bus) -> None:
        """Append what was made since the last call to the log, with its heads, in one transaction as the signer does."""
        made, self._made = self._made, []
        start = await bus.end(topics.METADATA, 0)
        vector = encode_vector(Vector([0] * self.settings.partitions, 1))
        messages: list[Message] = []
        for role in made:
            version, content = self.versions[role], self.newest[role]
            headers = {VERSION_HEADER: str(version), **({VECTOR_HEADER: vector} if role == "timestamp" else {})}
            messages.append(Message(topics.METADATA, metadata_key(role, version), content, headers=headers))
        heads = [
            Message(topics.HEADS, role, records.encode(self._head(role, offset)), self._partition(bus, role))
            for offset, role in enumerate(made, start)
        ]
        await bus.append([*messages, *heads])

    def _head(self, role: str, offset: int) -> Head:
        content = self.newest[role]
        return Head(
            version=self.versions[role],
            sha256=envelope.sha256(content),
            length=len(content),
            expires=envelope.format_expires(EXPIRES),
            offset=offset,
            keyids=[entry.keyid for entry in envelope.disassemble(content).signatures],
        )

    def _partition(self, bus: Bus, role: str) -> int:
        is_top = role in {"root", "targets", "snapshot", "timestamp", "bins"}
        return topics.commit_partition(bus.partitions(topics.HEADS)) if is_top else 0

    def _signed_bytes(self, signed: bytes, in_file: bytes) -> bytes:
        return envelope.assemble(in_file, [envelope.SignatureEntry(self.online.public_key.keyid, self.online.sign(signed).signature)])

    def _take(self, role: str, version: int, content: bytes) -> None:
        self.versions[role], self.newest[role] = version, content
        self._made = [*(other for other in self._made if other != role), role]
