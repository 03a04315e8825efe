"""Verifying a whole repository: tampering with the topic, its copy or the metadata is found; an intact one has no finding."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from tufline import records
from tufline.audit.records import AuditUse, unseal
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks.audit.checks import AuditReport
from tufline.checks.audit.verify import verify
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.metadata import envelope
from tufline.origin.directory import LocalStore
from tufline.records import Add, topics
from tufline.runtime.health import Health
from tufline_cli import main
from tufline_cli.exit_codes import Exit
from tufline_publisher import service as publisher
from tufline_signer import service as signer
from tufline_testing.log import announce, announce_bootstrap, bootstrap_record, settled
from tufline_testing.simulation.virtual_time import run_virtual
from tufline_testing.trails import kinds

PARTITIONS = 2


@dataclass
class Repository:
    """A repository with a history of two signer processes, all stopped."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "log.db"

    @property
    def file(self) -> Path:
        return self.path / "audit.log"

    @property
    def origin(self) -> Path:
        return self.path / "origin"

    @property
    def root(self) -> Root:
        return Metadata[Root].from_bytes((self.origin / "1.root.json").read_bytes()).signed

    @property
    def online(self) -> CryptoSigner:
        """The online key, in the hands of an attacker."""
        pem = (self.path / "keys" / "online.pem").read_bytes()
        (keyid,) = self.root.roles["timestamp"].keyids
        return CryptoSigner(load_pem_private_key(pem, None), self.root.keys[keyid])  # type: ignore[arg-type]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[EmbeddedBus]:
        bus = await open_embedded(self.log, topics.topics(PARTITIONS), threads=False)
        try:
            yield bus
        finally:
            await bus.close()

    async def report(self, *files: Path, origin: bool = False) -> AuditReport:
        metadata = [(name.split(".")[-2], (self.origin / name).read_bytes(), name) for name in self.files()] if origin else []
        async with self.opened() as bus:
            return await verify(bus, files, metadata)

    def files(self) -> list[str]:
        return sorted((path.name for path in self.origin.glob("[!.]*")), key=lambda name: ("root" not in name, "targets" not in name, name))

    def audit(self) -> list[tuple[int, bytes]]:
        """Return row and value of every record of the topic."""
        with closing(sqlite3.connect(self.log)) as db:
            query = "SELECT id, value FROM records WHERE id >> 40 = (SELECT number FROM partitions WHERE topic = 'audit') ORDER BY id"
            return db.execute(query).fetchall()

    def execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.log)) as db, db:
            assert db.execute(statement, values).rowcount > 0

    def sign(self, name: str, signed: bytes) -> None:
        """Plant a file with a signature of the online key at the origin."""
        signature = self.online.sign(signed)
        (self.origin / name).write_bytes(envelope.assemble(signed, [envelope.SignatureEntry(signature.keyid, signature.signature)]))


def make(path: Path, mode: str) -> None:
    """Make the repository in virtual time."""
    bootstrap = bootstrap_record(path / "keys", PARTITIONS, bins=4, mode=mode)

    async def story(clock: Clock) -> None:
        bus = await open_embedded(path / "log.db", topics.topics(PARTITIONS), clock=clock, threads=False)
        await announce_bootstrap(bus, bootstrap)
        for life in range(2):
            config = SignerConfig(key_dir=path / "keys", audit_file=path / "audit.log")
            to = PublisherConfig(directory=path / "origin")
            store = LocalStore(path / "origin")
            tasks = [
                asyncio.create_task(signer.run(bus, config, clock=clock, health=Health())),
                asyncio.create_task(publisher.run(bus, to, store, clock=clock, health=Health())),
            ]
            for number in range(2):
                await announce(bus, bootstrap.settings, [Add(f"p/{one}", 10 * life + number + 1, {"sha256": "0" * 64}) for one in range(9)])
                await settled(bus)
                await asyncio.sleep(60)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await bus.close()

    run_virtual(story)


