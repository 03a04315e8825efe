"""Any tampering with audit records is found, and reported by its kind."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tufline.audit.chain import Chain, without_secrets
from tufline.audit.records import AuditUse, seal, unseal
from tufline.checks.audit.checks import AuditReport, Chains
from tufline.errors import SchemaError
from tufline_testing.trails import NOW, kinds, trail, verify_files, write


def check(records: list[bytes]) -> AuditReport:
    """Check records in an order."""
    report = AuditReport()
    chains = Chains(report)
    for number, record in enumerate(records):
        chains.take(record, f"record {number}")
    chains.finish()
    return report


def test_an_untouched_chain_has_no_finding() -> None:
    """A properly ended chain has neither findings nor notes; the records of several chains may be interleaved."""
    one, other = trail("one"), trail("other", uses=4)
    mixed = [record for pair in zip(one, other, strict=False) for record in pair] + other[len(one) :]
    report = check(mixed)
    assert (report.findings, report.notes, report.records, report.chains) == ([], [], 11, 2)


def test_every_change_of_every_byte_is_found() -> None:
    """No bit of any record, including the last one, can change without being detected."""
    records = trail(uses=2)
    for number, record in enumerate(records):
        for place in range(len(record)):
            for bit in (1, 0x20, 0x80):
                changed = record[:place] + bytes([record[place] ^ bit]) + record[place + 1 :]
                found = check([*records[:number], changed, *records[number + 1 :]])
                assert "changed" in kinds(found), (number, place, bit, found)


def test_every_cut_and_addition_is_found() -> None:
    """A record that was truncated or extended does not match its hash."""
    records = trail(uses=1)
    for changed in (records[1][:-1], records[1][:-70], records[1] + b" ", b" " + records[1], b"", records[1] * 2):
        assert "changed" in kinds(check([records[0], changed, *records[2:]]))


def forged(record: bytes, **changes: object) -> bytes:
    """Change a record, and recompute its hash."""
    content, intact = unseal(record)
    assert intact
    return seal(msgspec.structs.replace(content, hash="", **changes))[0]


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, str]] = {
    "a record is dropped": (lambda all_: [*all_[:2], *all_[3:]], "gap", "number 2 of chain c1 missing"),
    "several are dropped": (lambda all_: [all_[0], *all_[3:]], "gap", "numbers 1 to 2 of chain c1 missing"),
    "the beginning is dropped": (lambda all_: all_[2:], "gap", "numbers 0 to 1 of chain c1 missing"),
    "two are swapped": (lambda all_: [all_[0], all_[2], all_[1], *all_[3:]], "order", "number 1 of chain c1 comes after number 2"),
    "the end comes first": (lambda all_: [all_[-1], *all_[:-1]], "order", "number 0 of chain c1 comes after number 4"),
    "one is forged": (
        lambda all_: [*all_[:2], forged(all_[2], keyid="other"), *all_[3:]],
        "link",
        "number 3 of chain c1 does not follow from the record before it",
    ),
    "a forged record comes late": (
        lambda all_: [all_[0], all_[2], forged(all_[1], keyid="other"), *all_[3:]],
        "link",
        "number 1 of chain c1 does not fit between its neighbours",
    ),
    "a record with another number is inserted": (
        lambda all_: [*all_[:2], forged(all_[1], number=2), *all_[2:]],
        "fork",
        "chain c1 already has another record with number 2",
    ),
    "a second record with the same number": (
        lambda all_: [*all_, forged(all_[2], keyid="other")],
        "fork",
        "chain c1 already has another record with number 2",
    ),
    "a record comes after the end": (
        lambda all_: [*all_, forged(all_[3], number=5, previous=unseal(all_[4])[0].hash)],
        "link",
        "number 5 of chain c1 comes after the end of its chain",
    ),
    "a chain begins in its middle": (
        lambda all_: [*all_[:2], forged(all_[0], number=2, previous=unseal(all_[1])[0].hash), *all_[3:]],
        "link",
        "is a start record in the middle of a chain",
    ),
    "a chain begins with a use": (
        lambda all_: [forged(all_[1], number=0, previous="0" * 64)],
        "link",
        "should be a start record, but is not",
    ),
    "a number far away": (lambda all_: [*all_[:3], forged(all_[3], number=10**15)], "gap", "numbers 3 to 999999999999999"),
}


@pytest.mark.parametrize(("tamper", "kind", "says"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_every_tampering_is_found_by_name(tamper: Callable[[list[bytes]], list[bytes]], kind: str, says: str) -> None:
    """Each kind of tampering with a chain is reported as such, with the chain and the number."""
    report = check(tamper(trail()))
    assert any(finding.kind == kind and says in finding.text for finding in report.findings), report


def test_a_second_copy_is_not_a_fault() -> None:
    """A record that is repeated byte for byte anywhere is a note: the signer repeats writes whose outcome is unknown."""
    records = trail()
    for copies in ([*records[:2], *records[1:]], [*records[:3], *records[1:3], *records[3:]], [*records, records[1]]):
        report = check(copies)
        assert report.findings == []
        assert any("twice" in note for note in report.notes)


def test_a_chain_without_its_end_is_a_note() -> None:
    """A chain without an end is reported with its process, because it may be running, or was killed or cut off."""
    (note,) = check(trail(ends=False)).notes
    assert "chain c1 (host, process 7, last at 2030-01-01T00:00:00.000Z) has no end after number 3" in note


def test_a_newer_schema_wants_an_upgrade() -> None:
    """A record of a newer schema is not reported as tampered."""
    with pytest.raises(SchemaError, match="upgrade"):
        check([b'{"v":99,"kind":"other"}'])


async def test_lines_of_files(tmp_path: Path) -> None:
    """A chain may continue in another file; a dead process's half line is a note, and a malformed line is a finding."""
    records = trail(uses=5)
    first, second = write(tmp_path / "1", records[:3]), write(tmp_path / "2", records[3:])
    assert (await verify_files(first, second)).findings == []
    assert kinds(await verify_files(second, first)) == {"order"}
    with second.open("ab") as file:
        file.write(b'{"v":1,"ki')
    report = await verify_files(first, second)
    assert report.findings == []
    assert any("ends in the middle of line 5" in note for note in report.notes)
    with second.open("ab") as file:
        file.write(b"\n")
    (finding,) = (await verify_files(first, second)).findings
    assert "2 line 5 is not a record of the audit trail" in finding.text


