"""Every client finds a path in the role that the signer puts it into, up to the largest number of roles that it visits."""

from pathlib import Path

import pytest

from tufline.errors import InvalidInputError
from tufline.metadata.delegations import MAX_MATCHING, Delegation
from tufline.metadata.path_patterns import check_pattern, is_ambiguous, matches
from tufline.metadata.profiles import GO_TUF, TUF_JS
from tufline_testing.clients.custom_roles import IN_BINS, roles_found, write_repository
from tufline_testing.clients.running import Client

UNORDERED = f"{GO_TUF.name} {GO_TUF.oldest}"
"""Visits the roles that match a path in random order, and none after a bin (GHSA-4f8r-qqr9-fq8j, fixed in 2.0.1)."""


@pytest.fixture
def ordered(every_client: list[Client]) -> list[Client]:
    """The clients that visit roles in the order in which targets names them."""
    found = [client for client in every_client if client.name != UNORDERED]
    assert len(found) == len(every_client) - 1
    return found


def test_every_client_visits_as_many_roles_as_a_path_may_have(ordered: list[Client], tmp_path: Path) -> None:
    """A path that all custom roles match is found in the last of them, and one that none of them has in its bin."""
    custom = [Delegation(name=f"r{number}", paths=("a/*",), days=3) for number in range(MAX_MATCHING)]
    last = custom[-1].name
    write_repository(tmp_path / "repository", custom, {IN_BINS: ["a/in-bins"], last: ["a/in-last"]})
    found = roles_found(ordered, tmp_path / "repository", tmp_path / "states", ["a/in-bins", "a/in-last"])
    assert found == {client.name: {"a/in-bins": IN_BINS, "a/in-last": last} for client in ordered}


def test_a_path_in_several_roles_is_found_in_the_first(ordered: list[Client], tmp_path: Path) -> None:
    """Clients visit roles in the order of targets, and none after a terminating one that matches, not even the bin."""
    custom = [Delegation(name="z", paths=("a/*",)), Delegation(name="b", paths=("a/*", "b/*"), terminating=True)]
    paths = ["a/z", "a/b", "a/bins", "b/bins", "c"]
    write_repository(tmp_path / "repository", custom, {"z": paths[:1], "b": paths[:2], IN_BINS: paths})
    found = roles_found(ordered, tmp_path / "repository", tmp_path / "states", paths)
    assert found == {client.name: {"a/z": "z", "a/b": "b", "a/bins": "", "b/bins": "", "c": IN_BINS} for client in ordered}


def test_every_client_finds_every_other_path_in_its_bin(every_client: list[Client], tmp_path: Path) -> None:
    """The catch-all role is visited for all paths: clients compute different hashes of them."""
    paths = [f"b/{number}" for number in range(100)]
    write_repository(tmp_path / "repository", [Delegation(name="dev", paths=("a/*",))], {IN_BINS: paths})
    found = roles_found(every_client, tmp_path / "repository", tmp_path / "states", paths)
    assert found == {client.name: dict.fromkeys(paths, IN_BINS) for client in every_client}


AGREED = {
    "a/*": ["a/b", "a/b.c", "a/-", "a/\u00e9", "a/\u65e5\u672c", "a/\U0001f600", "a/a\u0301", "a/b c", "a/B", "A/b", "b/b"],
    "b*d/x": ["bd/x", "bcd/x", "b.d/x", "bc/d/x", "b/x"],
    "*.whl": ["a.whl", "a.whl.asc", "a/b.whl"],
    "c/*/*-*.gz": ["c/d/e-f.gz", "c/d/-.gz", "c/d/e.gz", "c/e-f.gz", "c/d/e-f-g.gz"],
    "d/e": ["d/e", "d/E", "d/ef", "d"],
    "f/.g*": ["f/.g", "f/.gh", "f/g"],
    "\u00e9/*": ["\u00e9/a", "e\u0301/a"],
    "h/a+b@c,~$&;'=_^`<>\"": ["h/a+b@c,~$&;'=_^`<>\""],
    "i/@*": ["i/@a", "i/@"],
    "*/*/j": ["k/l/j", "k/j", "k/l/m/j"],
}
"""Accepted patterns, each with paths about which all clients agree."""


def test_every_client_agrees_about_accepted_patterns(ordered: list[Client], tmp_path: Path) -> None:
    """Each pattern, alone, matches the same paths for every client as for the signer."""
    found: dict[str, dict[str, list[str]]] = {}
    for number, (pattern, paths) in enumerate(AGREED.items()):
        check_pattern(pattern)
        assert not any(matches(pattern, path) and is_ambiguous(pattern, path) for path in paths)
        repository = tmp_path / f"repository-{number}"
        write_repository(repository, [Delegation(name="dev", paths=(pattern,))], {"dev": paths})
        of_clients = roles_found(ordered, repository, tmp_path / f"states-{number}", paths)
        found[pattern] = {name: [path for path in paths if roles[path]] for name, roles in of_clients.items()}
    expected = {pattern: [path for path in paths if matches(pattern, path)] for pattern, paths in AGREED.items()}
    assert found == {pattern: {client.name: expected[pattern] for client in ordered} for pattern in AGREED}


DISPUTED = {
    "a/[!b]": "a/c",
    "a/[^b]": "a/c",
    "a/?": "a/\U0001f600",
    "a/{b,c}": "a/b",
    "!a": "b",
    "#a": "#a",
    "a/+(b)": "a/b",
    "a/\\b": "a/b",
    "a/**": "a/.b",
}
"""Refused patterns, each with a path that only some clients match."""


def test_clients_disagree_about_refused_patterns(ordered: list[Client], tmp_path: Path) -> None:
    """A pattern with one of these characters would delegate other paths in one client than in another."""
    agreed = []
    for number, (pattern, path) in enumerate(DISPUTED.items()):
        with pytest.raises(InvalidInputError):
            check_pattern(pattern)
        repository = tmp_path / f"repository-{number}"
        write_repository(repository, [Delegation(name="dev", paths=(pattern,))], {"dev": [path]})
        of_clients = roles_found(ordered, repository, tmp_path / f"states-{number}", [path])
        if len({roles[path] for roles in of_clients.values()}) == 1:
            agreed.append(pattern)
    assert agreed == []


def test_a_star_matches_a_dot_that_starts_a_name_except_in_tuf_js(ordered: list[Client], tmp_path: Path) -> None:
    """Such a path is refused under a pattern with a star there, and accepted under one that names the dot."""
    paths = ["a/.b", "c/.d"]
    assert [is_ambiguous("a/*", "a/.b"), is_ambiguous("c/.*", "c/.d")] == [True, False]
    write_repository(tmp_path / "repository", [Delegation(name="dev", paths=("a/*", "c/.*"))], {"dev": paths})
    found = roles_found(ordered, tmp_path / "repository", tmp_path / "states", paths)
    assert found == {client.name: {"a/.b": "" if client.name.startswith(TUF_JS.name) else "dev", "c/.d": "dev"} for client in ordered}
