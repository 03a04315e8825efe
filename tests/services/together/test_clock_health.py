"""A machine with a wrong clock: each service on it reports the problem, and none stops because of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.records import topics
from tufline.runtime import clock_watch
from tufline.runtime.health import Health
from tufline_testing.log import eventually
from tufline_testing.paused import StoppedBus
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import PARTITIONS, bootstrapped, rest

BOOTSTRAP = "/api/v1/bootstrap/"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the clocks many times a second."""
    monkeypatch.setattr(clock_watch, "EVERY_SECONDS", 0.05)


@dataclass
class Machine:
    """A machine whose clock is set."""

    wrong: timedelta

    def clock(self) -> datetime:
        return utc_now() + self.wrong


def clocks(health: Health) -> dict[str, str]:
    """Return the warnings about clocks: part to text."""
    return {part: reason for part, reason in health.warnings.items() if part.endswith(".clock")}


async def reports(health: Health, expected: Callable[[dict[str, str]], bool]) -> None:
    """Wait until health has the expected warnings about clocks."""
    await eventually(lambda: asyncio.sleep(0, expected(clocks(health))))


@pytest.mark.parametrize(("days", "where"), [(-40, "behind"), (40, "ahead of")])
async def test_each_service_reports_a_wrong_clock(tmp_path: Path, days: int, where: str) -> None:
    """Signer, publisher and ingest each warn of a clock that differs from the log's, and stay ready, until the clock is right."""
    machine = Machine(timedelta(days=days))
    async with bootstrapped(tmp_path, clock=machine.clock) as server:
        await reports(server.health, lambda found: set(found) == {"signer.clock", "publisher.clock", "ingest.clock"})
        assert all(f"s {where} the log's (clock.tolerance is 30 s): fix" in reason for reason in clocks(server.health).values())
        await eventually(lambda: asyncio.sleep(0, server.health.ready))
        machine.wrong = timedelta()
        await reports(server.health, lambda found: not found)


async def test_ingest_without_a_partition_learns_the_time_from_requests(tmp_path: Path) -> None:
    """An ingest without a partition of the inbox reports its wrong clock once it has appended a request to the log."""
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with rest(tmp_path, bus=StoppedBus(log, frozenset()), clock=Machine(timedelta(minutes=-1)).clock) as server:
        assert clocks(server.health) == {}
        status, answer = await server.ask("POST", BOOTSTRAP, make_bootstrap(tmp_path / "keys").payload)
        assert status == 202, answer
        await reports(server.health, lambda found: "behind" in found.get("ingest.clock", ""))
    await log.close()


async def test_ingest_with_a_slow_clock_refuses_what_has_expired(tmp_path: Path) -> None:
    """Metadata that is expired by the log's time is refused at the edge, even if the machine's clock is before its expiry."""
    payload = make_bootstrap(tmp_path / "keys", days={"root": 10}).payload
    machine = Machine(timedelta(days=-1))
    log = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), clock=lambda: utc_now() + timedelta(days=20))
    async with rest(tmp_path, bus=log, clock=machine.clock) as server:
        await reports(server.health, lambda found: "behind" in found.get("ingest.clock", ""))
        status, answer = await server.ask("POST", BOOTSTRAP, payload)
        assert (status, "root expired on" in answer["detail"]) == (422, True), answer
    await log.close()
