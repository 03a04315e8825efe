"""Bulk requests: any number of lines, in chunks of any size; each refused line is reported."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tufline_testing.rest import artifact, bootstrapped, bulk_line

ARTIFACTS, BULK = "/api/v1/artifacts", "/api/v1/artifacts/bulk"


async def test_bulk_lines(tmp_path: Path) -> None:
    """Any number of bulk lines is accepted; refusals are reported by line and reason, and all other lines become live."""
    good = [bulk_line(**artifact(f"p/{number}", number)) for number in range(20_000)]
    bad = {
        5: (b"no json", "not JSON"),
        17: (bulk_line(**artifact("/absolute")), "absolute"),
        18: (b"x" * 20_000, "longer than 16384 bytes"),
        19_999: (bulk_line(path="a"), "info is missing"),
        20_001: (bulk_line(path="p/7", op="publish"), "op"),
    }
    lines = list(good)
    for number in sorted(bad):
        lines.insert(number - 1, bad[number][0])
    lines.insert(100, b"  ")
    bad_shifted = {number + (number > 100): says for number, (_, says) in bad.items()}
    lines.append(bulk_line(path="p/3", op="remove"))
    async with bootstrapped(tmp_path) as server:
        status, answer = await server.ask("POST", BULK, b"\n".join(lines))
        assert status == 202
        data = answer["data"]
        assert (data["accepted"], data["refused"]) == (20_001, len(bad))
        for refused in data["refused_lines"]:
            assert bad_shifted[refused["line"]] in refused["reason"]
        assert (await server.task(data["task_id"]))["state"] == "SUCCESS"
        assert (await server.ask("GET", f"{ARTIFACTS}/p/3"))[0] == 404
        assert (await server.ask("GET", f"{ARTIFACTS}/p/19999"))[1]["length"] == 19_999


@pytest.mark.parametrize("body", [b"{}", b"\xff\xfe"])
async def test_bulk_of_refused_lines(tmp_path: Path, body: bytes) -> None:
    """A bulk request without an acceptable line has no task, and puts nothing on the log."""
    async with bootstrapped(tmp_path) as server:
        before = await server.on_log()
        status, answer = await server.ask("POST", BULK, body)
        assert (status, answer["data"]["task_id"], answer["data"]["accepted"]) == (202, None, 0)
        assert await server.on_log() == before


@pytest.mark.parametrize("body", [b"", b"\n\n \n", None])
async def test_bulk_of_nothing(tmp_path: Path, body: bytes | None) -> None:
    """A bulk request without lines is refused: its sender meant to send some."""
    async with bootstrapped(tmp_path) as server, server.session.post(server.url + BULK, data=body) as response:
        assert (response.status, "no lines" in (await response.json())["detail"]) == (422, True)


async def test_bulk_line_in_many_chunks(tmp_path: Path) -> None:
    """Lines may arrive in chunks of any size, and the last one without a newline."""
    content = b"\n".join(bulk_line(**artifact(f"p/{number}")) for number in range(50))

    async def drip() -> Any:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]
            await asyncio.sleep(0)

    async with bootstrapped(tmp_path) as server, server.session.post(server.url + BULK, data=drip()) as response:
        assert (await response.json())["data"]["accepted"] == 50
