"""Finds the prose of the repository: documentation, docstrings, comments, messages and descriptions, with the place of each piece."""

import ast
import io
import re
import shutil
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GIT: Final = shutil.which("git") or "git"

PROSE_SUFFIXES: Final = {".md", ".py"}

FENCE: Final = re.compile(r"^\s*(```|~~~)")
COMMENT: Final = re.compile(r"#:?\s?")

SENTENCE_END: Final = re.compile(
    r"""(?<=[.!?:])\s+(?=[A-Z`"'(*\[])   # the next sentence
    |\n\s*\n|\s\|\s                   # a paragraph, or a cell of a table
    |\n(?=\s*(?:[-*]|\d+\.)\s)         # an entry of a list
    |\n(?=\s+\*{0,2}\w+:\s)             # an argument, an error""",
    re.VERBOSE,
)

FEWEST_WORDS: Final = 5
"""A shorter piece of text is a heading, a name or an entry of a list, but not a sentence."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of prose.

    Attributes:
        path: of the file, relative to the repository's root.
        line: where it starts, from 1.
        text: the prose; its lines are those of the file.
    """

    path: str
    line: int
    text: str


def tracked(root: Path) -> list[str]:
    """List the files that may hold prose.

    Args:
        root: of the repository.

    Returns:
        Their paths, relative to the root.
    """
    names = subprocess.run([GIT, "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if Path(name).suffix in PROSE_SUFFIXES and (root / name).is_file()]


def prose_of(path: str, content: str) -> Iterator[Piece]:
    """Find the prose of a file.

    Args:
        path: of the file; its suffix determines how it is read.
        content: of the file.

    Yields:
        Each piece.
    """
    yield from _of_markdown(path, content) if path.endswith(".md") else _of_python(path, content)


def sentences(piece: Piece) -> Iterator[Piece]:
    """Split a piece of prose into its sentences.

    Args:
        piece: to split.

    Yields:
        Each sentence, on one line; texts that are too short for a sentence are left out.
    """
    at = 0
    for part in SENTENCE_END.split(piece.text):
        start = piece.text.index(part, at) if part else at
        at = start + len(part)
        line = piece.line + piece.text.count("\n", 0, start + len(part) - len(part.lstrip()))
        text = " ".join(part.split())
        if len(text.split()) >= FEWEST_WORDS and not text.startswith("noqa"):
            yield Piece(piece.path, line, text)


def _of_markdown(path: str, content: str) -> Iterator[Piece]:
    """Find the paragraphs; blocks of code and the rules of tables are left out."""
    is_code, start, lines = False, 0, list[str]()
    for number, line in enumerate([*content.splitlines(), ""], 1):
        if FENCE.match(line):
            is_code = not is_code
        elif not is_code and line.strip() and not line.startswith("    ") and not re.fullmatch(r"[|\s:-]+", line):
            if not lines:
                start = number
            lines.append(line)
            continue
        if lines:
            yield Piece(path, start, "\n".join(lines))
            lines = []


def _of_python(path: str, content: str) -> Iterator[Piece]:
    """Find docstrings, messages (string literals of several words), and comments; consecutive lines of comments are one piece."""
    strings = [node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant | ast.JoinedStr)]
    inside = {id(part) for node in strings if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in strings:
        if id(node) in inside:
            continue
        text = _text(node)
        if len(text.split()) >= FEWEST_WORDS:
            yield Piece(path, node.lineno, text)
    start, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != start + len(lines):
            yield Piece(path, start, "\n".join(lines))
            lines = []
        if not lines:
            start = token.start[0]
        lines.append(COMMENT.sub("", token.string, count=1))
    if lines:
        yield Piece(path, start, "\n".join(lines))


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
