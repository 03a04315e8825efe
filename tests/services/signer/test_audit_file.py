"""The file of the audit trail: whole lines, one writer, and an error that names the file."""

import errno
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from tufline_signer.signing.audit_sinks import FileSink
from tufline_testing.trails import trail, verify_files

# The file


async def test_a_file_is_whole_lines(tmp_path: Path) -> None:
    """A half-written line of a dead process is cut off before the next one; a file with nothing else becomes empty."""
    records = trail()
    for torn, kept in ((records[0] + b"\n" + records[1][:100], records[:1]), (b"x" * 200_000, [])):
        path = tmp_path / "audit.log"
        path.write_bytes(torn)
        sink = FileSink(path)
        sink.write(records[len(kept) :])
        sink.close()
        assert path.read_bytes() == b"".join(record + b"\n" for record in records)
        assert (await verify_files(path)).findings == []


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """If the disk accepts only half of a line, it is removed, and the whole line is written once there is space."""
    path, sink = tmp_path / "audit.log", FileSink(tmp_path / "audit.log")
    sink.write([b"first"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*audit\.log") as raised:
            sink.write([b"a line that does not fit"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert path.read_bytes() == b"first\n"
    sink.write([b"second"])
    assert path.read_bytes() == b"first\nsecond\n"
    sink.close()


def test_a_rotated_file_goes_on_under_its_name(tmp_path: Path) -> None:
    """After the file was renamed, the next record is written to a new file with the configured name."""
    path, sink = tmp_path / "audit.log", FileSink(tmp_path / "audit.log")
    sink.write([b"1"])
    path.rename(tmp_path / "audit.log.1")
    sink.write([b"2"])
    path.unlink()
    sink.write([b"3", b"4"])
    sink.close()
    assert ((tmp_path / "audit.log.1").read_bytes(), path.read_bytes()) == (b"1\n", b"3\n4\n")


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """A second process with the same file gets an error, and may use the file once the first is gone."""
    one, other = FileSink(tmp_path / "audit.log"), FileSink(tmp_path / "audit.log")
    one.write([b"1"])
    with pytest.raises(OSError, match="each signer needs a file of its own"):
        other.write([b"2"])
    one.close()
    other.write([b"2"])
    other.close()
    assert (tmp_path / "audit.log").read_bytes() == b"1\n2\n"


@pytest.mark.parametrize(("name", "says"), [("missing/audit.log", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_can_not_be_opened_is_reported(tmp_path: Path, name: str, says: str) -> None:
    """A file that can't be opened is an error with its name."""
    with pytest.raises(OSError, match=says) as raised:
        FileSink(tmp_path / name).write([b"1"])
    with suppress(AttributeError):
        assert raised.value.filename == str(tmp_path / name)
