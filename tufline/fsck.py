"""Comparing a log with an origin: every difference, whoever is at fault.

Workflow. Read all of ``metadata``: what each version is; read ``heads``: what the signer takes for the newest; read ``published``: what the
publisher said is live. All three must agree. Then read every file of the origin: what is shown must be there whole, byte for byte as on the
log, and nothing may be there that no log made.

In: a log that nobody writes to meanwhile, an origin. Out: findings, each a sentence; and notes on what is no fault, such as an origin that
is behind and that the publisher brings up when it runs.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec
from tuf.api.metadata import Root, Snapshot, Timestamp

from tufline import metafile, records, topics
from tufline.bus import Bus, Record
from tufline.bus.last import last_record
from tufline.errors import MetadataError, RecordError
from tufline.records import VERSION_HEADER, Head, Published
from tufline.snapshot import read_snapshot
from tufline.store import TIMESTAMP, Store

_FILE_NAME = re.compile(r"([1-9][0-9]*)\.(.+)\.json")


class _Named(msgspec.Struct):
    version: int
    length: int
    hashes: dict[str, str]


class _SignedTimestamp(msgspec.Struct):
    meta: dict[str, _Named]


_timestamp_decoder: Final = msgspec.json.Decoder(_SignedTimestamp)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a role on the log.

    Attributes:
        offset: of its newest record in ``metadata``.
        sha256: of the file.
        length: of the file, in bytes.
    """

    offset: int
    sha256: str
    length: int


@dataclass(slots=True)
class Report:
    """What a comparison found.

    Attributes:
        findings: what is wrong.
        notes: what differs and is no fault.
        versions: how many versions the log has.
        files: how many files the origin has.
        shown: version of the timestamp that the origin shows; 0 for none.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: int = 0
    files: int = 0
    shown: int = 0


class _Log:
    """What a log says: all versions of all roles, and the newest of each."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.versions: dict[str, dict[int, Version]] = {}
        self.heads: dict[str, Head] = {}

    async def read(self, bus: Bus) -> None:
        reader = bus.reader(topics.METADATA, 0, 0)
        try:
            while batch := await reader.fetch(max_wait=0):
                for record in batch:
                    self._take_file(record)
        finally:
            await reader.close()
        for partition in range(bus.partitions(topics.HEADS)):
            await self._read_heads(bus, partition)
        self._report.versions = sum(map(len, self.versions.values()))

    def _take_file(self, record: Record) -> None:
        where = f"metadata offset {record.offset}"
        try:
            version = int(record.headers[VERSION_HEADER])
            said = metafile.read_common(metafile.disassemble(record.value).signed).version
        except (MetadataError, KeyError, ValueError) as error:
            self._report.findings.append(f"log: {where} ({record.key}) is no metadata file: {error}")
            return
        if said != version:
            self._report.findings.append(f"log: {where} says that {record.key} has version {version}, and the file in it says {said}")
        role = Root.type if record.key == f"{version}.{Root.type}" else record.key
        of_role = self.versions.setdefault(role, {})
        newest = max(of_role, default=version)
        if version < newest and version not in of_role:
            self._report.findings.append(f"log: {role} goes back from version {newest} to {version} at {where}")
        if version > newest + 1:
            self._report.findings.append(f"log: {role} has nothing between the versions {newest} and {version}")
        found = Version(record.offset, metafile.sha256(record.value), len(record.value))
        known = of_role.setdefault(version, found)
        if known.sha256 != found.sha256:
            self._report.findings.append(
                f"log: {role} version {version} has two contents, at the offsets {known.offset} and {record.offset}"
            )
        elif known is not found:
            of_role[version] = found  # a timestamp that was appended again with a new vector

    async def _read_heads(self, bus: Bus, partition: int) -> None:
        newest: dict[str, Head] = {}
        reader = bus.reader(topics.HEADS, partition, 0)
        try:
            while batch := await reader.fetch(max_wait=0):
                for record in batch:
                    try:
                        content = records.decode(records.heads_decoder, record.value)
                    except RecordError as error:
                        self._report.findings.append(f"log: heads/{partition} offset {record.offset} ({record.key}): {error}")
                        continue
                    if isinstance(content, Head):
                        newest[record.key] = content
        finally:
            await reader.close()
        for role, head in newest.items():
            if role in self.heads:
                self._report.findings.append(f"log: {role} has heads in two partitions of heads, one of them {partition}")
            self.heads[role] = head

    def check_heads(self) -> None:
        for role in self.versions.keys() - self.heads.keys():
            self._report.findings.append(f"log: {role} has no head")
        for role, head in sorted(self.heads.items()):
            of_role = self.versions.get(role, {})
            found = of_role.get(head.version)
            if found is None:
                self._report.findings.append(f"log: the head of {role} names version {head.version}, which metadata does not have")
            elif (found.offset, found.sha256, found.length) != (head.offset, head.sha256, head.length):
                self._report.findings.append(f"log: the head of {role} names another version {head.version} than metadata has")
            if of_role and max(of_role) > head.version:
                self._report.findings.append(f"log: the head of {role} names version {head.version}, and metadata has {max(of_role)}")


