"""Audit chains and files as a signer writes them, for tests that tamper with them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tufline.audit.chain import Chain
from tufline.audit.records import Anchor, SignedDigest
from tufline.checks.audit.checks import AuditReport
from tufline.checks.audit.verify import MetadataFile, verify

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def trail(name: str = "c1", uses: int = 3, *, ends: bool = True, after: Anchor | None = None) -> list[bytes]:
    """Make the records of a chain."""
    chain = Chain(name, "host", 7)
    made = [chain.begin(NOW, after)]
    for number in range(uses):
        digests = [SignedDigest(f"bins-{role}", number + 1, f"{number:063x}{role}") for role in range(2)]
        made.append(chain.use(NOW, "signer.bins.0", "k" * 64, "vault:transit/tufline#3", digests))
    return [*made, chain.end(NOW)] if ends else made


def write(path: Path, records: Sequence[bytes]) -> Path:
    """Write a file as a signer does."""
    path.write_bytes(b"".join(record + b"\n" for record in records))
    return path


async def verify_files(*paths: Path, metadata: Sequence[MetadataFile] = ()) -> AuditReport:
    """Verify only files."""
    return await verify(None, paths, metadata)


def kinds(report: AuditReport) -> set[str]:
    """Return the kinds of a report's findings."""
    return {finding.kind for finding in report.findings}
