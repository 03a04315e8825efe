"""The examples are short, say how to run them, and are all listed in their table and in a test."""

import ast
from pathlib import Path

import pytest

from tufline_testing.checkout import ROOT

EXAMPLES = ROOT / "examples"
MOST_LINES = 60
TESTS = [ROOT / "tests" / folder / "test_examples.py" for folder in ("e2e", "kafka")]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_an_example_can_be_read_and_found(file: Path) -> None:
    """Each example fits on one screen; its docstring has the same command as README.md; a test runs it."""
    text, page = file.read_text(), (EXAMPLES / "README.md").read_text()
    assert len(text.splitlines()) <= MOST_LINES
    (command,) = [line.strip() for line in (ast.get_docstring(ast.parse(text)) or "").splitlines() if line.startswith("    ")]
    assert command.startswith(f"python examples/{file.name} ")
    assert f"| [{file.name}]({file.name}) |" in page
    assert f"\npython examples/{file.name} " in page
    assert any(f'"{file.name}"' in test.read_text() for test in TESTS)
