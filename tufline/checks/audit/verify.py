"""Verifying the audit trail: the topic, its copy in files, and the metadata that has the signatures.

It reads the metadata first, then the end of the topic, the files, and the topic. The signer writes in the opposite order: a record to its
file, then to the topic, and only then does it use the signatures. So the record of everything that was read early is found in a later step,
even if the signer runs meanwhile.

In: a log, files of records, metadata files. Out: an ``AuditReport``.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from securesystemslib.signer import Key

from tufline.audit.records import Anchor, AuditBegin, AuditRecord, AuditUse
from tufline.bus import Bus
from tufline.bus.scan import scan
from tufline.checks.audit.checks import AuditReport, Chains
from tufline.checks.audit.signed_metadata import Signatures
from tufline.errors import InvalidInputError, RecordGoneError
from tufline.records import topics
from tufline.records.metadata import role_of_key
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState

MetadataFile = tuple[str, bytes, str]
"""A role, its file, and the place where it was found. Root and targets come before the roles that they delegate to."""

Hashes = dict[str, dict[int, str]]
"""For each chain, the hash of each record by its number."""


async def verify(bus: Bus | None, files: Sequence[Path], metadata: Iterable[MetadataFile]) -> AuditReport:
    """Verify the audit trail.

    Args:
        bus: the log with the topic and the metadata; None to read only files.
        files: files of records, the oldest first.
        metadata: published files to compare with the records, in the order that ``MetadataFile`` requires.

    Returns:
        All findings and notes.

    Raises:
        InvalidInputError: if a file can't be read.
        SchemaError: if a record has a newer schema version: upgrade.
        BusError: if the bus can't be read.
    """
    report = AuditReport()
    signatures = Signatures(report)
    if bus is not None:
        await _take_log(bus, signatures)
    for role, content, place in metadata:
        signatures.take(role, content, place)
    if bus is None:
        _read_files(files, report, signatures)
    else:
        before = await bus.end(topics.AUDIT, 0)
        in_files = _read_files(files, report, None)
        await _read_topic(bus, report, signatures, _Copies(report, in_files, before))
    signatures.finish()
    return report


async def _take_log(bus: Bus, signatures: Signatures) -> None:
    state = AdminState()
    async for batch in scan(bus, topics.ADMIN, 0):
        for record in batch:
            state = fold(state, record)
    # Also versions that are not published yet: the online roles are signed with their keys before they are published.
    for root in state.roots:
        signatures.trust(root.signed)
    for targets in state.targets:
        signatures.trust(targets.signed)
    for version in state.routing.versions if state.routing is not None else ():
        keys = version.delegations.keys
        signatures.trust_keys({keyid: Key.from_dict(keyid, copy.deepcopy(key)) for keyid, key in keys.items()})
    async for batch in scan(bus, topics.METADATA, 0):
        for record in batch:
            role = role_of_key(record.key)
            signatures.take(role, record.value, f"metadata offset {record.offset}")


def _read_files(files: Sequence[Path], report: AuditReport, signatures: Signatures | None) -> Hashes:
    found: Hashes = {}
    chains = Chains(report)
    for path in files:
        for value, place in _lines(path, report):
            record = chains.take(value, place)
            if record is not None:
                found.setdefault(record.chain, {}).setdefault(record.number, record.hash)
            if signatures is not None and isinstance(record, AuditUse):
                signatures.recorded(record)
    chains.finish()
    return found


def _lines(path: Path, report: AuditReport) -> Iterator[tuple[bytes, str]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield line[:-1], f"{path} line {number}"
                else:
                    report.note(f"{path} ends in the middle of line {number}: it is being written, or the signer died while writing it")
    except OSError as error:
        raise InvalidInputError(f"{path} can't be read: {error.strerror}") from error


class _Copies:
    """Compares the topic with the files, for the chains that the files have."""

    def __init__(self, report: AuditReport, in_files: Hashes, before: int) -> None:
        self._report = report
        self._in_files = in_files
        self._before = before  # the topic's end before the files were read: the files must have every record below it
        self._seen: dict[str, set[int]] = {chain: set() for chain in in_files}

    def compare(self, record: AuditRecord, offset: int) -> None:
        seen = self._seen.get(record.chain)
        if seen is None or record.number in seen:
            return
        seen.add(record.number)
        copy = self._in_files[record.chain].get(record.number)
        what = f"number {record.number} of chain {record.chain}"
        if copy is None and offset < self._before:
            self._report.find("file", f"{what} is at offset {offset} of audit, but not in the file")
        elif copy is not None and copy != record.hash:
            self._report.find("file", f"{what} at offset {offset} of audit differs from the one in the file")

    def finish(self) -> None:
        for chain, seen in self._seen.items():
            newest = max(seen, default=-1)
            missing = sorted(self._in_files[chain].keys() - seen)
            for number in missing:
                if number < newest:
                    self._report.find("file", f"number {number} of chain {chain} is in the file, but not on the topic")
            if later := sum(number > newest for number in missing):
                self._report.note(
                    f"the last {later} records of chain {chain} in the file are not on the topic: they are being written, or the signer "
                    "died before it wrote them; or the end of the topic was cut off, and then their signatures raise alarms"
                )


async def _read_topic(bus: Bus, report: AuditReport, signatures: Signatures, copies: _Copies) -> None:
    chains = Chains(report)
    anchors: list[tuple[str, Anchor]] = []
    expected, end = 0, await bus.end(topics.AUDIT, 0)
    async for batch in scan(bus, topics.AUDIT, 0, 0, end):
        for one in batch:
            # This topic keeps all records, and none is written in a transaction, so every offset must have a record.
            if one.offset != expected:
                report.find("gap", f"the offsets {expected} to {one.offset - 1} of audit have no records")
            expected = one.offset + 1
            record = chains.take(one.value, f"audit offset {one.offset}", one.key)
            if record is None:
                continue
            copies.compare(record, one.offset)
            if isinstance(record, AuditUse):
                signatures.recorded(record)
            elif isinstance(record, AuditBegin) and record.after is not None:
                anchors.append((record.chain, record.after))
    if expected < end:
        report.find("tail", f"the offsets {expected} to {end - 1} at the end of audit have no records")
    for chain, anchor in anchors:
        await _check_anchor(bus, chain, anchor, report)
    chains.finish()
    copies.finish()


async def _check_anchor(bus: Bus, chain: str, anchor: Anchor, report: AuditReport) -> None:
    try:
        await bus.read(topics.AUDIT, 0, anchor.offset, key=anchor.chain, sha256=anchor.sha256)
    except RecordGoneError:
        report.find("tail", f"chain {chain} started after a record of chain {anchor.chain} at offset {anchor.offset} of audit that is gone")
