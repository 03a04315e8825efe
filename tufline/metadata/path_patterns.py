r"""The patterns of paths that custom delegations have: those that every client reads the same way. Pure.

A pattern delegates the paths that it matches, segment by segment, where ``*`` stands for any characters of one segment (TUF specification,
4.5). The clients read more than that, and differently:

- python-tuf matches each segment by ``fnmatch.fnmatchcase`` (``_payload.py``, ``_is_target_in_pathpattern``), which has ``[…]`` and ``?``;
- go-tuf by ``filepath.Match`` (``metadata.go``, ``isTargetInPathPattern``), which also has ``\``, and another ``[…]``;
- tuf-js by minimatch (``role.ts``, ``isTargetInPathPattern``), which also has ``{…}``, ``!``, ``#`` and ``+(…)``; its ``?`` counts
  UTF-16 units, and its ``*`` does not match a dot at the start of a segment.

So a pattern has no special character except ``*``, and a path whose segment starts with a dot can't be matched by a ``*`` there. The
clients themselves show it in ``tests/interop/test_custom_roles.py``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata.paths import check_path

_SPECIAL: Final = re.compile(r"[\[\]{}()!|\\?#%]|\*\*")


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that some client reads differently from the others, or that matches no path.

    Args:
        pattern: the submitted pattern.

    Raises:
        InvalidInputError: with the reason.
    """
    try:
        check_path(pattern)
    except InvalidTargetError as error:
        raise InvalidInputError(f"the pattern {pattern[:100]!r} matches no path: {error}") from None
    if found := _SPECIAL.search(pattern):
        raise InvalidInputError(
            f"the pattern {pattern[:100]!r} has a {found[0]!r}, which clients read differently: use only names and '*', "
            "which matches any characters of one directory or file name"
        )


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern delegates a path.

    Args:
        pattern: a pattern that ``check_pattern`` accepts.
        path: a target path.
    """
    return _compiled(pattern).fullmatch(path) is not None


def is_ambiguous(pattern: str, path: str) -> bool:
    """Return whether clients disagree about a path that the pattern matches, because a ``*`` would have to match a dot that starts a name.

    Args:
        pattern: a pattern that ``matches`` the path.
        path: a target path.
    """
    return any(name.startswith(".") and part.startswith("*") for part, name in zip(pattern.split("/"), path.split("/"), strict=True))


@lru_cache(maxsize=4096)
def _overlap(first: str, second: str) -> bool:
    """Return whether some name is matched by two patterns of one segment: the rows of a table, from the ends of both to their starts."""
    if "*" not in first and "*" not in second:
        return first == second
    ends = [*range(len(second) + 1)]
    below: list[bool] = []
    for at in reversed(range(len(first) + 1)):
        row = [False] * len(ends)
        for other in reversed(ends):
            is_end, is_other_end = at == len(first), other == len(second)
            if is_end and is_other_end:
                row[other] = True
            elif not is_end and first[at] == "*":
                row[other] = below[other] or (not is_other_end and row[other + 1])
            elif not is_other_end and second[other] == "*":
                row[other] = row[other + 1] or (not is_end and below[other])
            elif not is_end and not is_other_end:
                row[other] = first[at] == second[other] and below[other + 1]
        below = row
    return below[0]


@dataclass(slots=True)
class _Node:
    """The patterns that begin with the same segments.

    Attributes:
        named: the next segment to the patterns that continue with it, for segments without a ``*``.
        starred: the same for the others.
        numbers: the patterns that end here.
    """

    named: dict[str, "_Node"] = field(default_factory=dict)
    starred: dict[str, "_Node"] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)

    def next_for(self, name: str) -> Iterable["_Node"]:
        """Return the next nodes whose segment matches a name."""
        if (found := self.named.get(name)) is not None:
            yield found
        for part, node in self.starred.items():
            if matches(part, name):
                yield node

    def next_with(self, part: str) -> Iterable["_Node"]:
        """Return the next nodes whose segment overlaps a segment of another pattern."""
        if "*" not in part:
            yield from self.next_for(part)
            return
        for others in (self.named, self.starred):
            yield from (node for other, node in others.items() if _overlap(part, other))


class PatternTree:
    """Many patterns, each with a number: finds those that match a path, or that overlap a pattern, without trying each of them."""

    def __init__(self, patterns: Iterable[tuple[str, int]]) -> None:
        """Take the patterns.

        Args:
            patterns: each a pattern that ``check_pattern`` accepts, and its number; several patterns may have the same number.
        """
        self._root = _Node()
        for pattern, number in patterns:
            node = self._root
            for part in pattern.split("/"):
                node = (node.starred if "*" in part else node.named).setdefault(part, _Node())
            node.numbers.append(number)

    def matching(self, path: str) -> list[int]:
        """Return the numbers of the patterns that match a path.

        Args:
            path: a target path.

        Returns:
            Each number once, ascending.
        """
        nodes = [self._root]
        for name in path.split("/"):
            nodes = [following for node in nodes for following in node.next_for(name)]
        return sorted({number for node in nodes for number in node.numbers})

    def overlapping(self, pattern: str) -> set[int]:
        """Return the numbers of the patterns that match a path which another pattern matches too.

        Args:
            pattern: the other pattern; it need not be one of these.
        """
        nodes = [self._root]
        for part in pattern.split("/"):
            nodes = [following for node in nodes for following in node.next_with(part)]
        return {number for node in nodes for number in node.numbers}
