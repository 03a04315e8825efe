"""The changes that can be made in a module, one expression each, and a run's share of them.

Cosmic Ray finds them and makes them; what no test needs to detect is left out here.
"""

import ast
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec

SHARE: Final = 60
"""How many changes of a module a run tries; all modules together take less than an hour on one core."""

ORDER: Final = "tufline"
"""Shuffles the changes of a module before they are cut into shares, so that each share has some of every function."""

LEFT_TO_MYPY: Final = frozenset({"frozen", "kw_only", "slots"})
"""Keyword arguments of classes that only guard against mistakes that mypy reports, without any effect on results."""

OPERATORS: Final = frozenset(
    f"core/{name}"
    for name in (
        "AddNot",
        "ExceptionReplacer",
        "NumberReplacer",
        "RemoveDecorator",
        "ReplaceAndWithOr",
        "ReplaceBreakWithContinue",
        "ReplaceContinueWithBreak",
        "ReplaceFalseWithTrue",
        "ReplaceOrWithAnd",
        "ReplaceTrueWithFalse",
        "ReplaceUnaryOperator_Delete_Not",
        "ReplaceUnaryOperator_Delete_USub",
        "ZeroIterationForLoop",
        *(
            f"ReplaceBinaryOperator_{pair}"
            for pair in (
                "Add_Sub",
                "BitAnd_BitOr",
                "BitOr_BitAnd",
                "BitXor_BitOr",
                "Div_Mul",
                "FloorDiv_Mul",
                "LShift_RShift",
                "Mod_FloorDiv",
                "Mul_FloorDiv",
                "Pow_Mul",
                "RShift_LShift",
                "Sub_Add",
            )
        ),
        *(
            f"ReplaceComparisonOperator_{pair}"
            for pair in (
                "Eq_GtE",
                "Eq_LtE",
                "Eq_NotEq",
                "GtE_Gt",
                "GtE_Lt",
                "Gt_GtE",
                "Gt_Lt",
                "IsNot_Is",
                "Is_IsNot",
                "LtE_Gt",
                "LtE_Lt",
                "Lt_Gt",
                "Lt_LtE",
                "NotEq_Eq",
                "NotEq_Gt",
                "NotEq_Lt",
            )
        ),
    )
)
"""Cosmic Ray's operators that are used. It replaces each arithmetic operator by eleven others; the same tests detect all of them."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change, identified so that it stays the same while other code moves.

    Equal changes of equal lines in one function count as one change.

    Attributes:
        file: path of the module, relative to the repository's root.
        function: innermost function or class that has the line; empty for the module itself.
        before: the changed lines, without indentation.
        after: the replacement.
    """

    file: str
    function: str
    before: str
    after: str


def _essence(source: str) -> str:
    """Return a program without the parts that tests need not check, so that changes of these parts give the same text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.arg() | ast.AnnAssign():
                node.annotation = ast.Constant(None)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                node.returns = None
            case ast.ClassDef() | ast.Call():
                node.keywords = [keyword for keyword in node.keywords if keyword.arg not in LEFT_TO_MYPY]
            case ast.FormattedValue(value=ast.Subscript(slice=ast.Slice() as quoted)):
                quoted.upper = None
            case _:
                pass
    return ast.dump(tree)


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    """Find the lines in which two sources differ, without indentation."""
    old, new = before.splitlines(), after.splitlines()
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    first, second = ("\n".join(line.strip() for line in lines[head : len(lines) - tail]).strip() for lines in (old, new))
    return first, second


def find_changes(tree: Path, file: str) -> dict[Change, MutationSpec]:
    """Find the possible changes of a module.

    This leaves out changes that affect only annotations, ``LEFT_TO_MYPY`` or how much a message quotes, and those that result in the same
    program as another change.

    Args:
        tree: the repository's root.
        file: path of the module in the tree.

    Returns:
        Each change with Cosmic Ray's description of it, in the order of the operators and of the source.
    """
    path = tree / file
    source = path.read_text()
    with tempfile.TemporaryDirectory() as directory:
        database = WorkDB(Path(directory) / "session.sqlite", WorkDB.Mode.create)
        try:
            init([path], database, {})
            specs = [item.mutations[0] for item in database.work_items]
        finally:
            database.close()
    specs = [spec for spec in specs if spec.operator_name in OPERATORS]
    specs.sort(key=lambda spec: (spec.operator_name, spec.occurrence))
    changes: dict[Change, MutationSpec] = {}
    seen = {_essence(source)}
    for spec in specs:
        code = mutate_code(source, get_operator(spec.operator_name)(), spec.occurrence)
        try:
            program = _essence(code)
        except SyntaxError:  # the import would fail, which tells nothing about the tests
            continue
        if program not in seen:
            seen.add(program)
            changes.setdefault(Change(file, spec.definition_name or "", *_changed_lines(source, code)), spec)
    return changes


def choose_share(changes: Iterable[Change], seed: int | None, share: int = SHARE) -> list[Change]:
    """Choose the changes that a run tries.

    Args:
        changes: all changes of a module.
        seed: seed of the run; consecutive seeds choose different shares, and together all. None chooses all.
        share: the most changes to choose.

    Returns:
        The chosen changes.
    """
    shuffled = list(changes)
    random.Random(ORDER).shuffle(shuffled)
    if seed is None or not shuffled:
        return shuffled
    shares = -(-len(shuffled) // share)
    return shuffled[seed % shares :: shares]
