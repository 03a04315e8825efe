"""Recordings of a terminal session, and their pictures.

A recording is a file in asciicast's format (version 2): what was printed, and when. Its picture (SVG) shows a terminal in which each line
appears when it was printed; pauses longer than ``LONGEST_PAUSE`` are cut. A recording with a path or the name of the machine is refused.
"""

import json
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT

COLUMNS: Final = 100
"""Width of the terminal, in characters; longer lines continue in the next row."""

LONGEST_PAUSE: Final = 2.0
"""The longest time without a new line that the picture shows, in seconds."""

CHARACTER: Final = 8.45
LINE: Final = 19
MARGIN: Final = 16
"""Sizes in the picture, in pixels: width of a character, distance of two rows, space at the edges."""

CLASSES: Final[Mapping[str, str]] = {"1": "b", "31": "r", "32": "g"}
"""Code of an escape sequence to the class of the text after it: bold, red or green."""

ESCAPE: Final = re.compile(r"\x1b\[([\d;]*)m")
MACHINE: Final = re.compile(r"(?<![\w.:/])/(?:home|mnt|opt|private|root|srv|tmp|Users|usr|var|work)/")
"""Prefixes of paths on a machine."""

STYLE: Final = """
  rect { fill: #0d1117; }
  text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #e6edf3; white-space: pre; }
  .b { font-weight: 700; }
  .g { fill: #3fb950; }
  .r { fill: #ff7b72; }
  .l { animation: show 1ms backwards; }
  @keyframes show { from { opacity: 0; } to { opacity: 1; } }
  @media (prefers-reduced-motion: reduce) { .l { animation: none; } }
"""
"""Viewers without animations show all lines. Only fonts of the system are used, so that nothing is loaded from elsewhere."""

Event = tuple[float, str]
"""Seconds since the start, and the text that was printed."""

Cell = tuple[str, str]
"""A character and its classes."""


class RecordingError(Exception):
    """The recording can't be used; the message says why."""


def check(events: Sequence[Event]) -> None:
    """Refuse a recording that reveals where it was made.

    Args:
        events: the recording.

    Raises:
        RecordingError: if a line has a path of the machine, or its name.
    """
    for _, text in events:
        if MACHINE.search(text) or str(ROOT) in text or socket.gethostname() in text.split():
            raise RecordingError(f"the recording reveals where it was made: {text!r}")


def write(events: Sequence[Event], cast: Path, command: str) -> None:
    """Write a recording.

    Args:
        events: the recording.
        cast: the file.
        command: what was recorded.
    """
    header = {"version": 2, "width": COLUMNS, "height": len(_rows(events)), "command": command}
    lines = [header, *([at, "o", text.replace("\n", "\r\n")] for at, text in events)]
    cast.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read(cast: Path) -> list[Event]:
    """Read a recording.

    Args:
        cast: the file.

    Returns:
        The recording.
    """
    _, *lines = (json.loads(line) for line in cast.read_text().splitlines())
    return [(at, text.replace("\r\n", "\n")) for at, _, text in lines]


def _cells(line: str) -> list[Cell]:
    """Split a line into characters with their classes."""
    cells: list[Cell] = []
    classes: list[str] = []
    parts = ESCAPE.split(line.rstrip("\n"))
    for number, part in enumerate(parts):
        if number % 2 == 0:
            cells += [(character, " ".join(classes)) for character in part]
            continue
        for code in part.split(";"):
            classes = [*classes, CLASSES[code]] if code in CLASSES else []
    return cells


def _rows(events: Sequence[Event]) -> list[tuple[float, list[Cell]]]:
    """Lay out the rows of the terminal, each with the time at which the picture shows it."""
    rows: list[tuple[float, list[Cell]]] = []
    shown = before = 0.0
    for at, text in events:
        shown += min(at - before, LONGEST_PAUSE)
        before = at
        cells = _cells(text)
        rows += [(shown, cells[start : start + COLUMNS]) for start in range(0, max(1, len(cells)), COLUMNS)]
    return rows


def _spans(cells: Sequence[Cell]) -> str:
    """Write characters as SVG, with a span for each change of their class."""
    text, before = "", ""
    for character, classes in cells:
        if classes != before:
            text += ("</tspan>" if before else "") + (f'<tspan class="{classes}">' if classes else "")
            before = classes
        text += escape(character, quote=False)
    return text + ("</tspan>" if before else "")


def draw(events: Sequence[Event], command: str, *, prompt: bool = True) -> str:
    """Draw a recording.

    Args:
        events: the recording.
        command: what was recorded.
        prompt: whether the picture starts with the command; otherwise the recording has it.

    Returns:
        The content of the SVG file.
    """
    rows = [*([(0.0, _cells(f"$ {command}"))] if prompt else []), *_rows(events)]
    width, height = round(COLUMNS * CHARACTER + 2 * MARGIN), len(rows) * LINE + 2 * MARGIN
    lines = [
        f'  <text class="l" style="animation-delay: {at:.2f}s" x="{MARGIN}" y="{MARGIN + LINE * number + 14}">{_spans(cells)}</text>'
        for number, (at, cells) in enumerate(rows)
        if cells
    ]
    last = ESCAPE.sub("", events[-1][1]).strip()
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" xml:space="preserve" role="img">',
            f'  <title id="title">A recording of {command}, which ends with: {escape(last)}</title>',
            f"  <style>{STYLE}  </style>",
            f'  <rect width="{width}" height="{height}" rx="8"/>',
            *lines,
            "</svg>",
            "",
        ]
    )


def main(
    arguments: Sequence[str], record: Callable[[], list[Event]], cast: Path, picture: Path, command: str, *, prompt: bool = True
) -> int:
    """Record and draw, or draw only.

    Args:
        arguments: ``--draw``, or nothing.
        record: makes the recording.
        cast: the file of the recording.
        picture: the file of the picture.
        command: what is recorded.
        prompt: see ``draw``.

    Returns:
        The exit code: 0 if the picture was written.
    """
    try:
        if "--draw" not in arguments:
            events = record()
            check(events)
            write(events, cast, command)
        picture.write_text(draw(read(cast), command, prompt=prompt))
    except RecordingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
