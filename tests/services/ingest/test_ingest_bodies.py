"""Request bodies: their encoding is respected, their size is bounded, and answers quote only a part of them."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.rest import artifact, bootstrapped, rest

ADD, DELETE, BULK, TASK, BOOTSTRAP, METADATA = (
    f"/api/v1/{call}" for call in ("artifacts/", "artifacts/delete", "artifacts/bulk", "task/", "bootstrap/", "metadata/")
)
ONE = json.dumps({"artifacts": [artifact("a")]}).encode()
LINES = b"".join(json.dumps(artifact(f"p/{number}")).encode() + b"\n" for number in range(5000))


def packed(content: bytes, encoding: str) -> bytes:
    return zlib.compress(content) if encoding == "deflate" else gzip.compress(content)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip", "GZip", "identity"])
async def test_supported_encodings(tmp_path: Path, encoding: str) -> None:
    """A compressed request is accepted like an uncompressed one; a gzip body may have several members."""
    async with bootstrapped(tmp_path) as server:
        headers = {"Content-Encoding": encoding}
        name = encoding.lower()
        one, lines = (ONE, LINES) if name == "identity" else (packed(ONE, name), packed(LINES, name))
        assert (await server.ask("POST", ADD, one, headers))[0] == 202
        status, answer = await server.ask("POST", BULK, lines, headers)
        assert (status, answer["data"]["accepted"]) == (202, 5000)
        if "gzip" in name:
            two = gzip.compress(ONE[:20]) + gzip.compress(ONE[20:])
            assert (await server.ask("POST", ADD, two, headers))[0] == 202


async def test_unsupported_encodings(tmp_path: Path) -> None:
    """Another encoding is answered with 415, and with those that are supported."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        for encoding in ("br", "zstd", "compress", "gzip, gzip", "utf-8", "x" * 5000):
            for path in (ADD, BULK, DELETE, BOOTSTRAP, METADATA):
                request = server.session.post(server.url + path, data=ONE, headers={"Content-Encoding": encoding})
                async with request as response:
                    assert (response.status, response.headers["Accept-Encoding"]) == (415, "gzip, x-gzip, deflate"), path
                    assert len(await response.text()) < 500
        assert await server.on_log() == before


DAMAGED: dict[str, Any] = {
    "cut off": lambda content: content[:-9],
    "without its check sum": lambda content: content[:-8],
    "changed": lambda content: content[:20] + bytes([content[20] ^ 255]) + content[21:],
    "with a wrong check sum": lambda content: content[:-6] + b"\0" + content[-5:],
    "followed by something": lambda content: content + b"more",
    "not compressed": lambda _: ONE,
    "empty": lambda _: b"",
    "cut off after the header": lambda content: content[:10],
}


async def test_damaged_encodings(tmp_path: Path) -> None:
    """A damaged or truncated body is an error that tells how many of its lines are on the log, and never a partial success."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        for path, content in ((ADD, ONE), (BULK, LINES)):
            for how, damage in DAMAGED.items():
                status, answer = await server.ask("POST", path, damage(gzip.compress(content)), {"Content-Encoding": "gzip"})
                assert (status, "gzip body" in answer["detail"] or "not gzip" in answer["detail"]) == (422, True), (how, answer)
                if path == ADD:
                    assert await server.on_log() == before, how
                else:
                    assert "lines are on the log" in answer["detail"], how


async def test_size_is_that_of_the_decoded_body(tmp_path: Path) -> None:
    """A small body that unpacks to more than is accepted is refused like a large one."""
    async with bootstrapped(tmp_path, max_request_bytes=100_000) as server:
        blanks = gzip.compress(b" " * 100_000 + ONE)
        for body, headers in ((blanks, {"Content-Encoding": "gzip"}), (b" " * 100_000 + ONE, {})):
            status, answer = await server.ask("POST", ADD, body, headers)
            assert (status, "100000 bytes" in answer["detail"]) == (413, True)


@pytest.mark.parametrize(("lines", "says"), [(b"{}\n" * 10_001, "more than 10000 lines are refused"), (b"\n" * 10_001, "empty lines")])
async def test_bulk_stops_at_too_many_bad_lines(tmp_path: Path, lines: bytes, says: str) -> None:
    """A bulk request with only refused or empty lines is not read to its end, and the answer tells what was accepted before."""
    good = json.dumps(artifact("a")).encode() + b"\n"
    async with bootstrapped(tmp_path) as server:
        status, answer = await server.ask("POST", BULK, good * 2000 + lines + good)
        assert (status, says in answer["detail"], "2000 lines are on the log" in answer["detail"]) == (422, True, True), answer


async def test_allow(tmp_path: Path) -> None:
    """An answer of 405 names the methods that the address has (RFC 9110, 15.5.6)."""
    async with rest(tmp_path) as server:
        for method, path, allowed in (
            ("GET", ADD, "POST"),
            ("DELETE", TASK, "GET"),
            ("PUT", BOOTSTRAP, "GET,POST"),
            ("PATCH", BULK, "GET,POST"),
        ):
            async with server.session.request(method, server.url + path) as response:
                assert response.status == 405
                assert sorted(response.headers["Allow"].replace(" ", "").split(",")) == allowed.split(",")
                assert allowed.split(",")[0] in (await response.json())["detail"]


LONG = "x" * 50_000
REPEATS: dict[str, tuple[str, Any]] = {
    "path": (ADD, {"artifacts": [artifact(LONG)]}),
    "bad path": (ADD, {"artifacts": [artifact("/" + "x" * 900)]}),
    "hash algorithm": (ADD, {"artifacts": [artifact("a", 1, {LONG: "00"})]}),
    "unknown field": (ADD, {"artifacts": [artifact("a", **{LONG: 1})]}),
    "key in custom": (ADD, {"artifacts": [artifact("a", custom={"k" * 4000: {"l": 0.5}})]}),
    "removed path": (DELETE, {"artifacts": [LONG]}),
    "field of a root": (METADATA, {"metadata": {"root": {"signatures": [], "signed": {"_type": LONG}}}}),
    "key in a root": (METADATA, {"metadata": {"root": {"signatures": [], "signed": {LONG: 0.5}}}}),
    "version of a root": (METADATA, {"metadata": {"root": {"signatures": [], "signed": {"_type": "root", "version": LONG}}}}),
}


async def test_answers_do_not_repeat_long_values(tmp_path: Path) -> None:
    """A refusal has the reason and the start of the refused value, not all of it; so do refused bulk lines."""
    async with bootstrapped(tmp_path) as server:
        for name, (path, body) in REPEATS.items():
            status, answer = await server.ask("POST", path, body)
            assert (status, len(answer["detail"]) <= 1001) == (422, True), f"{name}: {status}, {len(answer['detail'])}"
        line = json.dumps({"path": "a", "op": LONG}).encode()
        status, answer = await server.ask("POST", BULK, line)
        assert len(answer["data"]["refused_lines"][0]["reason"]) < 1000
