"""Draws the README's picture, docs/images/overview.svg: ``python -m tools.picture``."""

import sys
from html import escape
from typing import Final

from tufline_testing.checkout import ROOT

PICTURE: Final = ROOT / "docs" / "images" / "overview.svg"

WIDTH: Final = 1080
HEIGHT: Final = 340
LINE: Final = 19
"""Distance of two lines of text."""

TITLE: Final = "How Tufline works"
DESCRIPTION: Final = (
    "A repository tells Tufline the path, length and hash of each file. Ingest writes them to a log, the signer reads the log and writes "
    "signed metadata to it, the publisher copies that to the origin. Clients download files and metadata, and verify both."
)

STYLE: Final = """
  text { font: 15px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; text-anchor: middle; }
  .name { font-weight: 600; }
  .note { font-size: 13px; fill: #59636e; }
  .box { fill: #ffffff; stroke: #59636e; stroke-width: 1.5; }
  .frame { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.5; }
  .log { fill: #fff8c5; stroke: #9a6700; stroke-width: 1.5; }
  .arrow { fill: none; stroke: #59636e; stroke-width: 1.8; marker-end: url(#head); }
  .files { stroke-dasharray: 6 5; }
  #head path { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .box { fill: #151b23; stroke: #9198a1; }
    .frame { fill: #0c2d4a; stroke: #4493f8; }
    .log { fill: #3b2f0b; stroke: #d29922; }
    .arrow { stroke: #9198a1; }
    #head path { fill: #9198a1; }
  }
"""
"""Colours for light and dark pages; fonts that every system has, so that nothing is loaded from elsewhere."""


def _text(x: float, y: float, lines: list[str], kind: str = "note") -> list[str]:
    """Write lines of text, centred around a point."""
    top = y - (len(lines) - 1) * LINE / 2 + 5
    return [f'  <text class="{kind}" x="{x:g}" y="{top + number * LINE:g}">{escape(line)}</text>' for number, line in enumerate(lines)]


def _box(x: float, y: float, width: float, height: float, name: str, notes: list[str], kind: str = "box") -> list[str]:
    """Draw a box with a name and notes."""
    middle, centre = x + width / 2, y + height / 2
    above = len(notes) * LINE / 2
    return [
        f'  <rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>',
        *_text(middle, centre - above, [name], "name"),
        *_text(middle, centre + LINE / 2, notes),
    ]


def _arrow(*points: tuple[float, float], kind: str = "arrow") -> str:
    """Draw an arrow along some points."""
    return f'  <path class="{kind}" d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}"/>'


def draw() -> str:
    """Draw the picture.

    Returns:
        The content of the SVG file.
    """
    services, log, bottom = 92, 208, 320
    shapes = [
        *_box(10, services, 150, 80, "your repository", ["package index,", "registry, firmware"]),
        '  <rect class="frame" x="265" y="72" width="440" height="190" rx="12"/>',
        *_text(300, 90, ["Tufline"], "name"),
        *_box(280, services + 18, 120, 62, "ingest", ["checks"]),
        *_box(425, services + 18, 120, 62, "signer", ["signs"]),
        *_box(570, services + 18, 120, 62, "publisher", ["in a safe order"]),
        *_box(280, log, 410, 40, "log: Apache Kafka, or one SQLite file", [], "log"),
        *_box(365, 8, 240, 46, "online keys", ["Vault, PKCS#11, AWS KMS, file"]),
        *_box(800, services, 110, 80, "origin", ["and CDN"]),
        *_box(975, services, 95, 80, "client", ["any that", "reads TUF"]),
        _arrow((160, services + 49), (276, services + 49)),
        *_text(212, services + 12, ["path, length,", "hash by REST", "or Kafka"]),
        _arrow((340, services + 80), (340, log - 4)),
        _arrow((465, log), (465, services + 84)),
        _arrow((505, services + 80), (505, log - 4)),
        _arrow((630, log), (630, services + 84)),
        _arrow((485, 54), (485, services + 14)),
        _arrow((690, services + 49), (796, services + 49)),
        *_text(753, services + 22, ["signed", "metadata"]),
        _arrow((910, services + 40), (971, services + 40)),
        _arrow((85, services + 80), (85, bottom), (855, bottom), (855, services + 84), kind="arrow files"),
        *_text(485, bottom - 22, ["the files themselves: Tufline needs only path, length and hash"]),
        *_text(1022, services + 104, ["verifies", "every file"]),
    ]
    head = '  <defs><marker id="head" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title description">',
            f'  <title id="title">{escape(TITLE)}</title>',
            f'  <desc id="description">{escape(DESCRIPTION)}</desc>',
            f"  <style>{STYLE}  </style>",
            f'{head}<path d="M0 0 L10 5 L0 10 z"/></marker></defs>',
            *shapes,
            "</svg>",
            "",
        ]
    )


def main() -> int:
    """Write the picture.

    Returns:
        The exit code: 0.
    """
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
