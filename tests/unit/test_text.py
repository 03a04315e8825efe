"""Foreign text can't control the reader's terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tufline.runtime import terminal_text
from tufline_cli.exit_codes import Failure

HOSTILE = "\x1b[2J\r\x07\x9b\u202egood\u2028\ud800"
ESCAPED = "\\x1b[2J\\r\\x07\\x9b\\u202egood\\u2028\\ud800"


def test_unsafe_characters_are_escaped() -> None:
    """Control characters, separators, direction marks and lone surrogates are shown as escapes; text in any script is unchanged."""
    assert terminal_text.one_line(f"é日本😀 {HOSTILE}\t\n") == f"é日本😀 {ESCAPED}\\t\\n"
    assert terminal_text.lines(f"é日本😀 {HOSTILE}\t\n") == f"é日本😀 {ESCAPED}\t\n"


def test_an_error_of_a_server_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A server's text reaches the command line's terminal without control characters."""
    Failure(f"it says {HOSTILE}", f"do {HOSTILE}").show()
    assert capsys.readouterr().err == f"error: it says {ESCAPED}\nhint: do {ESCAPED}\n"


PROGRAM = """
import asyncio, sys, structlog, logging
from pathlib import Path
from urllib.parse import quote
from tufline_testing.rest import rest
from tufline.config.settings import LogConfig
from tufline.runtime.telemetry import configure_logging

hostile = sys.argv[1]

async def main():
    configure_logging(LogConfig(format="console"))
    async with rest(Path(sys.argv[2])) as server:
        await server.ask("GET", "/api/v1/artifacts/" + quote(hostile))
    secret = "do not" + " show me"
    try:
        raise ValueError(hostile)
    except ValueError:
        structlog.get_logger("x").exception("fault", said=hostile)
        logging.getLogger("x").exception("other fault %s", hostile)

asyncio.run(main())
"""


def test_the_console_log(tmp_path: Path) -> None:
    """In the human-readable log, a request's path, a value and an exception's message have no control characters from a client."""
    hostile = "\x1b]0;x\x07\x1b[2J\r\nforged\x9b"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", PROGRAM, hostile, tmp_path], env=env, capture_output=True, text=True, check=True).stderr
    for acting in ("\x1b]", "\x1b[2J", "\x07", "\r", "\x9b", "\nforged"):
        assert acting not in said, said
    assert said.count("x1b]0;x") == 5, said  # of the request, the value, the other message, and two exceptions
    assert "ingest.request" in said
    assert "do not show me" not in said
