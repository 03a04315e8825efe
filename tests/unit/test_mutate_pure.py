"""Changes of the pure modules that no test detects are reported, and the recorded ones stay true to the code."""

from pathlib import Path

import pytest

from tufline_testing.checkout import ROOT
from tufline_testing.proofs import mutate_pure
from tufline_testing.proofs.mutate_pure import Module, Outcome, Survivor, read_modules, read_survivors, try_module
from tufline_testing.proofs.pure_changes import Change, choose_share, find_changes

PROGRAM = "def is_adult(age: int | float) -> bool:\n    return age >= 18\n"
WEAK = "import people\n\n\ndef test_adults():\n    assert people.is_adult(30)\n    assert not people.is_adult(2)\n"
STRONG = f"{WEAK}    assert people.is_adult(18)\n    assert not people.is_adult(17)\n"
BOUNDARY = Change("people.py", "is_adult", "return age >= 18", "return age > 18")
MODULE = Module("people.py", ["test_people.py"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a program with a test that detects few of its mistakes."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: none\n")
    (tmp_path / "conftest.py").write_text("from hypothesis import settings\n\nsettings.register_profile('mutation')\n")
    (tmp_path / "people.py").write_text(PROGRAM)
    (tmp_path / "test_people.py").write_text(WEAK)
    return tmp_path


@pytest.mark.slow
def test_a_weak_test_is_reported(tree: Path) -> None:
    """A change that no test detects survives and is reported; a stronger test leaves none, and the source stays unchanged."""
    weak = try_module(tree, MODULE, None, [])
    assert weak.tried == 4
    assert [change.after for change in weak.unexplained if change != BOUNDARY] == ["return age >= 19", "return age >= 17"]
    assert BOUNDARY in weak.unexplained
    (tree / "test_people.py").write_text(STRONG)
    assert try_module(tree, MODULE, None, []) == Outcome(4, [], [], [])
    assert (tree / "people.py").read_text() == PROGRAM


@pytest.mark.slow
def test_a_recorded_survivor_is_accepted_until_it_is_stale(tree: Path) -> None:
    """A survivor with a reason is not a fault; it is reported once a test detects it, or once the line is gone."""
    older = Survivor("people.py", "older", "return 1", "return 2", "an example")
    recorded = [Survivor(BOUNDARY.file, BOUNDARY.function, BOUNDARY.before, BOUNDARY.after, "an example"), older]
    weak = try_module(tree, MODULE, None, recorded)
    assert BOUNDARY not in weak.unexplained
    assert (weak.gone, weak.killed) == ([older.change], [])
    (tree / "test_people.py").write_text(STRONG)
    assert try_module(tree, MODULE, None, recorded) == Outcome(4, [], [older.change], [BOUNDARY])


def test_tests_that_fail_anyway_prove_nothing(tree: Path) -> None:
    """If the tests fail without a change, that is an error, and nothing counts as detected."""
    (tree / "test_people.py").write_text(WEAK.replace("assert not", "assert"))
    with pytest.raises(RuntimeError, match="prove nothing"):
        try_module(tree, MODULE, None, [])


def test_code_that_no_test_can_check_is_not_changed(tree: Path) -> None:
    """Annotations, guards for mypy and the quoted length of messages are not changed; code next to them is."""
    (tree / "people.py").write_text("""\
@dataclass(frozen=True, slots=True)
class Person(Struct, frozen=True, array_like=True):
    age: int | None = None

def show(name: str | None) -> str | None:
    return f"{name[:64]!r} has {len(name) - 1}"
""")
    assert {change.after for change in find_changes(tree, "people.py")} == {
        "",
        "class Person(Struct, frozen=True, array_like=False):",
        'return f"{name[:64]!r} has {len(name) + 1}"',
        'return f"{name[:64]!r} has {len(name) - 0}"',
        'return f"{name[:64]!r} has {len(name) - 2}"',
    }


def test_a_change_keeps_its_name(tree: Path) -> None:
    """A change keeps its identity wherever its line moves, so that its record stays true while other code changes."""
    before = list(find_changes(tree, "people.py"))
    assert BOUNDARY in before
    (tree / "people.py").write_text(f'"""A program."""\n\n{PROGRAM}')
    assert list(find_changes(tree, "people.py")) == before


@pytest.mark.parametrize("total", [0, 1, 9, 10, 11, 45])
def test_consecutive_seeds_try_everything(total: int) -> None:
    """No run tries more than its share, and after as many seeds as there are shares every change was tried once."""
    changes = [Change("a.py", "f", str(number), "") for number in range(total)]
    shares = [choose_share(changes, seed, 10) for seed in range(7, 7 + max(1, -(-total // 10)))]
    assert all(len(share) <= 10 for share in shares)
    assert sorted(change.before for share in shares for change in share) == sorted(change.before for change in changes)
    assert len(choose_share(changes, None, 10)) == total


def test_the_lists_are_true_to_the_code() -> None:
    """Each listed module and test exists, and the lines of each recorded survivor are in their module."""
    modules, survivors = read_modules(), read_survivors()
    lines = {one.file: [line.strip() for line in (ROOT / one.file).read_text().splitlines()] for one in modules}
    assert [test for one in modules for test in one.tests if not (ROOT / test.partition("::")[0]).is_file()] == []
    assert [one for one in survivors if not set(one.before.splitlines()) <= set(lines[one.file])] == []
    assert len({one.change for one in survivors}) == len(survivors)


def test_a_survivor_without_a_reason_is_an_error(tmp_path: Path) -> None:
    """A record whose reason is empty is refused, as ``make mutate-pure`` prints it."""
    (tmp_path / "survivors.toml").write_text(mutate_pure.show(BOUNDARY))
    with pytest.raises(ValueError, match="has no reason"):
        read_survivors(tmp_path)
