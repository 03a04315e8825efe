"""The audit of a repository with custom roles: their keys are known, also those of deleted roles, as far as anything tells of them."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.checks.audit.checks import AuditReport
from tufline.checks.audit.signed_metadata import Signatures
from tufline.checks.audit.verify import verify
from tufline.metadata.delegations import Delegation
from tufline.records import ChangedDelegations, topics
from tufline.trust import ceremony
from tufline_testing.hand_signed import BINS, HandSigned, new_key
from tufline_testing.log import announce_bootstrap
from tufline_testing.simulation.virtual_time import run_virtual

Files = dict[str, bytes]


@pytest.fixture
def metadata(tmp_path: Path) -> HandSigned:
    """A repository without custom roles."""
    return HandSigned(tmp_path / "keys")


def findings(files: Iterable[tuple[str, bytes]]) -> tuple[list[str], AuditReport]:
    """Take files, and return what is wrong with them, and the report."""
    report = AuditReport()
    signatures = Signatures(report)
    for role, content in files:
        signatures.take(role, content, f"1.{role}.json")
    return [finding.text for finding in report.findings], report


def in_order(files: Files) -> list[tuple[str, bytes]]:
    """Sort files as ``tufline audit verify`` reads them: root and targets first."""
    return sorted(files.items(), key=lambda file: (file[0] not in {"root", "targets"}, file[0] != "root"))


def add_dev(metadata: HandSigned, *signers: CryptoSigner) -> None:
    """Add a custom role that the first of some keys, or another one, signs."""
    metadata.role("dev", ["dev/a"], signers[-1])
    metadata.catch_all()
    keyid = signers[0].public_key.keyid
    metadata.targets(Delegation(name="dev", paths=("dev/*",), keyids=(keyid,)), keys=signers[:1])


def test_the_files_of_custom_roles_are_compared(metadata: HandSigned) -> None:
    """The signatures of a custom role and of the catch-all role, whose file escapes the newlines of a key, are valid."""
    add_dev(metadata, new_key())
    found, report = findings(in_order(metadata.newest))
    assert (found, report.notes) == ([], [])
    assert report.compared == len({*metadata.newest} - {"root", "dev"})  # the others are signed by a key with a URI


def test_a_custom_role_of_an_unknown_key_is_found(metadata: HandSigned) -> None:
    """A role to which targets delegates is signed by a key that targets names."""
    add_dev(metadata, new_key(), new_key())
    assert findings(in_order(metadata.newest))[0] == ["1.dev.json is signed by no key that root or targets name"]


def test_a_deleted_role_is_noted(metadata: HandSigned) -> None:
    """Without a log nothing tells of the keys of a role to which no targets delegates, and no client reads it."""
    metadata.role("dev", ["dev/a"], new_key())
    found, report = findings(in_order(metadata.newest))
    assert found == []
    assert report.notes == ["1.dev.json is signed by no key that root or targets name, but no client reads it: no targets delegates to dev"]


def test_the_log_tells_of_the_keys_of_deleted_roles(tmp_path: Path, metadata: HandSigned) -> None:
    """A signature of a deleted role is compared with the records, as any other."""
    key = ceremony.make_key("ecdsa", "fn:dev").signer
    public = key.public_key
    metadata.role("dev", ["dev/a"], key)
    dev = Delegation(name="dev", paths=("dev/*",), keyids=(public.keyid,))
    changes = [
        ChangedDelegations(action="add", roles=[dev], keys={public.keyid: public.to_dict()}, ends=[0] * BINS, rules=records.CURRENT_RULES),
        ChangedDelegations(action="delete", deleted=["dev"], ends=[0] * BINS, rules=records.CURRENT_RULES),
    ]

    async def story() -> list[str]:
        bus = await open_embedded(tmp_path / "log.db", topics.topics(BINS), threads=False)
        try:
            await announce_bootstrap(bus, metadata.bootstrap)
            await bus.append([Message(topics.ADMIN, "delegations", records.encode(change)) for change in changes])
            await metadata.append(bus)
            report = await verify(bus, [], [])
            assert report.notes == []
            return [finding.text for finding in report.findings if "dev" in finding.text]
        finally:
            await bus.close()

    (found,) = run_virtual(lambda _: story())
    assert "dev version 1" in found
    assert "but no record lists it" in found
