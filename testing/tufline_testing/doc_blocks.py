"""The commands and programs in the documentation: fenced blocks of ``sh`` and ``python``, and what is known of each.

A block runs in a test, or a comment in front of it says why it does not: ``<!-- not-run: REASON -->``.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(
    r"(?:^<!-- not-run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>sh|python|toml|text)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

PROGRAMS: Final = ("sh", "python")
"""The languages of what can be run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: behind the fence.
        text: between the fences, with the last line's end.
        reason: why no test runs it; empty if one does, or if there is nothing to run.
    """

    language: str
    text: str
    reason: str

    @property
    def is_program(self) -> bool:
        """Whether it can be run."""
        return self.language in PROGRAMS


def blocks(page: Path) -> list[Block]:
    """Read the blocks of a page.

    Args:
        page: a Markdown file.

    Returns:
        Them, in their order.
    """
    return [Block(found["language"], found["text"], found["reason"] or "") for found in _BLOCK.finditer(page.read_text())]


def programs(page: Path) -> list[str]:
    """Read what a test has to run.

    Args:
        page: a Markdown file.

    Returns:
        The texts of its programs, without those that give a reason not to be run.
    """
    return [block.text for block in blocks(page) if block.is_program and not block.reason]