def test_a_record_says_who_used_which_key_for_what() -> None:
    """Each record is complete by itself: role, version, digest, keyid, key with its version, requester and time."""
    record, _ = unseal(trail()[2])
    assert isinstance(record, AuditUse)
    assert (record.key, record.keyid, record.time) == ("vault:transit/tufline#3", "k" * 64, "2030-01-01T00:00:00.000Z")
    assert (record.requester.host, record.requester.pid, record.requester.part) == ("host", 7, "signer.bins.0")
    assert [(one.role, one.version, one.sha256[-2:]) for one in record.signatures] == [("bins-0", 2, "10"), ("bins-1", 2, "11")]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("vault:transit/tufline#3", "vault:transit/tufline#3"),
        ("awskms:arn:aws:kms:eu:1:key/a", "awskms:arn:aws:kms:eu:1:key/a"),
        ("hsm:2?label=YubiKey+PIV+%2315835999", "hsm:2?label=YubiKey+PIV+%2315835999"),
        ("pkcs11:object=a?pin-value=1234&module-path=/x", "pkcs11:object=a?pin-value=…&module-path=/x"),
        ("x:a?module=b&Token=s3cret#1", "x:a?module=b&Token=…#1"),
        ("https://user:s3cret@host/key", "https://…@host/key"),
    ],
)
def test_no_secret_of_a_uri_is_recorded(uri: str, shown: str) -> None:
    """The record of a key's use has nothing that only the key's provider should know."""
    assert without_secrets(uri) == shown
    record, _ = unseal(Chain("c", "h", 1).use(NOW, "p", "k", uri, []))
    assert isinstance(record, AuditUse)
    assert record.key == shown
