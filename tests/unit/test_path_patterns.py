"""The patterns of custom delegations: read as python-tuf reads them, and only those that all clients read the same way."""

import fnmatch
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import DelegatedRole

from tufline.errors import InvalidInputError
from tufline.metadata.path_patterns import PatternTree, check_pattern, is_ambiguous, matches

names = st.text("ab.*é-", min_size=1, max_size=5).filter(lambda name: "**" not in name and name not in {".", ".."})
patterns = st.lists(names, min_size=1, max_size=3).map("/".join)
paths = patterns.map(lambda pattern: pattern.replace("*", "a"))


@given(patterns, paths)
def test_a_pattern_matches_what_python_tuf_matches(pattern: str, path: str) -> None:
    """python-tuf's own matcher agrees about every pattern that is accepted."""
    check_pattern(pattern)
    role = DelegatedRole("dev", [], 1, False, [pattern])
    assert matches(pattern, path) == role.is_delegated_path(path)


@given(patterns, st.data())
def test_a_pattern_matches_what_it_can_become(pattern: str, data: st.DataObject) -> None:
    """A path that is made from a pattern is matched by it."""
    parts = pattern.split("*")
    filled = "".join(itertools.chain.from_iterable((part, data.draw(st.text("ab.é", max_size=3))) for part in parts[:-1])) + parts[-1]
    assert matches(pattern, filled)


def may_overlap(first: str, second: str) -> bool:
    """Return whether a tree with one pattern finds it for the other."""
    return PatternTree([(first, 7)]).overlapping(second) == {7}


@given(st.text("ab*", min_size=1, max_size=4), st.text("ab*", min_size=1, max_size=4))
def test_overlapping_patterns_are_those_with_a_common_path(first: str, second: str) -> None:
    """Of short patterns, two overlap exactly if some text of up to eight characters is matched by both: any shortest one is no longer."""
    texts = ("".join(text) for size in range(9) for text in itertools.product("ab", repeat=size))
    common = any(fnmatch.fnmatchcase(text, first) and fnmatch.fnmatchcase(text, second) for text in texts)
    assert may_overlap(first, second) == common


def test_a_pattern_with_many_stars_is_matched_at_once() -> None:
    """No name takes long: a star that is tried with each length, for each length of the stars before it, would take years here."""
    pattern, name = "*a" * 30, "a" * 200
    began = time.process_time()
    assert [matches(f"{pattern}*c/x", f"{name}b/x"), matches(pattern, name), matches(pattern, f"{name}b")] == [False, True, False]
    assert time.process_time() - began < 1.0


def test_many_long_patterns_are_compared_at_once() -> None:
    """Each of 300 patterns of 400 characters is compared with all others that begin and end alike."""
    made = [f"{'x' * 200}*{number:03d}*{'y' * 200}" for number in range(300)]
    tree = PatternTree((pattern, number) for number, pattern in enumerate(made))
    began = time.process_time()
    assert [tree.overlapping(pattern) for pattern in made] == [{*range(300)}] * 300
    assert time.process_time() - began < 2.0


def test_a_pattern_is_compared_with_those_that_begin_alike_only() -> None:
    """20,000 patterns with a star in the first name would be 400 million comparisons otherwise, and 20,000 for each path."""
    made = [f"p{number:05d}-*" for number in range(20_000)]
    tree = PatternTree((pattern, number) for number, pattern in enumerate(made))
    began = time.process_time()
    assert all(tree.overlapping(pattern) == {number} for number, pattern in enumerate(made))
    assert all(tree.matching(f"p{number:05d}-a") == [number] for number in range(20_000))
    assert time.process_time() - began < 10.0


def test_patterns_of_other_depths_do_not_overlap() -> None:
    """A star never matches a slash."""
    assert not may_overlap("dev/*", "dev/*/*")
    assert not matches("dev/*", "dev/a/b")
    assert may_overlap("dev/*/x", "*/b/*")


@given(st.lists(patterns, max_size=8), patterns, paths)
def test_a_tree_finds_what_a_search_of_every_pattern_would_find(many: list[str], other: str, path: str) -> None:
    """Each number comes once, and numbers of matching patterns come in order, whichever segments the patterns have in common."""
    tree = PatternTree((pattern, number // 2) for number, pattern in enumerate(many))
    assert tree.matching(path) == sorted({number // 2 for number, pattern in enumerate(many) if matches(pattern, path)})
    assert tree.overlapping(other) == {number // 2 for number, pattern in enumerate(many) if may_overlap(pattern, other)}
    assert all(may_overlap(pattern, other) == may_overlap(other, pattern) for pattern in many)


@pytest.mark.parametrize(
    "pattern", ["dev/[ab]", "dev/?", "dev/{a,b}", "!dev/*", "#dev", "dev/+(a)", "dev/a\\*", "dev/**", "dev/%20", "a|b"]
)
def test_a_pattern_that_clients_read_differently_is_refused(pattern: str) -> None:
    """The message names the character, and what can be used."""
    with pytest.raises(InvalidInputError, match="which clients read differently"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "/dev/*", "dev//x", "dev/../x", "dev/"])
def test_a_pattern_that_matches_no_path_is_refused(pattern: str) -> None:
    """No accepted path has that form."""
    with pytest.raises(InvalidInputError, match="matches no path"):
        check_pattern(pattern)


def test_a_star_does_not_match_a_leading_dot_in_every_client() -> None:
    """tuf-js leaves such a path to the next role, so it is ambiguous."""
    assert matches("dev/*", "dev/.hidden")
    assert is_ambiguous("dev/*", "dev/.hidden")
    assert not is_ambiguous("dev/.*", "dev/.hidden")
    assert not is_ambiguous("dev/*", "dev/a.b")
