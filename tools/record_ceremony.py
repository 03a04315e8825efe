"""Records ``tufline ceremony`` and draws the recording: ``python -m tools.record_ceremony``; with ``--draw`` the last one is drawn again.

It types a person's answers in a pseudo-terminal, because passphrases are read only from a terminal; each answer is typed when its question
appears. docs/images/ceremony.cast is the recording, docs/images/ceremony.svg shows it; see ``tools.recordings``.
"""

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.recordings import COLUMNS, Event, RecordingError, main
from tufline_testing.checkout import ROOT

CAST: Final = ROOT / "docs" / "images" / "ceremony.cast"
PICTURE: Final = ROOT / "docs" / "images" / "ceremony.svg"
COMMAND: Final = "tufline ceremony"

QUESTION_SECONDS: Final = 60.0
"""How long to wait for a question, or for the end of a command."""

THINKING_SECONDS: Final = 0.8
"""How long the person waits before each answer."""

PASSPHRASE: Final = "correct horse battery staple"  # noqa: S105 (of keys that are thrown away)
ENTER: Final = ""

NEW: Final = (("Passphrase for", PASSPHRASE), ("Repeat", PASSPHRASE))
INTERVIEW: Final = (
    ("Who holds root keys", "ada, ben, cy"),
    ("must sign?", "2"),
    ("people or server?", "people"),
    ("Who signs targets", ENTER),
    ("must sign?", ENTER),
    *(("in days?", ENTER) for _ in range(5)),
    ("one or each?", ENTER),
    ("in a few years?", "2000000"),
    ("Number of bins", ENTER),
)

SESSION: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    ("tufline ceremony ceremony", INTERVIEW),
    ("tufline keys generate ada.pem", NEW),
    ("tufline keys generate ben.pem", NEW),
    ("tufline keys generate cy.pem", NEW),
    ("cp ada.pub.json ben.pub.json cy.pub.json ceremony/keys/", ()),
    ("tufline keys prove fn:online.pem > ceremony/online/all.json", ()),
    ("tufline ceremony ceremony", ()),
    ("cd ceremony/sign", ()),
    *(
        (
            f"tufline sign root.json targets.json --key ../../{name}.pem --signatures ../signatures/{name}.json",
            ((f"Passphrase of ../../{name}.pem", PASSPHRASE),),
        )
        for name in ("ada", "cy")
    ),
    ("cd ../..", ()),
    ("tufline ceremony ceremony", ()),
)
"""Each command, with its questions and the answers to type."""


class _Terminal:
    """A shell on a pseudo-terminal, and what it printed, by lines."""

    def __init__(self, directory: Path, home: str) -> None:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": home,
            "PS1": "$ ",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "COLUMNS": str(COLUMNS),
            "TUFLINE_SIGNER__KEY_DIR": str(directory / "server"),
        }
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.chdir(directory)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)  # noqa: S606 (the shell that is recorded)
        self._began = time.monotonic()
        self.line = ""
        self.events: list[Event] = []

    def wait_for(self, text: str) -> None:
        """Read until the line that is not ended yet ends with a text."""
        deadline = time.monotonic() + QUESTION_SECONDS
        while not self.line.endswith(text):
            self._read_some(text, deadline)

    def type(self, text: str) -> None:
        """Type a line, and wait until the terminal has gone on to the next one."""
        before, deadline = len(self.events), time.monotonic() + QUESTION_SECONDS
        os.write(self._terminal, f"{text}\n".encode())
        while len(self.events) == before:
            self._read_some("the end of the line", deadline)

    def _read_some(self, text: str, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise RecordingError(f"{text!r} did not come; the last line is {self.line!r}")
        if not select.select([self._terminal], [], [], 0.1)[0]:
            return
        self.line += os.read(self._terminal, 65_536).decode().replace("\r", "")
        *lines, self.line = self.line.split("\n")
        at = round(time.monotonic() - self._began, 2)
        self.events += [(at, f"{line}\n") for line in lines]

    def close(self) -> None:
        """End the shell."""
        os.close(self._terminal)
        os.waitpid(self._child, 0)


def record() -> list[Event]:
    """Play the ceremony, and record what the terminal shows.

    Returns:
        The lines, with their times.

    Raises:
        RecordingError: if a question does not come, or the ceremony does not succeed.
    """
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory() as home:
        directory = Path(temporary)
        make = [sys.executable, "-c", "from tufline_cli import main; main()", "keys", "generate", "server/online.pem", "--unencrypted"]
        subprocess.run(make, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        terminal = _Terminal(directory, home)
        terminal.wait_for("$ ")
        terminal.events.clear()
        for command, answers in SESSION:
            terminal.type(command)
            for question, answer in answers:
                terminal.wait_for(": ")
                if question not in terminal.line:
                    raise RecordingError(f"{question!r} was not asked, but {terminal.line!r}")
                time.sleep(THINKING_SECONDS)
                terminal.type(answer)
            terminal.wait_for("$ ")
        terminal.close()
        done = (directory / "ceremony" / "bootstrap.json").exists()
    if not done:
        raise RecordingError("the ceremony did not end with a bootstrap.json")
    return terminal.events


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], record, CAST, PICTURE, COMMAND, prompt=False))
