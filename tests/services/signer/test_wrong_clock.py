"""The signer on a machine with a wrong clock: nothing expires, nothing is postponed, nothing goes early, and health reports it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

import tufline_signer.service
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.metadata.envelope import disassemble, parse_expires, read_common
from tufline.records import Add, topics
from tufline.runtime.health import Health
from tufline_testing.log import DEFAULT_DAYS, Published, announce, announce_bootstrap, eventually, running, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.simulation.virtual_time import START, run_virtual

NTP = timedelta(minutes=40)
"""After this time a wrong clock is right again."""


DAYS = DEFAULT_DAYS | {"snapshot": 1, "timestamp": 1, "bins": 1}


GRACE_SECONDS = 600.0


CHECK_SECONDS = 900.0


@dataclass
class SignerMachine:
    """A log, a signer and the machine that they run on, whose clock is set. Clients have the true time."""

    path: Path
    true: Clock
    days: dict[str, int] = field(default_factory=dict)
    wrong: timedelta = timedelta()
    health: Health = field(default_factory=Health)
    bus: EmbeddedBus = field(init=False)

    def __post_init__(self) -> None:
        self.offline = Offline(self.path / "keys", bins=4, mode="pep458", days=DAYS | self.days)
        self.bootstrap = self.offline.bootstrap(2)

    def wall(self) -> datetime:
        return self.true() + self.wrong

    @asynccontextmanager
    async def running(self, *, brokers: bool) -> AsyncIterator[None]:
        """Run a signer on a log with its own clock, as brokers have, or on this machine's."""
        clock = self.true if brokers else self.wall
        monotonic = asyncio.get_running_loop().time
        self.bus = await open_embedded(self.path / "log.db", topics.topics(2), clock=clock, monotonic=monotonic, threads=False)
        await announce_bootstrap(self.bus, self.bootstrap)
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=CHECK_SECONDS, release_delay=5.0, release_grace=GRACE_SECONDS)
        try:
            async with running(tufline_signer.service.run(self.bus, config, clock=self.wall, health=self.health)):
                await settled(self.bus)
                yield
        finally:
            await self.bus.close()

    async def be_wrong(self, by: timedelta, time: timedelta = NTP) -> None:
        self.wrong = by
        await asyncio.sleep(time.total_seconds())
        self.wrong = timedelta()

    async def published(self) -> Published:
        """Read the published metadata as a client with the true time does."""
        found = await Published.read(self.bus)
        found.verify(self.true())
        return found

    async def add(self, *paths: str) -> None:
        await announce(self.bus, self.bootstrap.settings, [Add(path, 1, {"sha256": "0" * 64}) for path in paths])


def on_a_machine(
    tmp_path: Path, story: Callable[[SignerMachine], Awaitable[None]], days: dict[str, int] | None = None, *, brokers: bool
) -> None:
    """Tell a story in virtual time."""

    async def main(clock: Clock) -> None:
        machine = SignerMachine(tmp_path, clock, days or {})
        async with machine.running(brokers=brokers):
            await story(machine)

    run_virtual(main)


def expiries(found: Published) -> dict[str, datetime]:
    """Return the expiry of the newest version of each role that the signer signs."""
    newest: dict[str, tuple[int, datetime]] = {}
    for name, content in {**found.files, "0.timestamp.json": found.timestamp}.items():
        role = name.split(".")[1]
        common = read_common(disassemble(content).signed)
        if role not in {"root", "targets"}:
            newest[role] = max(newest.get(role, (0, START)), (common.version, parse_expires(common.expires)))
    return {role: expires for role, (_, expires) in newest.items()}


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
@pytest.mark.parametrize("days", [30, -30])
def test_a_short_wrong_clock_makes_nothing_expire(tmp_path: Path, days: int, *, brokers: bool) -> None:
    """While the clock is wrong and for two days afterwards, clients accept everything published, and new changes become live."""

    async def story(machine: SignerMachine) -> None:
        await asyncio.sleep(60)
        wrong = asyncio.create_task(machine.be_wrong(timedelta(days=days)))
        await asyncio.sleep(300)
        await machine.add("during")
        await eventually(partial(is_live, machine, "during"), step=1)
        await wrong
        await machine.add("after")
        await eventually(partial(is_live, machine, "after"), step=1)
        for _ in range(9):
            await asyncio.sleep(6 * 3600)
            await machine.published()

    async def is_live(machine: SignerMachine, path: str) -> bool:
        return path in (await Published.read(machine.bus)).verify(machine.true())

    on_a_machine(tmp_path, story, brokers=brokers)


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
def test_metadata_signed_by_a_fast_clock_is_renewed_once_it_is_right(tmp_path: Path, *, brokers: bool) -> None:
    """After a clock was a month ahead, no role keeps an expiry that is further away than its lifetime."""

    async def story(machine: SignerMachine) -> None:
        await machine.be_wrong(timedelta(days=30))
        await asyncio.sleep(2 * CHECK_SECONDS)
        for role, expires in expiries(await machine.published()).items():
            lifetime = timedelta(days=DAYS["bins" if role.startswith("bins") else role])
            assert expires <= machine.true() + 1.05 * lifetime, role

    on_a_machine(tmp_path, story, brokers=brokers)


