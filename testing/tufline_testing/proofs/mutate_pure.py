"""Changes the expressions of the pure modules one by one, and runs the tests that must detect it: ``mutate_pure.py SEED [MODULE …]``.

Cosmic Ray finds the possible changes (operators, comparisons, numbers, conditions, exceptions, loops), and runs the tests. The modules and
their tests are listed in ``tests/mutations/pure/modules.toml``. A change that no test detects has survived. Each survivor is either killed
by a new test, or listed with a reason in ``tests/mutations/pure/survivors.toml``; any other makes the program end with exit code 1.

All changes together take longer than an hour, so a run tries a share of each module: ``SHARE`` changes, chosen by the seed. Consecutive
seeds try different shares, until every change has been tried. With ``all`` instead of the seed, every change is tried.
"""

import ast
import contextlib
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome

from tufline_testing.checkout import ROOT
from tufline_testing.proofs.mutate import MEMORY, copy_tree

LISTS: Final = ROOT / "tests" / "mutations" / "pure"

SHARE: Final = 60
"""How many changes of a module a run tries; all modules together take less than an hour on one core."""

ORDER: Final = "tufline"
"""Shuffles the changes of a module before they are cut into shares, so that each share has some of every function."""

SLOWER: Final = 3.0
"""How many times longer than without a change the tests may run: a change that makes them hang counts as detected."""

LEAST_SECONDS: Final = 20.0
"""The shortest time limit for the tests of a change, in seconds: a busy machine does not count as a hang."""

BASELINE_SECONDS: Final = 600.0
"""How long the tests of a module may run without any change, in seconds."""

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


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module and its tests.

    Attributes:
        file: path of the module, relative to the repository's root.
        tests: files or ids of tests that run in seconds, without servers.
    """

    file: str
    tests: list[str]


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


class Survivor(Change, frozen=True, forbid_unknown_fields=True):
    """A change that no test needs to detect.

    Attributes:
        reason: why not.
    """

    reason: str

    @property
    def change(self) -> Change:
        """The change itself."""
        return Change(self.file, self.function, self.before, self.after)


class _Modules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    module: list[Module]


class _Survivors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    survivor: list[Survivor] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        tried: number of changes tried.
        unexplained: survivors without a recorded reason.
        gone: recorded survivors that can no longer be made.
        killed: recorded survivors that a test detected.
    """

    tried: int
    unexplained: Sequence[Change]
    gone: Sequence[Change]
    killed: Sequence[Change]


def read_modules(directory: Path = LISTS) -> list[Module]:
    """Read the list of modules.

    Args:
        directory: directory of the lists.

    Returns:
        The modules, in the order of the list.
    """
    return msgspec.toml.decode((directory / "modules.toml").read_bytes(), type=_Modules).module


def read_survivors(directory: Path = LISTS) -> list[Survivor]:
    """Read the list of recorded survivors.

    Args:
        directory: directory of the lists.

    Returns:
        The changes with their reasons.

    Raises:
        ValueError: if one has no reason.
    """
    survivors = msgspec.toml.decode((directory / "survivors.toml").read_bytes(), type=_Survivors).survivor
    if bare := [one for one in survivors if not one.reason.strip()]:
        raise ValueError(f"the survivor {bare[0].after!r} in {bare[0].file} has no reason: explain why no test needs to detect it")
    return survivors


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


def make_command(tree: Path, tests: Sequence[str], seed: int, *, write_bytecode: bool = False) -> str:
    """Make the command that runs tests in a tree, in a fixed order and up to the first failure.

    Reading bytecode halves the time of a run. It is written once, before any change.

    Args:
        tree: the repository's root.
        tests: files or ids.
        seed: seed of the tests that draw random examples.
        write_bytecode: whether to write bytecode for the following runs.

    Returns:
        The command line.
    """
    places = [tree, tree / "cli", tree / "testing", *sorted((tree / "services").glob("*"))]
    without = [word for plugin in ("cacheprovider", "randomly", "xdist") for word in ("-p", f"no:{plugin}")]
    options = ["-q", "-x", *without, "--hypothesis-profile=mutation", f"--hypothesis-seed={seed}", "-m", "not slow"]
    environment = [f"PYTHONPATH={os.pathsep.join(map(str, places))}", f"PYTHONPYCACHEPREFIX={tree / '.bytecode'}"]
    unset = ["-u", "PYTHONDONTWRITEBYTECODE"] if write_bytecode else []  # Cosmic Ray sets it
    return shlex.join(["env", *unset, *environment, sys.executable, "-m", "pytest", *options, *tests])


