"""``tufline verify`` walks the whole repository, whatever it finds meanwhile."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tufline import records
from tufline.bus import Message
from tufline.clock import Clock
from tufline.metadata.delegations import Delegation
from tufline.records import topics
from tufline_cli.commands.verify import verify
from tufline_testing.clients.custom_roles import IN_BINS, write_repository
from tufline_testing.live_repository import LiveRepository, served
from tufline_testing.log import DEFAULT_DAYS, bootstrap_record
from tufline_testing.simulation.virtual_time import run_virtual


async def published(path: Path, clock: Clock) -> None:
    """Publish a repository of four bins."""
    record = bootstrap_record(path / "keys", 2, bins=4, days=DEFAULT_DAYS)
    async with LiveRepository(path / "it", path / "keys", clock) as repository:
        await repository.bus.append([Message(topics.ADMIN, "bootstrap", records.encode(record))])
        await repository.wait_until_live(0)


def spoil(file: Path, entry: dict[str, Any]) -> None:
    """Add an unsigned signature entry."""
    content = json.loads(file.read_bytes())
    content["signatures"].append(entry)
    file.write_bytes(json.dumps(content, separators=(",", ":"), sort_keys=True).encode())


def test_a_malformed_signature_entry_is_named_with_its_file(tmp_path: Path) -> None:
    """Signature entries that some client refuses are found in every file, each reported with its file, and the walk continues."""
    run_virtual(partial(published, tmp_path))
    origin = tmp_path / "it" / "origin"
    root = tmp_path / "root.json"
    root.write_bytes((origin / "1.root.json").read_bytes())
    with served(origin) as url:
        clean = CliRunner().invoke(verify, [url, "--root", str(root)])
        assert (clean.exit_code, "verified: 0 targets in 4 bins" in clean.output) == (0, True), clean.output
        spoil(origin / "1.bins-0.json", {"keyid": "nope", "sig": None})
        spoil(origin / "1.bins-2.json", {"keyid": "a" * 64, "sig": "zz"})
        spoil(origin / "1.targets.json", {"keyid": "nope", "sig": ""})
        found = CliRunner().invoke(verify, [url, "--root", str(root)])
    assert found.exit_code == 1, found.output
    for name, reason in (("bins-0", "signatures[1].sig"), ("bins-2", "signatures[1].sig"), ("targets.json", "'nope'")):
        assert any(line.startswith(f"{name}: ") and reason in line for line in found.output.splitlines()), found.output
    assert "3 findings in 4 bins" in str(found.exception) + found.output


def test_custom_roles_are_walked_like_bins(tmp_path: Path) -> None:
    """Custom roles, the catch-all role and the bins below it are verified; what is wrong with one of them does not end the walk."""
    origin = tmp_path / "origin"
    custom = [Delegation(name="dev", paths=("dev/*",)), Delegation(name="docs", paths=("docs/*",))]
    write_repository(origin, custom, {"dev": ["dev/a"], "docs": ["docs/a"], IN_BINS: ["a", "b"]})
    with served(origin) as url:
        clean = CliRunner().invoke(verify, [url, "--root", str(origin / "1.root.json")])
        assert (clean.exit_code, "verified: 4 targets in 4 bins and 2 custom roles, snapshot 1" in clean.output) == (0, True), clean.output
        content = json.loads((origin / "1.dev.json").read_bytes())
        content["signed"]["expires"] = "2041-01-01T00:00:00Z"
        (origin / "1.dev.json").write_text(json.dumps(content))
        (origin / "1.bins-3.json").unlink()
        found = CliRunner().invoke(verify, [url, "--root", str(origin / "1.root.json")])
        assert "dev: a client refuses it" in found.output
        assert "bins-3: 1.bins-3.json: HTTP 404" in found.output
        assert "2 findings in 4 bins and 7 other files" in str(found.exception) + found.output
        catch_all = json.loads((origin / "1.bins.json").read_bytes())
        catch_all["signed"]["delegations"]["keys"] = {}
        (origin / "1.bins.json").write_text(json.dumps(catch_all))
        found = CliRunner().invoke(verify, [url, "--root", str(origin / "1.root.json")])
        assert "bins: a client refuses it" in found.output
        assert "bins-" not in found.output
