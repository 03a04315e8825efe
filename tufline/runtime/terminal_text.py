"""Text of strangers on a terminal: a character that would move the cursor, change colours or begin another line is shown as an escape."""

import re
from typing import Final

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, what separates lines, what changes the direction of text, and halves of characters."""

_UNSAFE_IN_A_LINE: Final = re.compile(f"[\t\n{_UNSAFE.pattern[1:]}")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """Make a text safe to show within a line.

    Args:
        text: of anybody.

    Returns:
        The text, with escapes as Python writes them.
    """
    return _UNSAFE_IN_A_LINE.sub(_escape, text)


def lines(text: str) -> str:
    """Make a text safe to show that may have many lines.

    Args:
        text: of anybody.

    Returns:
        The text, with escapes as Python writes them, but its tabs and newlines.
    """
    return _UNSAFE.sub(_escape, text)
