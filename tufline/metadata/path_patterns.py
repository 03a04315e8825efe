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

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
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


def _expression(part: str) -> str:
    """Return the regular expression of one segment of a pattern."""
    first, *others = map(re.escape, part.split("*"))
    # What comes between two stars is taken where it first occurs, for good: any later place leaves less for the rest. Otherwise each star
    # would be tried with each length, and seven of them take 8 s for a name of 60 characters.
    between = "".join(f"(?>[^/]*?{text})" for text in others[:-1])
    return first + between + "".join(f"[^/]*{text}" for text in others[-1:])


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("/".join(map(_expression, pattern.split("/"))), re.DOTALL)


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
def _ends(part: str) -> tuple[str, str]:
    """Return what is before the first star, and what is after the last one."""
    start, *_, end = part.split("*")
    return start, end


def _overlap(first: str, second: str) -> bool:
    """Return whether some name is matched by two patterns of one segment."""
    if "*" not in first:
        return matches(second, first)
    if "*" not in second:
        return matches(first, second)
    # A name that both match begins as one does before its first star, and the other then takes the rest with its star; ends likewise; and
    # has in between what the one has between its stars, and then what the other has.
    (start, end), (other_start, other_end) = _ends(first), _ends(second)
    return (start.startswith(other_start) or other_start.startswith(start)) and (end.endswith(other_end) or other_end.endswith(end))


@dataclass(slots=True)
class _Node:
    """The patterns that begin with the same segments.

    Attributes:
        named: the next segment to the patterns that continue with it, for segments without a ``*``.
        starred: the same for the others.
        starts: what is before the first star to the segments in ``starred`` that have this start.
        numbers: the patterns that end here.
        sorted_names: the segments in ``named``, sorted; None until they are needed.
        sorted_starts: the same for ``starts``.
    """

    named: dict[str, "_Node"] = field(default_factory=dict)
    starred: dict[str, "_Node"] = field(default_factory=dict)
    starts: dict[str, list[str]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    sorted_names: list[str] | None = None
    sorted_starts: list[str] | None = None

    def child(self, part: str) -> "_Node":
        """Return the next node of a segment, which is made if there is none."""
        children = self.starred if "*" in part else self.named
        if part not in children:
            children[part] = _Node()
            if "*" in part:
                self.starts.setdefault(_ends(part)[0], []).append(part)
        return children[part]

    def next_for(self, name: str) -> Iterable["_Node"]:
        """Return the next nodes whose segment matches a name."""
        if (found := self.named.get(name)) is not None:
            yield found
        yield from (self.starred[part] for part in self._beginning_before(name, len(name) + 1) if matches(part, name))

    def next_with(self, part: str) -> Iterable["_Node"]:
        """Return the next nodes whose segment overlaps a segment of another pattern."""
        if "*" not in part:
            yield from self.next_for(part)
            return
        if self.sorted_names is None or self.sorted_starts is None:
            self.sorted_names, self.sorted_starts = sorted(self.named), sorted(self.starts)
        start = _ends(part)[0]
        yield from (self.named[name] for name in _beginning_with(start, self.sorted_names) if matches(part, name))
        longer = (other for one in _beginning_with(start, self.sorted_starts) for other in self.starts[one])
        shorter = self._beginning_before(start, len(start))
        yield from (self.starred[other] for other in itertools.chain(longer, shorter) if _overlap(part, other))

    def _beginning_before(self, text: str, end: int) -> Iterable[str]:
        """List the segments with a star whose start is a text's first characters, fewer than ``end``."""
        if self.starts:
            yield from (part for size in range(end) for part in self.starts.get(text[:size], ()))


def _beginning_with(start: str, texts: Sequence[str]) -> Iterable[str]:
    """List those of sorted texts that have a start."""
    following = (texts[number] for number in range(bisect_left(texts, start), len(texts)))
    return itertools.takewhile(lambda text: text.startswith(start), following)


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
                node = node.child(part)
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
