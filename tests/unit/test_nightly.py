"""``make nightly`` records what was really proved."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

from tufline_testing.proofs import nightly
from tufline_testing.proofs.nightly import PROOFS, Proof

LONG_PROOFS = {
    "tufline_testing.fuzz.decoders",
    "tufline_testing.fuzz.trust",
    "tufline_testing.proofs.copy_matrix",
    "tufline_testing.proofs.mutate",
    "tufline_testing.proofs.mutate_pure",
    "tufline_testing.proofs.transactions",
    "tufline_testing.simulation",
    "tufline_testing.soak",
}
"""The programs that prove something and take too long for ``make test``."""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with one proof that passes and one that fails, whose programs are committed."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "good.py").write_text("import sys\nprint('seed', sys.argv[1])\nprint('all | is well')\n")
    (tmp_path / "bad.py").write_text("import sys\nprint('2 torn')\nsys.exit(1)\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "proofs"]):
        subprocess.run([nightly.GIT, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(nightly, "ROOT", tmp_path)
    monkeypatch.setattr(nightly, "PAGE", tmp_path / "docs" / "proofs.md")
    proofs = (Proof("good-1", "it goes well", ("good", "{seed}")), Proof("bad-1", "it fails", ("bad",)))
    monkeypatch.setattr(nightly, "PROOFS", proofs)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Run the program, and return its exit code."""
    monkeypatch.setattr("sys.argv", ["nightly.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        nightly.main()
    return ended.value.code


def test_every_long_proof_is_run() -> None:
    """Each program that proves something is in the table, and each proof of the table has its program."""
    programs = {proof.script[0] for proof in PROOFS}
    assert programs >= LONG_PROOFS
    assert [program for program in programs if importlib.util.find_spec(program) is None] == []


def test_a_proof_runs_for_as_long_as_was_promised() -> None:
    """The proofs have the documented sizes, and each random one has a seed."""
    of = {proof.name: proof.script for proof in PROOFS}
    assert len(of) == len(PROOFS)
    assert of["simulate-1"][1] == of["simulate-2"][1] == "2000"
    assert of["soak-1"][1] == of["soak-2"][1] == "100"
    assert of["transactions"][1] == "1000"
    assert of["copy-matrix"][1] == "100000"
    assert [name for name, script in of.items() if nightly.SEED not in script] == ["mutate"]


def test_a_failed_proof_is_recorded_as_failed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has its command's last line; a failed proof is marked, and the whole run ends with an error."""
    assert run(monkeypatch, "7") == "failed: bad-1"
    good, bad = (tree / "docs" / "proofs.md").read_text().splitlines()[-2:]
    commit = subprocess.run([nightly.GIT, "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True).stdout
    assert good.endswith("| 7 | 0 | yes | all / is well |")
    assert good.split("|")[4].strip() == commit[:10]
    assert bad.endswith("| **no** | 2 torn |")


def test_one_proof_alone_leaves_the_other_rows(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that is run by its name replaces its own row and no other."""
    run(monkeypatch, "7")
    subprocess.run([nightly.GIT, "add", "."], cwd=tree, check=True)
    assert run(monkeypatch, "8", "good-1") == 0
    good, bad = (tree / "docs" / "proofs.md").read_text().splitlines()[-2:]
    assert "| 8 | 0 | yes" in good
    assert "| **no** |" in bad
    assert "unknown proof other" in str(run(monkeypatch, "8", "other"))


def test_nothing_is_recorded_of_a_tree_with_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the work tree differs from its commit, nothing is run, and the page stays unchanged."""
    (tree / "good.py").write_text("print('other code')\n")
    assert "commit them first" in str(run(monkeypatch, "7"))
    assert not (tree / "docs" / "proofs.md").exists()
