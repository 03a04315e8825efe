"""Comparing a log with an origin: finds every difference, whichever of the two is wrong.

First it reads ``published``, which has the commits that the publisher recorded as live, then every file of the origin, then ``heads``,
which names the newest versions, and then ``metadata``, which has all versions. The services write in the opposite order. So the source of
everything that was read early is found in a later step, even if services run meanwhile. Then the results are compared: every published file
must exist and be byte for byte the one on the log, and the origin may have no file that does not come from the log.

In: a log and an origin. Out: findings, each a sentence, and notes on differences that are not faults, such as an origin that is behind
because no publisher is running.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tuf.api.metadata import Root, Snapshot, Timestamp

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.scan import last_record, scan
from tufline.errors import MetadataError, RecordError
from tufline.metadata import envelope
from tufline.metadata.snapshot import SnapshotRef, read_snapshot, read_timestamp
from tufline.origin.store import TIMESTAMP, Store
from tufline.records import Head, Held, Progress, Published, topics
from tufline.records.metadata import role_of_key, version_of

SETTLE_SECONDS: Final = 10.0
"""How long after its head a file may become visible: both are in one transaction, but in different partitions."""

_FILE_NAME = re.compile(r"([1-9][0-9]*)\.(.+)\.json")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a role on the log.

    Attributes:
        offset: the offset of its newest record in ``metadata``.
        sha256: the file's digest, in lower-case hexadecimal.
        length: the file's length in bytes.
    """

    offset: int
    sha256: str
    length: int


