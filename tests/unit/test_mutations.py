"""The list of small mistakes is true to the code, and a mistake that no test detects is reported."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tufline_testing.checkout import ROOT
from tufline_testing.proofs import mutate
from tufline_testing.proofs.mutate import Mutation, mutations


def mutation(**fields: object) -> Mutation:
    """Make a mistake of the little program below."""
    plain: dict[str, object] = {"name": "m", "invariant": 1, "file": "code.py", "before": "+ 1", "after": "+ 2", "tests": ["test_code.py"]}
    return Mutation(**(plain | fields))  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a program, and a test that detects some of its mistakes."""
    (tmp_path / "services").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: none\n")
    (tmp_path / "code.py").write_text("def more(number):\n    return number + 1\n\n\ndef unseen():\n    return 7\n")
    (tmp_path / "test_code.py").write_text("import code_of\n\n\ndef test_more():\n    assert code_of.more(1) == 2\n")
    (tmp_path / "code.py").rename(tmp_path / "code_of.py")
    return tmp_path


@pytest.mark.parametrize("one", mutations(), ids=lambda one: one.name)
def test_each_mistake_can_be_made(one: Mutation, tmp_path: Path) -> None:
    """Each listed piece occurs in its file once, and the file with the mistake is still a valid program, so that its tests can run."""
    (tmp_path / one.file).parent.mkdir(parents=True)
    source = (ROOT / one.file).read_text()
    (tmp_path / one.file).write_text(source)
    mutate.mutate(tmp_path, one)
    mistaken = (tmp_path / one.file).read_text()
    assert mistaken != source
    ast.parse(mistaken)
    assert one.tests
    for test in one.tests:
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text() if function else (ROOT / file).exists(), test


def test_each_invariant_has_mistakes() -> None:
    """The list stays broad: at least sixty mistakes, and for each invariant at least three that a test must detect."""
    must_be_seen = [one for one in mutations() if not one.survives]
    of_invariant = Counter(one.invariant for one in must_be_seen)
    numbers = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "explanation" / "guarantees.md").read_text(), re.MULTILINE)
    assert len(must_be_seen) >= 60
    assert sorted(of_invariant) == sorted(map(int, numbers))
    assert min(of_invariant.values()) >= 3


def test_a_mistake_that_no_test_sees_is_reported(tree: Path) -> None:
    """Detected and undetected mistakes are distinguished; the source is restored after each."""
    source = (tree / "code_of.py").read_text()
    assert mutate.try_mutation(tree, mutation(file="code_of.py"))
    assert not mutate.try_mutation(tree, mutation(file="code_of.py", before="return 7", after="return 8"))
    assert (tree / "code_of.py").read_text() == source


def test_tests_that_do_not_run_prove_nothing(tree: Path) -> None:
    """If pytest could not run the tests at all, that is an error, and not a detected mistake."""
    with pytest.raises(RuntimeError, match="exit code"):
        mutate.try_mutation(tree, mutation(file="code_of.py", tests=["test_missing.py"]))


def test_a_piece_that_is_gone_is_an_error(tree: Path) -> None:
    """A mistake whose piece is no longer in the code is an error that asks to adapt the list."""
    with pytest.raises(ValueError, match="occurs 0 times"):
        mutate.mutate(tree, mutation(file="code_of.py", before="+ 3"))
