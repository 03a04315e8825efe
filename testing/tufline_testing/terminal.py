"""A terminal in which a test runs an interactive program, and types what a person would.

Programs that draw menus read single keys: they switch the terminal to raw mode for each, and discard what was typed before. So a key is
sent only while the terminal is in the mode in which the program reads it. A person is always slow enough for that.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

STEP_SECONDS: Final = 90.0
"""How long a program may take to show what is expected, in seconds; a loaded machine is slow."""

ROWS: Final = 60
COLUMNS: Final = 400
"""Wide enough that no line is wrapped."""

MENU_END: Final = "(enter to confirm)"
"""The last line of each menu. A menu is drawn in several parts; once this line is there, it is complete."""

CHECKLIST_END: Final = "to tick/untick all, enter to confirm)"
"""The last line of each menu in which several options can be ticked."""

DOWN: Final = b"\x1b[B"
TICK: Final = b" "
ENTER: Final = b"\r"

_CONTROLS: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]|\r")

_WITH_TERMINAL: Final = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execvp(sys.argv[1], sys.argv[1:])"
"""Makes the terminal the controlling terminal, from which passwords are read, and then runs the program in its place."""


class Terminal:
    """A running program in a terminal, as a context; leaving the context kills the program if it still runs."""

    def __init__(self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._master, program_side = pty.openpty()
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._output = b""
        self._mark = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WITH_TERMINAL, *map(str, command)],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), **env},
            stdin=program_side,
            stdout=program_side,
            stderr=program_side,
            start_new_session=True,
        )
        os.close(program_side)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def screen(self) -> str:
        """All that the program has shown so far, without colours and cursor movements."""
        return _CONTROLS.sub("", self._output.decode(errors="replace"))

    def expect(self, *texts: str) -> str:
        """Wait until the program shows a text, after what was expected before.

        Args:
            texts: the text, or several alternatives.

        Returns:
            The text that the program shows; if it shows several of them, the first in the list.

        Raises:
            AssertionError: if the program does not show it in time; the message has all its output.
        """
        self._wait(lambda: any(text in self.screen[self._mark :] for text in texts), " or ".join(texts))
        since = self.screen[self._mark :]
        text = min((text for text in texts if text in since), key=since.index)
        self._mark += since.index(text) + len(text)
        return text

    def answer(self, prompt: str, line: str) -> None:
        """Wait for a prompt, and answer it with a line.

        Args:
            prompt: the prompt, or its end.
            line: the answer.
        """
        self.expect(prompt)
        self._send(line.encode() + ENTER)

    def answer_secret(self, prompt: str, secret: str) -> None:
        """Wait for a prompt that does not show what is typed, and answer it.

        Args:
            prompt: the prompt, or its end.
            secret: the answer.
        """
        self.expect(prompt)
        self._wait(lambda: not self._mode() & termios.ECHO, f"{prompt} without an echo")
        self._send(secret.encode() + ENTER)

    def choose(self, prompt: str, option: str) -> None:
        """Wait for a menu below a prompt, and choose an option of it with the arrow keys.

        Args:
            prompt: the text above the menu.
            option: the option; it must be in the menu.
        """
        self.expect(prompt)
        while (chosen := self._asked(option)) != option:
            assert chosen, f"no {option!r} in:\n{self.screen}"
            self._send(DOWN)
        self._send(ENTER)

    def tick(self, prompt: str, *options: str) -> None:
        """Wait for a menu below a prompt in which several options can be ticked, tick some of them, and confirm.

        Args:
            prompt: the text above the menu.
            options: the options to tick, in the order of the menu; they must be in it.
        """
        self.expect(prompt)
        listed = self._listed(len(options))
        at = 0
        for option in options:
            for _ in range(listed.index(option) - at):
                self._send(DOWN)
                self._listed()
            at = listed.index(option)
            self._send(TICK)
            self._listed()
        self._send(ENTER)

    def _listed(self, least: int = 0) -> list[str]:
        """Wait until a menu with ticks is drawn and waits for a key, and mark it as seen.

        Args:
            least: at least how many options it must have.

        Returns:
            Its options.
        """
        self._wait(lambda: CHECKLIST_END in self.screen[self._mark :], "a menu with ticks")
        self._wait(lambda: not self._mode() & termios.ICANON, "keys for ticks")
        drawn = self.screen[self._mark :]
        self._mark = self.screen.rindex(CHECKLIST_END) + len(CHECKLIST_END)
        found = re.findall(r"^\[.\] (.+?) *$", drawn, re.MULTILINE)
        assert len(found) >= least, f"not {least} options in:\n{self.screen}"
        return found

    def _asked(self, option: str) -> str:
        """Wait until a menu is drawn and waits for a key; return the option at its cursor, and mark the menu as seen."""
        self._wait(lambda: bool(self._chosen()), f"a menu with {option}")
        self._wait(lambda: not self._mode() & termios.ICANON, f"keys for {option}")
        # The program draws before it waits for a key. What it drew last may not have been read yet: it may be another menu, or another
        # option, than what was read so far.
        while select.select([self._master], [], [], 0)[0] and self._read(0):
            pass
        chosen = self._chosen()
        self._mark = self.screen.rindex(MENU_END) + len(MENU_END)
        return chosen

    def finish(self) -> str:
        """Wait until the program ends.

        Returns:
            All that it showed.

        Raises:
            AssertionError: if it does not end in time, or its exit code is not 0.
        """
        code = self.end()
        assert code == 0, self.screen
        return self.screen

    def end(self) -> int:
        """Wait until the program ends, however it ends.

        Returns:
            Its exit code.

        Raises:
            AssertionError: if it does not end in time.
        """
        while self._read(STEP_SECONDS):
            pass
        return self._process.wait(timeout=STEP_SECONDS)

    def _chosen(self) -> str:
        """Return the option at the cursor of the menu that was drawn last after the mark, whole; empty if none was."""
        drawn = self.screen[self._mark :]
        found = re.findall(r"^> (.+?) *$", drawn[: max(drawn.rfind(MENU_END), 0)], re.MULTILINE)
        return found[-1] if found else ""

    def _mode(self) -> int:
        mode: int = termios.tcgetattr(self._master)[3]
        return mode

    def _send(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        while not condition():
            is_open = self._read(0.02)
            assert time.monotonic() < deadline, f"no {what!r} in:\n{self.screen}"
            assert is_open or condition(), f"ended without {what!r}:\n{self.screen}"

    def _read(self, seconds: float) -> bool:
        """Read what the program has written; return whether it may write more."""
        readable, _, _ = select.select([self._master], [], [], seconds)
        if not readable:
            return self._process.poll() is None or bool(select.select([self._master], [], [], 0)[0])
        try:
            content = os.read(self._master, 65536)
        except OSError:  # Linux reports EIO once no process has the other side open
            return False
        self._output += content
        return bool(content)