@dataclass(slots=True)
class FsckReport:
    """The result of a comparison.

    Attributes:
        findings: faults, each a sentence.
        notes: differences that are not faults.
        versions: how many versions the log has.
        files: how many files the origin has.
        timestamp_version: the version of the timestamp at the origin; 0 if there is none.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: int = 0
    files: int = 0
    timestamp_version: int = 0


class _Log:
    """The content of a log: all versions of all roles, and the head of each role."""

    def __init__(self, report: FsckReport, before: int) -> None:
        """Start empty.

        Args:
            report: where findings go.
            before: the end of ``metadata`` when the comparison started; the heads of later records may not have been read.
        """
        self._report = report
        self._before = before
        self.versions: dict[str, dict[int, Version]] = {}
        self.heads: dict[str, Head] = {}
        self._held: dict[str, int] = {}

    async def read(self, bus: Bus) -> None:
        for partition in range(bus.partitions(topics.HEADS)):
            await self._read_heads(bus, partition)
        end = await bus.end(topics.METADATA, 0)
        named = max((head.offset for head in self.heads.values()), default=-1)
        async for batch in scan(bus, topics.METADATA, 0, 0, end):
            self._take_files(batch)
        async for batch in scan(bus, topics.METADATA, 0, end, named + 1, max_wait=SETTLE_SECONDS):
            self._take_files(batch)
        self._report.versions = sum(map(len, self.versions.values()))

    def _take_files(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self._take_file(record)

    def _take_file(self, record: Record) -> None:
        where = f"metadata offset {record.offset}"
        try:
            version = version_of(record)
            in_file = envelope.read_common(envelope.disassemble(record.value).signed).version
        except (MetadataError, RecordError) as error:
            self._report.findings.append(f"log: {where} ({record.key}) is not a metadata file: {error}")
            return
        if in_file != version:
            self._report.findings.append(f"log: the header of {where} says {record.key} version {version}, but its file has {in_file}")
        role = role_of_key(record.key)
        of_role = self.versions.setdefault(role, {})
        newest = max(of_role, default=version)
        if version < newest and version not in of_role:
            self._report.findings.append(f"log: {role} goes back from version {newest} to {version} at {where}")
        if version > newest + 1:
            self._report.findings.append(f"log: {role} has no versions between {newest} and {version}")
        found = Version(record.offset, envelope.sha256(record.value), len(record.value))
        known = of_role.setdefault(version, found)
        if known.sha256 != found.sha256:
            self._report.findings.append(
                f"log: {role} version {version} has two different contents, at the offsets {known.offset} and {record.offset}"
            )
        elif known is not found and not (record.offset >= self._before and self._is_named(role, known)):
            of_role[version] = found  # a timestamp that was appended again with a new vector

    def _is_named(self, role: str, version: Version) -> bool:
        return role in self.heads and self.heads[role].offset == version.offset

    async def _read_heads(self, bus: Bus, partition: int) -> None:
        newest: dict[str, Head] = {}
        held: dict[str, str] = {}
        progress: Progress | None = None
        async for batch in scan(bus, topics.HEADS, partition):
            for record in batch:
                try:
                    content = records.decode(records.heads_decoder, record.value)
                except RecordError as error:
                    self._report.findings.append(f"log: heads/{partition} offset {record.offset} ({record.key}): {error}")
                    continue
                if isinstance(content, Head):
                    newest[record.key] = content
                elif isinstance(content, Held):
                    held[record.key] = content.path
                elif isinstance(content, Progress):
                    progress = content
        self._check_held(partition, [path for path in held.values() if path], progress)
        for role, head in newest.items():
            if role in self.heads:
                self._report.findings.append(f"log: {role} has a head in two partitions of the topic heads; one of them is {partition}")
            self.heads[role] = head

    def _check_held(self, partition: int, paths: Sequence[str], progress: Progress | None) -> None:
        """Check the held changes of a partition: no path is held twice, and the progress has their number."""
        for path in sorted(set(paths)):
            if paths.count(path) > 1 or path in self._held:
                others = sorted({partition, self._held.get(path, partition)})
                self._report.findings.append(f"log: {path} is held more than once, in heads/{' and heads/'.join(map(str, others))}")
            self._held[path] = partition
        counted = 0 if progress is None else progress.held
        if counted != len(paths):
            self._report.findings.append(f"log: heads/{partition} has {len(paths)} held changes, but its progress counts {counted}")

    def note_held(self) -> None:
        """Note how many changes are held."""
        if self._held:
            self._report.notes.append(f"{len(self._held)} changes are held until they are published (tufline publish)")

    def check_heads(self) -> None:
        for role, head in sorted(self.heads.items()):
            found = self.versions.get(role, {}).get(head.version)
            if found is None:
                self._report.findings.append(f"log: the head of {role} names version {head.version}, which metadata does not have")
            elif (found.offset, found.sha256, found.length) != (head.offset, head.sha256, head.length):
                self._report.findings.append(f"log: the head of {role} does not match the record of version {head.version} in metadata")
        for role, of_role in self.versions.items():
            newest = max((version for version, found in of_role.items() if found.offset < self._before), default=0)
            if newest and role not in self.heads:
                self._report.findings.append(f"log: {role} has no head")
            elif role in self.heads and newest > self.heads[role].version:
                self._report.findings.append(f"log: the head of {role} names version {self.heads[role].version}, but metadata has {newest}")


class _Origin:
    """Compares the files of an origin with a log."""

    def __init__(self, report: FsckReport) -> None:
        self._report = report
        self._timestamp: bytes | None = None
        self._snapshot: bytes | None = None
        self._files: dict[str, tuple[str, int]] = {}
        """Name to hash and length."""
        self._checked = {TIMESTAMP}

    async def read(self, store: Store) -> None:
        # The timestamp is read before the list of names: its files were written before it, and are kept for a while once superseded.
        self._timestamp = await store.get(TIMESTAMP)
        named = _snapshot_of(self._timestamp)
        snapshot = "" if named is None else envelope.file_name(Snapshot.type, named.version)
        names = await store.names()
        for name in sorted(names):
            content = self._timestamp if name == TIMESTAMP else await store.get(name)
            if content is not None:
                self._files[name] = envelope.sha256(content), len(content)
            if name == snapshot:
                self._snapshot = content
        self._report.files = len(names)

    def check(self, log: _Log, published: Published | None) -> None:
        versions = self._check_timestamp(log, published)
        for role, version in sorted(versions.items()):
            self._check_file(log, role, version)
        end = published.next_offset if published else 0
        for version, root in sorted(log.versions.get(Root.type, {}).items()):
            if root.offset < end or envelope.file_name(Root.type, version) in self._files:
                self._check_file(log, Root.type, version)
        self._check_others(log, versions)

    def _check_timestamp(self, log: _Log, published: Published | None) -> dict[str, int]:
        findings, notes = self._report.findings, self._report.notes
        content = self._timestamp
        last = published.timestamp.version if published else 0
        if content is None:
            if last:
                findings.append(f"origin: {TIMESTAMP} is missing, but version {last} was published")
            else:
                notes.append("nothing is published yet")
            return {}
        named = _snapshot_of(content)
        if named is None:
            findings.append(f"origin: {TIMESTAMP} is not a timestamp")
            return {}
        shown = envelope.read_common(envelope.disassemble(content).signed).version
        self._report.timestamp_version = shown
        on_log = log.versions.get(Timestamp.type, {})
        if shown not in on_log:
            findings.append(f"origin: {TIMESTAMP} has version {shown}, which the log does not have")
        elif on_log[shown].sha256 != envelope.sha256(content):
            findings.append(f"origin: {TIMESTAMP} differs from version {shown} on the log")
        if shown < last:
            findings.append(f"origin: {TIMESTAMP} has gone back to version {shown}; {last} was published")
        if shown < (newest := max(on_log, default=0)):
            notes.append(f"the origin has timestamp version {shown}, and the log {newest}: a running publisher publishes it")
        name = envelope.file_name(Snapshot.type, named.version)
        if self._snapshot is None:
            self._checked.add(name)
            findings.append(f"origin: {name} is missing")
            return {}
        if self._files[name] != (named.sha256, named.length):
            findings.append(f"origin: {name} is not the snapshot that {TIMESTAMP} names")
        try:
            return {Snapshot.type: named.version} | read_snapshot(envelope.disassemble(self._snapshot).signed)
        except MetadataError as error:
            self._checked.add(name)
            findings.append(f"origin: {name}: {error}")
            return {}

    def _check_file(self, log: _Log, role: str, version: int) -> None:
        name = envelope.file_name(role, version)
        self._checked.add(name)
        found = self._files.get(name)
        on_log = log.versions.get(role, {}).get(version)
        if found is None:
            self._report.findings.append(f"origin: {name} is missing")
        if on_log is None:
            self._report.findings.append(f"origin: {name} is not on the log")
        elif found is not None and found[0] != on_log.sha256:
            self._report.findings.append(f"origin: {name} differs from the log ({found[1]} bytes instead of {on_log.length})")

    def _check_others(self, log: _Log, shown: dict[str, int]) -> None:
        superseded = pending = 0
        for name in sorted(self._files.keys() - self._checked):
            parsed = _FILE_NAME.fullmatch(name)
            role, version = (parsed[2], int(parsed[1])) if parsed else ("", 0)
            if role not in log.versions:
                self._report.findings.append(f"origin: {name} is not a file of this repository")
            elif version in log.versions[role]:
                self._check_file(log, role, version)
                superseded += version < shown.get(role, 0)
                pending += version > shown.get(role, 0)
            elif version < min(log.versions[role]):
                superseded += 1  # compaction has deleted it from the log; the publisher's retention deletes it here later
            else:
                self._report.findings.append(f"origin: {name} is not on the log")
        if superseded:
            self._report.notes.append(f"{superseded} superseded files will be deleted later (publisher.superseded_retention)")
        if pending:
            self._report.notes.append(f"{pending} files become visible to clients with a later timestamp")


def _snapshot_of(timestamp: bytes | None) -> SnapshotRef | None:
    if timestamp is None:
        return None
    try:
        signed = envelope.disassemble(timestamp).signed
        envelope.read_common(signed)
        return read_timestamp(signed)
    except MetadataError:
        return None


async def compare(bus: Bus, store: Store, origin: str) -> FsckReport:
    """Compare a log with an origin. Services may run meanwhile.

    Args:
        bus: the log.
        store: the origin.
        origin: the origin's name, which is the key of its records in ``published``.

    Returns:
        All differences that existed when the comparison started.

    Raises:
        BusError: if the log can't be read.
        StoreError: if the origin can't be read.
    """
    report = FsckReport()
    before = await bus.end(topics.METADATA, 0)
    last = await last_record(bus, topics.PUBLISHED, 0, lambda record: record.key == origin)
    try:
        published = None if last is None else records.decode(records.published_decoder, last.value)
    except RecordError as error:
        report.findings.append(f"log: published (of {origin}): {error}")
        published = None
    files, log = _Origin(report), _Log(report, before)
    await files.read(store)
    await log.read(bus)
    log.check_heads()
    log.note_held()
    files.check(log, published)
    return report
