"""Refuses phrases that are hard to read: ``python -m tools.phrases`` (part of ``make lint``).

``tools/phrases.toml`` lists them with their replacements. Only prose is read: documentation, docstrings, comments and messages.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.prose import Piece, prose_of, tracked
from tufline_testing.checkout import ROOT

LIST: Final = Path(__file__).with_name("phrases.toml")

LEFT_OUT: Final = ("tests/fixtures/", "tests/unit/test_prose.py")
"""Files whose sentences are data."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that must not be used.

    Attributes:
        pattern: regular expression that finds the phrase.
        instead: the replacement, or advice.
    """

    pattern: re.Pattern[str]
    instead: str


def phrases() -> list[Phrase]:
    """Read the list.

    Returns:
        Its phrases.
    """
    listed = tomllib.loads(LIST.read_text())["phrase"]
    return [Phrase(re.compile(one["pattern"].replace(" ", r"\s+"), re.IGNORECASE), one["instead"]) for one in listed]


def check(piece: Piece, listed: list[Phrase]) -> Iterator[str]:
    """Find the phrases of the list in a piece of prose.

    Args:
        piece: the piece of prose.
        listed: the phrases from ``phrases``.

    Yields:
        Each finding: its place, the phrase, and its replacement.
    """
    for phrase in listed:
        for found in phrase.pattern.finditer(piece.text):
            line = piece.line + piece.text.count("\n", 0, found.start())
            yield f"{piece.path}:{line}: {' '.join(found[0].split())!r}: write {phrase.instead}"


def main() -> int:
    """Check all prose of the repository.

    Returns:
        1 if a phrase of the list was found.
    """
    listed = phrases()
    findings = [
        finding
        for path in tracked(ROOT)
        if not path.startswith(LEFT_OUT)
        for piece in prose_of(path, (ROOT / path).read_text())
        for finding in check(piece, listed)
    ]
    print("\n".join([*findings, f"{len(findings)} phrases to replace (tools/phrases.toml)"] if findings else ["no phrase to replace"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
