"""Stopping ``make stack`` ends only the processes that it started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tufline_testing.servers import stack

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does nothing, for a while."""
    with subprocess.Popen(command or ["sleep", "600"], stdout=subprocess.PIPE) as one:
        try:
            yield one
        finally:
            one.kill()


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide the file that lists the started processes."""
    monkeypatch.setattr(stack, "STACK", tmp_path)
    return tmp_path / stack.PIDS


def test_only_what_was_started_is_ended(noted: Path) -> None:
    """A started process is ended; another process that has reused a process id is left alone."""
    with process() as ours, process() as stranger:
        noted.write_text(json.dumps([(stranger.pid, "another start"), (ours.pid, stack.identity(ours.pid)), (stranger.pid, "")]))
        stack.down()
        assert ours.wait(10) == -signal.SIGTERM
        assert stranger.poll() is None
    assert not noted.exists()
    stack.down()


def test_a_process_that_does_not_end_is_killed(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores SIGTERM is killed after a time limit."""
    monkeypatch.setattr(stack, "STOP_SECONDS", 0.2)
    with process(sys.executable, "-c", DEAF) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        noted.write_text(json.dumps([(deaf.pid, stack.identity(deaf.pid))]))
        stack.down()
        assert deaf.wait(10) == -signal.SIGKILL


def test_identity_tells_processes_apart() -> None:
    """A process keeps its identity; another process has a different one, and an ended process has none."""
    with process() as first:
        before = stack.identity(first.pid)
        assert before == stack.identity(first.pid) != stack.identity(os.getpid())
        first.kill()
        first.wait()
        assert stack.identity(first.pid) == ""
