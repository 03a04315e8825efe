"""The commands and programs in the documentation: fenced blocks of ``sh`` and ``python``.

A block runs in a test, or a comment in front of it says why it does not: ``<!-- not-run: REASON -->``.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tufline_testing.server import TUFLINE

_BLOCK: Final = re.compile(
    r"(?:^<!-- not-run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>sh|python|toml|text)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

RUN_SECONDS: Final = 180.0

PROGRAMS: Final = ("sh", "python")
"""The languages of blocks that can run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: behind the fence.
        text: between the fences, with the last line's end.
        reason: why no test runs it; empty if a test does, or if there is nothing to run.
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
    """Read the programs that a test has to run.

    Args:
        page: a Markdown file.

    Returns:
        The texts of the page's programs, except those with a reason not to run them.
    """
    return [block.text for block in blocks(page) if block.is_program and not block.reason]


def run(text: str, directory: Path, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run commands in a shell that stops at the first error, with the programs of this environment.

    Args:
        text: the commands.
        directory: where they run.
        environment: variables in addition to those of this process.

    Returns:
        What they wrote to standard output and standard error.

    Raises:
        AssertionError: if a command fails.
    """
    variables = {**os.environ, **environment, "PATH": f"{Path(TUFLINE).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
