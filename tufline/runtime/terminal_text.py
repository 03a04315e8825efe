"""Showing untrusted text on a terminal: characters that would move the cursor, change colours or start another line are escaped."""

import re
from typing import Final

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, line separators, characters that change the direction of text, and lone surrogates."""

_UNSAFE_IN_A_LINE: Final = re.compile(f"[\t\n{_UNSAFE.pattern[1:]}")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """Make a text safe to show within a line.

    Args:
        text: untrusted text.

    Returns:
        The text, with escapes in Python's notation.
    """
    return _UNSAFE_IN_A_LINE.sub(_escape, text)


def lines(text: str) -> str:
    """Make a text of several lines safe to show.

    Args:
        text: untrusted text.

    Returns:
        The text, with escapes in Python's notation; tabs and newlines are kept.
    """
    return _UNSAFE.sub(_escape, text)