class _Origin:
    """The files of an origin against what a log says."""

    def __init__(self, report: Report, log: _Log, store: Store) -> None:
        self._report = report
        self._log = log
        self._store = store
        self._names: set[str] = set()
        self._checked: set[str] = set()

    async def check(self, published: Published | None) -> None:
        self._names = await self._store.names()
        self._report.files = len(self._names)
        versions = await self._check_timestamp(published)
        for role, version in sorted(versions.items()):
            await self._check_file(role, version)
        end = published.next_offset if published else 0
        for version, root in sorted(self._log.versions.get(Root.type, {}).items()):
            if root.offset < end or metafile.file_name(Root.type, version) in self._names:
                await self._check_file(Root.type, version)
        await self._check_others(versions)

    async def _check_timestamp(self, published: Published | None) -> dict[str, int]:
        findings, notes = self._report.findings, self._report.notes
        self._checked.add(TIMESTAMP)
        content = await self._store.get(TIMESTAMP)
        last = published.timestamp.version if published else 0
        if content is None:
            if last:
                findings.append(f"origin: {TIMESTAMP} is missing, and version {last} was published")
            else:
                notes.append("nothing is published yet")
            return {}
        try:
            signed = metafile.disassemble(content).signed
            shown = metafile.read_common(signed).version
            named = _timestamp_decoder.decode(signed).meta["snapshot.json"]
            sha256 = named.hashes["sha256"]
        except (MetadataError, msgspec.MsgspecError, KeyError) as error:
            findings.append(f"origin: {TIMESTAMP} is no timestamp: {error}")
            return {}
        self._report.shown = shown
        on_log = self._log.versions.get(Timestamp.type, {})
        if shown not in on_log:
            findings.append(f"origin: {TIMESTAMP} has version {shown}, which the log does not have")
        elif on_log[shown].sha256 != metafile.sha256(content):
            findings.append(f"origin: {TIMESTAMP} is not version {shown} as the log has it")
        if shown < last:
            findings.append(f"origin: {TIMESTAMP} has gone back to version {shown}; {last} was published")
        if shown < (newest := max(on_log, default=0)):
            notes.append(f"the origin shows timestamp {shown}, and the log has {newest}: the publisher brings it when it runs")
        snapshot = await self._read_file(Snapshot.type, named.version)
        if snapshot is None:
            return {}
        if (len(snapshot), metafile.sha256(snapshot)) != (named.length, sha256):
            findings.append(f"origin: {metafile.file_name(Snapshot.type, named.version)} is not the snapshot that {TIMESTAMP} names")
        try:
            return {Snapshot.type: named.version} | read_snapshot(metafile.disassemble(snapshot).signed)
        except MetadataError as error:
            findings.append(f"origin: {metafile.file_name(Snapshot.type, named.version)}: {error}")
            return {}

    async def _read_file(self, role: str, version: int) -> bytes | None:
        name = metafile.file_name(role, version)
        self._checked.add(name)
        content = await self._store.get(name)
        if content is None:
            self._report.findings.append(f"origin: {name} is missing")
        return content

    async def _check_file(self, role: str, version: int) -> None:
        content = await self._read_file(role, version)
        on_log = self._log.versions.get(role, {}).get(version)
        name = metafile.file_name(role, version)
        if on_log is None:
            self._report.findings.append(f"origin: {name} is not on the log")
        elif content is not None and metafile.sha256(content) != on_log.sha256:
            self._report.findings.append(f"origin: {name} is not what the log has ({len(content)} bytes, and {on_log.length})")

    async def _check_others(self, shown: dict[str, int]) -> None:
        superseded = pending = 0
        for name in sorted(self._names - self._checked):
            parsed = _FILE_NAME.fullmatch(name)
            role, version = (parsed[2], int(parsed[1])) if parsed else ("", 0)
            if role not in self._log.versions:
                self._report.findings.append(f"origin: {name} is no file of this repository")
            elif version in self._log.versions[role]:
                await self._check_file(role, version)
                superseded += version < shown.get(role, 0)
                pending += version > shown.get(role, 0)
            elif version < min(self._log.versions[role]):
                superseded += 1  # compaction has taken it from the log; retention takes it from here
            else:
                self._report.findings.append(f"origin: {name} is not on the log")
        if superseded:
            self._report.notes.append(f"{superseded} superseded files wait for their deletion (publisher.keep_superseded)")
        if pending:
            self._report.notes.append(f"{pending} files wait for the timestamp that makes them visible")


async def compare(bus: Bus, store: Store, origin: str) -> Report:
    """Compare a log with an origin.

    Args:
        bus: the log; nothing may write to it meanwhile.
        store: the origin.
        origin: its name in ``published``.

    Returns:
        All differences.

    Raises:
        BusError: if the log can't be read.
        StoreError: if the origin can't be read.
    """
    report = Report()
    log = _Log(report)
    await log.read(bus)
    log.check_heads()
    last = await last_record(bus, topics.PUBLISHED, 0, lambda record: record.key == origin)
    published = None if last is None else records.decode(records.published_decoder, last.value)
    await _Origin(report, log, store).check(published)
    return report