def test_a_slow_clock_signs_nothing_that_is_expired(tmp_path: Path) -> None:
    """A signer that starts with a clock weeks behind the brokers' publishes nothing expired, and reports what to fix."""

    async def main(clock: Clock) -> None:
        machine = SignerMachine(tmp_path, clock, wrong=timedelta(days=-40))
        async with machine.running(brokers=True):
            await eventually(lambda: asyncio.sleep(0, "signer.clock" in machine.health.warnings), seconds=120, step=10)
            for _ in range(6):
                await machine.published()
                assert "behind the log's" in machine.health.warnings["signer.clock"]
                assert machine.health.ready
                await asyncio.sleep(6 * 3600)
            machine.wrong = timedelta()
            await eventually(lambda: asyncio.sleep(0, "signer.clock" not in machine.health.warnings), seconds=120)

    run_virtual(main)


@pytest.mark.parametrize("brokers", [True, False], ids=["brokers", "one machine"])
def test_a_short_wrong_clock_postpones_no_key_change(tmp_path: Path, *, brokers: bool) -> None:
    """After a clock was a day ahead, a new online key is used immediately, and the old one signs no longer than the grace time."""

    async def story(machine: SignerMachine) -> None:
        await machine.be_wrong(timedelta(days=1), timedelta(seconds=30))
        await announce_updates(machine.bus, machine.offline.rotate(now=machine.true()))
        await eventually(partial(has_newest_root, machine), seconds=3 * CHECK_SECONDS, step=20)
        await asyncio.sleep(GRACE_SECONDS + 60)
        await machine.add("a")
        found = await settled(machine.bus)
        assert {entry.keyid for entry in disassemble(found.timestamp).signatures} == {machine.offline.online}

    async def has_newest_root(machine: SignerMachine) -> bool:
        return f"{machine.offline.root.version}.root.json" in (await machine.published()).files

    on_a_machine(tmp_path, story, brokers=brokers)


def test_a_fast_clock_ends_no_grace_time_early(tmp_path: Path) -> None:
    """While a clock is ahead of the brokers', the old key continues to sign through the grace time of a key change."""

    async def story(machine: SignerMachine) -> None:
        await asyncio.sleep(2 * GRACE_SECONDS)  # otherwise the start of the signer would hide that the clock is ahead
        before = machine.offline.online
        await announce_updates(machine.bus, machine.offline.rotate(now=machine.true()))
        await eventually(partial(has_newest_root, machine), seconds=3 * CHECK_SECONDS, step=20)
        machine.wrong = timedelta(days=2)
        await machine.add("a")
        found = await settled(machine.bus)
        assert before in {entry.keyid for entry in disassemble(found.timestamp).signatures}

    async def has_newest_root(machine: SignerMachine) -> bool:
        return f"{machine.offline.root.version}.root.json" in (await machine.published()).files

    on_a_machine(tmp_path, story, brokers=True)


def test_an_expiry_in_sight_is_reported_on_a_quiet_repository(tmp_path: Path) -> None:
    """Even without changes, health warns before a root expires, and the process stays ready; a new root ends the warning."""

    async def story(machine: SignerMachine) -> None:
        while machine.true() < START + timedelta(days=1.4):
            await asyncio.sleep(3600)
        assert "expiry.root" not in machine.health.warnings
        while machine.true() < START + timedelta(days=1.6):
            await asyncio.sleep(3600)
        assert "root expires in 0." in machine.health.warnings["expiry.root"]
        assert machine.health.ready
        await announce_updates(machine.bus, machine.offline.rotate(now=machine.true()))
        await eventually(lambda: asyncio.sleep(0, "expiry.root" not in machine.health.warnings), 3 * CHECK_SECONDS, step=20)
        assert machine.health.ready

    on_a_machine(tmp_path, story, {"root": 2}, brokers=True)
