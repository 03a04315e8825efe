"""The tree of errors in each module's docstring is the one that the classes make."""

import importlib
import re

import pytest

MODULES = ("tufline.errors", "tufline_ingest.errors", "tufline_publisher.errors", "tufline_signer.errors")
LINE = re.compile(r" {4}(?P<lead>(?:│   | {4})*)(?:[├└]── )?(?P<name>[A-Z]\w*Error)\b")


def parents_in_docstring(docstring: str) -> dict[str, str]:
    """Read the tree: each error to the one above it."""
    above: list[str] = []
    parents = {}
    for line in docstring.splitlines():
        if match := LINE.match(line):
            depth = len(match["lead"]) // 4 + (line[4 + len(match["lead"])] in "├└")
            if depth:
                parents[match["name"]] = above[depth - 1]
            above[depth:] = [match["name"]]
    return parents


@pytest.mark.parametrize("name", MODULES)
def test_the_tree_is_that_of_the_classes(name: str) -> None:
    """The tree in a module's docstring lists exactly its errors, each below its base class."""
    module = importlib.import_module(name)
    classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name and one.__name__ != "TuflineError"]
    assert classes
    assert parents_in_docstring(module.__doc__ or "") == {one.__name__: one.__bases__[0].__name__ for one in classes}


def test_a_tree_without_indentation_is_seen() -> None:
    """A tree whose lines have lost their indentation does not count as the right one."""
    flat = "TuflineError\n└── AError\n├── BError\n"
    assert parents_in_docstring(flat) == {}
    nested = "    TuflineError\n    └── AError   a\n        └── BError   b\n"
    assert parents_in_docstring(nested) == {"AError": "TuflineError", "BError": "AError"}
