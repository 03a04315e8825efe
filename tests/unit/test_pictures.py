"""The README's pictures are what their scripts draw, and reveal nothing about the machine on which they were made."""

import re
import socket
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tools import picture, record_ceremony, record_demo
from tools.recordings import COLUMNS, LONGEST_PAUSE, RecordingError, check, draw, read, write
from tufline_testing.checkout import ROOT

PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def shown(svg: str) -> list[tuple[float, str]]:
    """Return the lines of a drawn recording, with their times."""
    lines = []
    for text in ET.fromstring(svg).iter(f"{SVG}text"):
        delay = re.search(r"animation-delay: ([\d.]+)s", text.attrib["style"])
        assert delay is not None
        lines.append((float(delay[1]), "".join(text.itertext())))
    return lines


def test_the_overview_is_what_the_script_draws() -> None:
    """The picture in the repository is the one that ``python -m tools.picture`` draws."""
    assert picture.PICTURE.read_text() == picture.draw()


def test_the_recording_is_drawn_as_it_is() -> None:
    """The picture of the demo shows the recording in the repository, which ends as the demo does when it succeeds."""
    events = read(record_demo.CAST)
    assert record_demo.PICTURE.read_text() == draw(events, record_demo.COMMAND)
    assert re.fullmatch(r"demo: \d+ artifacts live, \d+ verified by a TUF client, 5 attacks refused\n", events[-1][1])
    check(events)


def test_the_recording_of_the_ceremony_is_drawn_as_it_is() -> None:
    """The picture of the ceremony shows the recording in the repository, which has every command and ends with success."""
    events = read(record_ceremony.CAST)
    assert record_ceremony.PICTURE.read_text() == draw(events, record_ceremony.COMMAND, prompt=False)
    text = "".join(line for _, line in events)
    assert all(f"$ {command}\n" in text for command, _ in record_ceremony.SESSION)
    assert "enough people signed" in text
    assert record_ceremony.PASSPHRASE not in text
    check(events)


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: file.name)
def test_a_picture_loads_nothing(file: Path) -> None:
    """A picture has a title, runs no script, and names no server other than loopback."""
    root = ET.parse(file).getroot()
    assert root.findtext(f"{SVG}title")
    assert not {element.tag for element in root.iter()} & {f"{SVG}{name}" for name in ("script", "image", "use", "foreignObject")}
    named = set(re.findall(r"https?://([^\s/:\"<]+)", file.read_text()))
    assert named <= {"www.w3.org", "127.0.0.1"}
    assert not re.findall(r"@import|url\((?!#)", file.read_text())


def test_lines_appear_when_they_were_printed() -> None:
    """Each line has its time in the recording; a long pause is shortened, and what comes after it moves forward."""
    svg = draw([(0.5, "one\n"), (1.0, "two\n"), (61.0, "three\n"), (61.5, "four\n")], "make demo")
    times = [0.0, 0.5, 1.0, 1.0 + LONGEST_PAUSE, 1.5 + LONGEST_PAUSE]
    assert shown(svg) == list(zip(times, ["$ make demo", "one", "two", "three", "four"], strict=True))


def test_colours_and_signs_of_markup_are_kept() -> None:
    """Bold and coloured text becomes spans; what looks like markup stays text; blanks stay."""
    svg = draw([(0.0, "\x1b[1m1.\x1b[0m <a> & b\n"), (0.0, "   \x1b[1;32mrefused\x1b[0m it\n")], "make demo")
    assert '<tspan class="b">1.</tspan> &lt;a&gt; &amp; b' in svg
    assert '   <tspan class="b g">refused</tspan> it' in svg
    assert [text for _, text in shown(svg)] == ["$ make demo", "1. <a> & b", "   refused it"]


def test_a_long_line_goes_on_in_the_next_row() -> None:
    """Long lines are shown completely, as in a terminal."""
    svg = draw([(0.0, "x" * COLUMNS + "y\n")], "make demo")
    assert [text for _, text in shown(svg)] == ["$ make demo", "x" * COLUMNS, "y"]


@pytest.mark.parametrize("place", ["/home/somebody/x", "/tmp/x/.demo", str(ROOT / "README.md"), socket.gethostname()])
def test_a_recording_that_reveals_its_machine_is_refused(place: str) -> None:
    """A path or the name of the machine in a line ends the recording, and the message shows the line."""
    with pytest.raises(RecordingError, match="reveals where it was made: 'see "):
        check([(0.0, "fine http://127.0.0.1:1/metadata/ packages/tuf/tuf-7.whl\n"), (0.1, f"see {place} for more\n")])


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A recording in the file is the one that was made."""
    events = [(0.5, "\x1b[1mone …\x1b[0m\n"), (1.25, "two\n")]
    write(events, tmp_path / "x.cast", "make demo")
    assert read(tmp_path / "x.cast") == events