def show(change: Change) -> str:
    """Format a change for the list of survivors.

    Args:
        change: the change.

    Returns:
        A TOML table, whose reason still has to be written.
    """
    fields = {**msgspec.structs.asdict(change), "reason": ""}
    return "[[survivor]]\n" + "".join(f"{name} = {json.dumps(text)}\n" for name, text in fields.items())


def try_module(tree: Path, module: Module, seed: int | None, allowed: Sequence[Survivor], share: int = SHARE) -> Outcome:
    """Try changes of a module, printing each that survives.

    Args:
        tree: a copy of the repository.
        module: the module to change.
        seed: chooses the changes, as for ``choose_share``.
        allowed: recorded survivors, of any module.
        share: the most changes to try.

    Returns:
        The result.

    Raises:
        RuntimeError: if the tests fail without a change, or a change could not be made.
    """
    changes = find_changes(tree, module.file)
    recorded = {one.change: one for one in allowed if one.file == module.file}
    command = make_command(tree, module.tests, seed or 0)
    with contextlib.chdir(tree):
        os.utime(module.file, (0, 0))  # no change has this time, so this bytecode is never used for a changed file
        began = time.monotonic()
        baseline = mutate_and_test([], make_command(tree, module.tests, seed or 0, write_bytecode=True), BASELINE_SECONDS)
        seconds = time.monotonic() - began
        if baseline.test_outcome is not TestOutcome.SURVIVED:
            raise RuntimeError(f"the tests of {module.file} fail without any change, so they prove nothing:\n{baseline.output}")
        chosen = choose_share(changes, seed, share)
        survived = []
        for change in chosen:
            result = mutate_and_test([changes[change]], command, max(LEAST_SECONDS, seconds * SLOWER))
            if result.test_outcome not in {TestOutcome.SURVIVED, TestOutcome.KILLED}:
                raise RuntimeError(f"{change} could not be tried:\n{result.output}")
            if result.test_outcome is TestOutcome.SURVIVED:
                survived.append(change)
                if change not in recorded:
                    print(f"SURVIVED: kill it by a test, or record it with a reason\n{show(change)}", flush=True)
    unexplained = [one for one in survived if one not in recorded]
    killed = [one for one in chosen if one in recorded and one not in survived]
    gone = [one for one in recorded if one not in changes]
    print(f"{module.file}: {len(chosen)} of {len(changes)} changes, {len(survived)} survived, {time.monotonic() - began:.0f} s", flush=True)
    return Outcome(len(chosen), unexplained, gone, killed)


def main() -> None:
    """Try the modules named on the command line, or all."""
    seed = None if sys.argv[1] == "all" else int(sys.argv[1])
    listed, allowed = read_modules(), read_survivors()
    if unknown := sorted(set(sys.argv[2:]) - {one.file for one in listed}):
        sys.exit(f"unknown module {', '.join(unknown)}; tests/mutations/pure/modules.toml lists {', '.join(one.file for one in listed)}")
    print(f"seed {sys.argv[1]}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        tree = Path(directory)
        copy_tree(tree)
        outcomes = [try_module(tree, one, seed, allowed) for one in listed if one.file in sys.argv[2:] or not sys.argv[2:]]
    unexplained = [change for one in outcomes for change in one.unexplained]
    stale = [(change, "no longer exists") for one in outcomes for change in one.gone]
    stale += [(change, "is killed by a test") for one in outcomes for change in one.killed]
    for change, why in stale:
        print(f"STALE: this recorded survivor {why}; remove it\n{show(change)}", flush=True)
    tried = sum(one.tried for one in outcomes)
    print(
        f"{tried} changes of {len(outcomes)} modules, {len(unexplained)} survived without a reason, {len(stale)} recorded ones are stale, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
