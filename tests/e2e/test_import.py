"""An import reports the result of each artifact: one that is refused after it was accepted is not reported as live."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import tufline.metadata.bins
from tufline_cli.commands.journal import open_journal
from tufline_cli.commands.sources import items
from tufline_cli.exit_codes import Exit
from tufline_ingest.rest import bulk_tasks
from tufline_testing.rest import artifact, bootstrapped, lose, rest
from tufline_testing.server import run_tufline

ARTIFACTS = "/api/v1/artifacts/"

ROOM = 6_000
"""The size limit of a bin, in bytes; it is so small that few artifacts fill all bins."""


def write_source(path: Path) -> None:
    """Write artifacts that do not all fit into bins of ``ROOM`` bytes."""
    sent = [artifact(f"p/{number}", custom={"k": "x" * 500}) for number in range(150)]
    path.write_text("\n".join(map(json.dumps, sent)))


async def is_live(server: Any, path: str) -> bool:
    return bool((await server.ask("GET", f"{ARTIFACTS}{path}"))[0] == 200)


async def test_an_import_reports_later_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If not all artifacts of an import fit, it exits with 1 and lists the others, and the next import sends them again."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", ROOM)
    monkeypatch.setattr(bulk_tasks, "PAGE_REFUSALS", 10)
    write_source(tmp_path / "source.ndjson")
    async with bootstrapped(tmp_path) as server:
        command = ("import", "source.ndjson", "--url", server.url)
        first = await asyncio.to_thread(run_tufline, *command, cwd=tmp_path)
        refused = [line.rpartition(" ")[2] for line in first.stderr.splitlines() if line.startswith("refused: ")]
        live = [number for number in range(150) if await is_live(server, f"p/{number}")]
        assert first.returncode == Exit.FAILED, first.stderr
        assert f"{len(live)} live, {150 - len(live)} refused" in first.stdout
        assert sorted(refused) == sorted({f"p/{number}" for number in range(150)} - {f"p/{number}" for number in live})
        monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", 10 * ROOM)
        second = await asyncio.to_thread(run_tufline, *command, cwd=tmp_path)
        assert second.returncode == Exit.OK, second.stderr
        assert f"{len(refused)} live, {len(live)} had been accepted before, 0 refused" in second.stdout
        assert all([await is_live(server, path) for path in refused])


async def test_an_interrupted_import_asks_for_what_it_had_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next import asks for the results of what an interrupted one sent, and reports its refusals."""
    monkeypatch.setattr(tufline.metadata.bins, "MAX_BIN_BYTES", ROOM)
    source, path = tmp_path / "source.ndjson", tmp_path / "journal"
    write_source(source)
    async with bootstrapped(tmp_path) as server:
        status, answer = await server.ask("POST", f"{ARTIFACTS}bulk", source.read_bytes())
        assert (status, answer["data"]["accepted"]) == (202, 150)
        with open_journal(path, source, server.bus.log_id) as journal:  # and there it was interrupted
            journal.expect(answer["data"]["task_id"], 150)
            journal.add([item.mark for item in items(source, journal)])
        again = await asyncio.to_thread(run_tufline, "import", source, "--journal", path, "--url", server.url, cwd=tmp_path)
        refused = again.stderr.count("refused: ")
        assert again.returncode == Exit.FAILED, again.stderr
        assert f"0 live, 150 had been accepted before, {refused} refused" in again.stdout
        assert refused > 20


async def test_an_import_whose_records_were_lost_is_to_be_sent_again_whole(tmp_path: Path) -> None:
    """If accepted records were lost, their items are unknown: an import exits with 1, and advises to send everything again."""
    source, path = tmp_path / "source.ndjson", tmp_path / "journal"
    write_source(source)
    async with bootstrapped(tmp_path):
        pass
    async with rest(tmp_path) as server:  # no signer runs
        _, answer = await server.ask("POST", f"{ARTIFACTS}bulk", source.read_bytes())
        with open_journal(path, source, server.bus.log_id) as journal:
            journal.expect(answer["data"]["task_id"], 150)
            journal.add([item.mark for item in items(source, journal)])
    await lose(tmp_path, 1, 1)
    async with rest(tmp_path, whole=True) as server:
        again = await asyncio.to_thread(run_tufline, "import", source, "--journal", path, "--url", server.url, cwd=tmp_path)
        assert again.returncode == Exit.FAILED, again.stderr
        assert "0 live, 150 had been accepted before, 1 refused" in again.stdout
        assert "import with another journal" in again.stderr
        other = await asyncio.to_thread(run_tufline, "import", source, "--journal", tmp_path / "other", "--url", server.url, cwd=tmp_path)
        assert other.returncode == Exit.OK, other.stderr
        assert all([await is_live(server, f"p/{number}") for number in range(150)])