@pytest.fixture(scope="module", params=["pep458", "rstuf"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    make(path, request.param)
    return path


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Repository:
    """Provide a copy that the test may damage."""
    shutil.copytree(made, tmp_path / "r")
    return Repository(tmp_path / "r")


async def test_an_untouched_repository_has_no_finding(repository: Repository) -> None:
    """Topic, file, the log's metadata and the origin agree, in both modes of trust, and every online signature was compared."""
    report = await repository.report(repository.file, origin=True)
    assert (report.findings, report.notes) == ([], [])
    assert report.chains == 2
    assert report.compared > report.recorded > 20


Tamper = Callable[[Repository, list[tuple[int, bytes]]], object]


def _change(place: int) -> Tamper:
    def change(repository: Repository, rows: list[tuple[int, bytes]]) -> None:
        row, value = rows[place]
        repository.execute("UPDATE records SET value = ? WHERE id = ?", value.replace(b'"host":"', b'"host":"x', 1), row)

    return change


def _swap(repository: Repository, rows: list[tuple[int, bytes]]) -> None:
    for (row, _), (_, value) in ((rows[2], rows[3]), (rows[3], rows[2])):
        repository.execute("UPDATE records SET value = ? WHERE id = ?", value, row)


def _delete(first: int, last: int | None) -> Tamper:
    def delete(repository: Repository, rows: list[tuple[int, bytes]]) -> None:
        for row, _ in rows[first:last]:
            repository.execute("DELETE FROM records WHERE id = ?", row)

    return delete


def _cut(repository: Repository, count: int) -> None:
    rows = repository.audit()
    _delete(len(rows) - count, len(rows))(repository, rows)
    repository.execute("UPDATE partitions SET next_offset = next_offset - ? WHERE topic = 'audit'", count)


def _forget_first_chain_s_end(repository: Repository, rows: list[tuple[int, bytes]]) -> None:
    """Remove the last records of the first chain, and close the gap in the offsets."""
    chains = [unseal(value)[0].chain for _, value in rows]
    begin = chains.index(chains[-1])
    _delete(begin - 3, begin)(repository, rows)
    for row, _ in rows[begin:]:
        repository.execute("UPDATE records SET id = ? WHERE id = ?", row - 3, row)
    repository.execute("UPDATE partitions SET next_offset = next_offset - 3 WHERE topic = 'audit'")


TAMPERINGS: dict[str, tuple[Tamper, str, str]] = {
    "a record is changed": (_change(2), "changed", "audit offset 2: number 2 of chain"),
    "the last record is changed": (_change(-1), "changed", "does not match its hash"),
    "a record is deleted": (_delete(3, 4), "gap", "number 3 of chain"),
    "offsets are free": (_delete(3, 5), "gap", "the offsets 3 to 4 of audit have no records"),
    "two are swapped": (_swap, "order", "number 2 of chain"),
    "the beginning is deleted": (_delete(0, 2), "gap", "numbers 0 to 1 of chain"),
    "the end is deleted": (_delete(-3, None), "tail", "at the end of audit have no records"),
    "the end is deleted, the offsets too": (lambda repository, _: _cut(repository, 4), "alarm", "no record lists it"),
    "all is deleted": (_delete(0, None), "alarm", "no record lists it"),
    "the end of an older chain": (_forget_first_chain_s_end, "tail", "of audit that is gone"),
    "the key is another": (
        lambda repository, rows: repository.execute("UPDATE records SET key = 'other' WHERE id = ?", rows[1][0]),
        "changed",
        "has the key 'other'",
    ),
}


@pytest.mark.parametrize(("tamper", "kind", "says"), TAMPERINGS.values(), ids=TAMPERINGS)
async def test_every_tampering_of_the_topic_is_found(repository: Repository, tamper: Tamper, kind: str, says: str) -> None:
    """Each kind of tampering with the topic is reported as such; with the file, also the first differing record."""
    tamper(repository, repository.audit())
    report = await repository.report()
    assert any(finding.kind == kind and says in finding.text for finding in report.findings), report.findings
    with_file = await repository.report(repository.file)
    differs = [finding for finding in with_file.findings if finding.kind in {"file", "changed", "order"}]
    assert differs or any("in the file are not on the topic" in note for note in with_file.notes), with_file


FILES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a line is gone": (lambda lines: [*lines[:3], *lines[4:]], "is at offset 3 of audit, but not in the file"),
    "the end is gone": (lambda lines: lines[:-2], "of audit, but not in the file"),
    "a line is another": (
        lambda lines: [*lines[:3], lines[3].replace(b'"pid":', b'"pid":1'), *lines[4:]],
        "does not match its hash",
    ),
}


@pytest.mark.parametrize(("tamper", "says"), FILES.values(), ids=FILES)
async def test_every_tampering_of_the_file_is_found(
    repository: Repository, tamper: Callable[[list[bytes]], list[bytes]], says: str
) -> None:
    """Tampering with the file is found by means of the topic."""
    lines = repository.file.read_bytes().splitlines()
    repository.file.write_bytes(b"".join(line + b"\n" for line in tamper(lines)))
    report = await repository.report(repository.file)
    assert any(says in finding.text for finding in report.findings), report.findings


def forge(repository: Repository, name: str) -> None:
    """Publish a file that only the key's holder can make: the newest version of a role with another expiry."""
    content = envelope.disassemble((repository.origin / name).read_bytes())
    common = envelope.read_common(content.signed)
    repository.sign(name, bytes(content.signed).replace(common.expires.encode(), b"2039-01-01T00:00:00Z"))


async def test_a_signature_without_a_record_is_an_alarm(repository: Repository) -> None:
    """A file that was signed with the online key elsewhere is an alarm, with role, version and keyid; nothing else is found."""
    for name in ("timestamp.json", "1.snapshot.json", "1.bins-2.json"):
        kept = (repository.origin / name).read_bytes()
        forge(repository, name)
        (finding,) = (await repository.report(origin=True)).findings
        role, version = name.split(".")[-2], envelope.read_common(envelope.disassemble(kept).signed).version
        assert str(finding).startswith(
            f"ALARM: {role} version {version} ({name}) is signed by the online key {repository.online.public_key.keyid}"
        )
        (repository.origin / name).write_bytes(kept)
    assert (await repository.report(origin=True)).findings == []


async def test_an_alarm_is_of_a_valid_signature(repository: Repository) -> None:
    """A damaged signature, or one by an unknown key, is found, but does not indicate that the online key was used elsewhere."""
    path = repository.origin / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"spec_version":"1', b'"spec_version":"2'))
    report = await repository.report(origin=True)
    assert kinds(report) == {"metadata"}
    assert "has an invalid signature by the key" in report.findings[0].text
    path.write_bytes(path.read_bytes().replace(repository.online.public_key.keyid.encode(), b"0" * 64))
    report = await repository.report(origin=True)
    assert [finding.text for finding in report.findings] == ["timestamp.json is signed by no key that root or targets name"]
    path.write_bytes(b"{}")
    assert "timestamp.json is not a metadata file" in (await repository.report(origin=True)).findings[0].text


async def test_a_bin_under_another_name_is_found(repository: Repository) -> None:
    """If one bin's bytes are published as another bin, there is a record, but of another role; this is reported, but is not an alarm."""
    newest = max(repository.origin.glob("*.bins-0.json"), key=lambda path: int(path.name.split(".")[0]))
    (repository.origin / newest.name.replace("bins-0", "bins-1")).write_bytes(newest.read_bytes())
    (finding,) = (await repository.report(origin=True)).findings
    assert (finding.kind, "was signed as bins-0 version" in finding.text) == ("metadata", True)


async def test_a_superseded_file_keeps_its_record(repository: Repository) -> None:
    """A copy of a version that compaction has deleted from the log is not an alarm: audit records are kept indefinitely."""
    with closing(sqlite3.connect(repository.log)) as db, db:
        query = "DELETE FROM records WHERE key = 'snapshot' AND id >> 40 = (SELECT number FROM partitions WHERE topic = 'metadata')"
        assert db.execute(query).rowcount > 2
    report = await repository.report(origin=True)
    assert report.findings == []


def run(repository: Repository, *arguments: str | Path) -> Result:
    """Run ``tufline audit verify`` on the repository."""
    config = repository.path / "t.toml"
    config.write_text(f"[bus]\nurl = 'embedded:{repository.log}'\npartitions = {PARTITIONS}\n")
    return CliRunner().invoke(main, ["audit", "verify", "--config", str(config), *map(str, arguments)])


def test_the_command_prints_every_finding(repository: Repository) -> None:
    """Each finding is one line and the exit code is 1; without findings it is 0, and the output tells how much was compared."""
    clean = run(repository, "--metadata", repository.origin, "--file", repository.file, "--topic")
    assert (clean.exit_code, clean.stdout.startswith("no finding: ")) == (0, True), clean.output
    forge(repository, "timestamp.json")
    alone: list[str | Path] = ["--metadata", repository.origin]
    for arguments in (alone, [*alone, "--file", repository.file]):
        alarmed = run(repository, *arguments)
        assert alarmed.exit_code == Exit.FAILED
        assert alarmed.stdout.startswith("ALARM: timestamp version ")
        assert "error: 1 online signatures without a record" in alarmed.stderr
        assert "docs/how-to/audit.md" in alarmed.stderr
    as_json = run(repository, "--metadata", repository.origin, "--json")
    assert as_json.exit_code == Exit.FAILED
    assert [finding["kind"] for finding in json.loads(as_json.stdout)["findings"]] == ["alarm"]


def test_the_command_reports_files_that_it_can_not_read(repository: Repository, tmp_path: Path) -> None:
    """A missing log or directory is reported, and not created."""
    missing = run(repository, "--metadata", tmp_path / "missing")
    assert (missing.exit_code, "is not a directory" in missing.stderr) == (Exit.FAILED, True)
    repository.log.unlink()
    nothing = run(repository)
    assert (nothing.exit_code, "there is no log at" in nothing.stderr) == (Exit.CONFIGURATION, True)
    assert not repository.log.exists()
    unreachable = run(repository, "--file", repository.file, "--metadata", "http://127.0.0.1:9")
    assert (unreachable.exit_code, "can't be fetched" in unreachable.stderr) == (Exit.UNREACHABLE, True)


def test_records_are_those_of_the_schema(repository: Repository) -> None:
    """The signer's records conform to the published schema."""
    schema = json.loads((Path(__file__).resolve().parents[2] / "schemas" / "records.json").read_text())
    of_topic = {"$defs": schema["$defs"], **schema["properties"][topics.AUDIT]}
    rows = repository.audit()
    assert any(isinstance(unseal(value)[0], AuditUse) for _, value in rows)
    for _, value in rows:
        assert json.loads(value)["v"] == records.SCHEMA_VERSION
        jsonschema.validate(json.loads(value), of_topic)
