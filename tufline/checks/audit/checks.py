"""Checking chains: finds every change, gap, reordering and fork.

In: the records of the topic or of the files, in their order. Out: findings and notes. A record may occur twice, byte for
byte, because the signer writes a record again if it is not sure that the first write succeeded. No I/O.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from tufline.audit.records import NO_HASH, AuditBegin, AuditEnd, AuditRecord, unseal
from tufline.errors import RecordError, SchemaError

REMEMBERED: Final = 4096
"""How many hashes of a chain's newest records are remembered. A second copy of a record, or a late record, is at most this many records
later."""

Kind = Literal["alarm", "changed", "gap", "order", "fork", "link", "tail", "file", "metadata"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault.

    Attributes:
        kind: its category; ``docs/how-to/audit.md`` explains each.
        text: one sentence.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        """Format the finding as a line."""
        return f"{self.kind.upper() if self.kind == 'alarm' else self.kind}: {self.text}"


@dataclass(slots=True)
class AuditReport:
    """The result of a verification.

    Attributes:
        findings: faults.
        notes: observations that are not faults.
        records: how many records were read.
        chains: how many chains they belong to.
        recorded: how many signatures of roles the records list.
        compared: how many signatures of metadata files were compared with them.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    chains: int = 0
    recorded: int = 0
    compared: int = 0

    def find(self, kind: Kind, text: str) -> None:
        """Add a finding.

        Args:
            kind: the category; ``docs/how-to/audit.md`` explains each.
            text: one sentence.
        """
        self.findings.append(Finding(kind, text))

    def note(self, text: str) -> None:
        """Add a note, unless the report already has it: the topic and the files may yield the same note.

        Args:
            text: one sentence.
        """
        if text not in self.notes:
            self.notes.append(text)


@dataclass(slots=True)
class _State:
    place: str
    requester: str = ""
    next: int = 0
    last: str = NO_HASH
    ended: bool = False
    copies: int = 0
    hashes: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    """Each skipped number, with the hash that its record must have. The hash is empty if the record after it is not known."""


class Chains:
    """The chains of the topic, or of the files."""

    def __init__(self, report: AuditReport) -> None:
        """Start without records.

        Args:
            report: where findings go.
        """
        self._report = report
        self._states: dict[str, _State] = {}

    def take(self, value: bytes, place: str, key: str | None = None) -> AuditRecord | None:
        """Check the next record.

        Args:
            value: the record's bytes.
            place: where the record is, for messages.
            key: the record's key; None in a file.

        Returns:
            The record; None if its bytes are not those that the signer wrote.

        Raises:
            SchemaError: if it has a newer schema version: upgrade.
        """
        self._report.records += 1
        try:
            record, intact = unseal(value)
        except SchemaError:
            raise
        except RecordError as error:
            self._report.find("changed", f"{place} is not a record of the audit trail: {error}")
            return None
        what = f"number {record.number} of chain {record.chain}"
        if not intact:
            self._report.find("changed", f"{place}: {what} does not match its hash")
        if key is not None and key != record.chain:
            self._report.find("changed", f"{place}: {what} has the key {key!r}")
        # A changed record may have any chain and number. It counts for a chain only if its number is the next one there.
        known = self._states.get(record.chain)
        if intact or (known is not None and known.next == record.number):
            self._place(record, place, what)
        return record if intact else None

    def _place(self, record: AuditRecord, place: str, what: str) -> None:
        state = self._states.setdefault(record.chain, _State(place))
        number = record.number
        if number < state.next:
            self._place_late(state, record, place, what)
            return
        if isinstance(record, AuditBegin) is not (number == 0):
            fault = "is a start record in the middle of a chain" if number else "should be a start record, but is not"
            self._report.find("link", f"{place}: {what} {fault}")
        if state.ended:
            self._report.find("link", f"{place}: {what} comes after the end of its chain")
        if number == state.next and record.previous != state.last:
            self._report.find("link", f"{place}: {what} does not follow from the record before it")
        elif number - state.next > REMEMBERED:
            self._report.find("gap", f"numbers {state.next} to {number - 1} of chain {record.chain} are missing before {place}")
        elif number > state.next:
            state.missing |= dict.fromkeys(range(state.next, number), "")
            state.missing[number - 1] = record.previous
        self._remember(state, record)

    def _remember(self, state: _State, record: AuditRecord) -> None:
        state.next, state.last = record.number + 1, record.hash
        state.hashes[record.number] = record.hash
        if len(state.hashes) > REMEMBERED:
            del state.hashes[next(iter(state.hashes))]
        state.ended |= isinstance(record, AuditEnd)
        state.requester = f"{record.requester.host}, process {record.requester.pid}, last at {record.time}"

    def _place_late(self, state: _State, record: AuditRecord, place: str, what: str) -> None:
        number = record.number
        if number in state.missing:
            wanted = state.missing.pop(number)
            self._report.find("order", f"{place}: {what} comes after number {state.next - 1}")
            if (wanted or record.hash) != record.hash or state.hashes.get(number - 1, record.previous) != record.previous:
                self._report.find("link", f"{place}: {what} does not fit between its neighbours")
            state.hashes[number] = record.hash
            if number - 1 in state.missing:
                state.missing[number - 1] = record.previous
        elif state.hashes.get(number) == record.hash:
            state.copies += 1
        elif number in state.hashes:
            self._report.find("fork", f"{place}: chain {record.chain} already has another record with number {number}")
        else:
            self._report.find("order", f"{place}: {what} comes long after number {state.next - 1}")

    def finish(self) -> None:
        """Report the missing records, and the chains without an end."""
        self._report.chains = max(self._report.chains, len(self._states))
        for chain, state in self._states.items():
            for first, last in _runs(sorted(state.missing)):
                numbers = f"number {first}" if first == last else f"numbers {first} to {last}"
                self._report.find("gap", f"{numbers} of chain {chain} missing; the chain starts at {state.place}")
            if not state.ended:
                where = f"after number {state.next - 1}"
                self._report.note(
                    f"chain {chain} ({state.requester}) has no end {where}: the process is running or was killed, or the end is missing"
                )
            if state.copies:
                self._report.notes.append(
                    f"chain {chain} has {state.copies} records twice: the signer was not sure whether they had been written"
                )


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs
