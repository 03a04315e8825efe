"""Simulates a loss of power: records a real process's writes with strace, and keeps only what may survive on the disk.

In: a command to run. Out: its file operations in order, and a file system as it may look after a power loss at any moment. The rules are
those of POSIX, read strictly. Content is safe after fsync, fdatasync or syncfs; of pending content, each sector of 512 bytes may or may not
be written. Names are safe after fsync of their directory or syncfs; of pending names only the first ones may be written, because file
systems journal them in order.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

SECTOR_BYTES = 512
RECORDED = "openat,write,pwrite64,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat"

_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^(\d+)<([^>]*)>")
_ENDS = re.compile(r"= (-?\d+)(?:<([^>]*)>)?")


@dataclass(frozen=True)
class Call:
    """A successful system call: its name, its file, and its arguments."""

    name: str
    path: str
    descriptor: int = -1
    data: bytes = b""
    offset: int = 0
    to: str = ""
    flags: str = ""


def require(command: str) -> str:
    """Find a program that a test needs; if it is missing, the test is skipped, or fails under .ci/run."""
    found = shutil.which(command)
    if found is None:
        reason = f"{command} is not installed (apt-get install {command}): this guarantee is not checked"
        pytest.skip(reason)
    return found


def record(command: Sequence[str], trace: Path) -> list[Call]:
    """Run a command to its end, and return its file operations in order."""
    strace = [require("strace"), "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={RECORDED}", "-o", str(trace)]
    subprocess.run([*strace, *command], check=True, timeout=100, stdout=subprocess.DEVNULL)
    return list(_parse(trace.read_text()))


def _parse(trace: str) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if match := _RESUMED.match(line):
            said = f"{match[2]}({begun.pop(match[1])}{match[3]}"
        elif match := _CALL.match(line):
            if line.endswith("<unfinished ...>"):
                begun[match[1]] = match[3].removesuffix("<unfinished ...>")
                continue
            said = f"{match[2]}({match[3]}"
        else:
            continue
        if call := _read(said):
            yield call


def _read(said: str) -> Call | None:
    name, _, arguments = said.partition("(")
    ends = list(_ENDS.finditer(arguments))
    if not ends or int(ends[-1][1]) < 0:
        return None
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
    if name == "openat":
        return Call(name, _unhex(ends[-1][2]), int(ends[-1][1]), flags=arguments)
    if name.startswith(("rename", "unlink")):
        return Call(name[:6], texts[0].decode(), to=texts[-1].decode())
    file = _FILE.match(arguments)
    assert file is not None, said
    call = Call(name, _unhex(file[2]), int(file[1]))
    if name == "pwrite64":
        return replace(call, data=texts[0], offset=int(arguments[: ends[-1].start()].rstrip(" )").rpartition(", ")[2]))
    if name == "ftruncate":
        return replace(call, offset=int(arguments.partition(", ")[2].partition(")")[0]))
    return replace(call, data=texts[0]) if name == "write" else call


def _unhex(path: str | None) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path and path.startswith("\\x") else path or ""


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and data; None cuts the file at the offset."""

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def after_loss(self, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if chance.random() < 0.5:
                    _apply(content, offset, None)
                continue
            for start in range(0, len(data), SECTOR_BYTES):
                if chance.random() < 0.5:
                    _apply(content, offset + start, data[start : start + SECTOR_BYTES])
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """The file system below a directory, after the calls played so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = f"{directory}/"
        self._names: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._pending: list[tuple[str, _File | None]] = []
        self._positions: dict[int, int] = {}

    def play(self, call: Call) -> None:
        """Apply a call."""
        if call.name == "syncfs":
            self._sync_names()
            for synced in self._names.values():
                synced.sync()
        elif call.name in {"fsync", "fdatasync"} and f"{call.path}/" == self._directory:
            self._sync_names()
        elif call.path.startswith(self._directory):
            self._play(call)

    def _play(self, call: Call) -> None:
        match call.name:
            case "openat":
                self._positions[call.descriptor] = 0
                if "O_CREAT" in call.flags and call.path not in self._names:
                    self._name(call.path, _File())
                elif "O_TRUNC" in call.flags:
                    self._names[call.path].pending.append((0, None))
            case "write":
                position = self._positions[call.descriptor]
                self._names[call.path].pending.append((position, call.data))
                self._positions[call.descriptor] = position + len(call.data)
            case "pwrite64":
                self._names[call.path].pending.append((call.offset, call.data))
            case "ftruncate":
                self._names[call.path].pending.append((call.offset, None))
            case "fsync" | "fdatasync":
                self._names[call.path].sync()
            case "rename":
                self._name(call.to, self._names[call.path])
                self._name(call.path, None)
            case "unlink":
                self._name(call.path, None)

    def _name(self, path: str, file: _File | None) -> None:
        self._pending.append((path, file))
        _set_name(self._names, path, file)

    def _sync_names(self) -> None:
        for path, file in self._pending:
            _set_name(self._durable, path, file)
        self._pending.clear()

    def lose_power(self, target: Path, chance: random.Random) -> None:
        """Write a file system that may survive the loss of power into a directory."""
        names = dict(self._durable)
        for path, file in self._pending[: chance.randint(0, len(self._pending))]:
            _set_name(names, path, file)
        target.mkdir()
        for path, file in names.items():
            (target / path.removeprefix(self._directory)).write_bytes(file.after_loss(chance))


def _set_name(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file
