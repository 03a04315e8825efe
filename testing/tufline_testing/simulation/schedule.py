"""One schedule: the services on a real log in virtual time, with faults at random moments that a seed determines.

A schedule is a sequence of lives of a process. In each life, an announcer replaces the REST API, and the real inbox, signer and publisher
run, sometimes twice; another announcer sends events to the inbox, some repeatedly, some invalid. In some schedules another bootstrap
replaces the first one (``bootstrapping``), changes are held, published and frozen, or custom roles are added, updated and deleted, while
processes of the REST API still route by what they have read last (``delegating``); the keys of some of these are not there at first. In
some, the people with the offline keys sign one by
one, and change their keys, thresholds and lifetimes (``governing``). A life ends abruptly, without any clean-up (``machine``). In the last
life there are no faults, and everything settles. In some schedules, though, the clock was wrong before the last change of a key.

A client reads the origin at random moments, and at every operation on it. At the end the log is compared with the announced changes, and
root and targets with a model of ``admin`` (``expected_trust``); with custom roles, what clients find is compared with a model of the log
(``expected``).
"""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tufline.bus.embedded.bus import EmbeddedBus
from tufline.errors import TuflineError
from tufline.trust import ceremony
from tufline_ingest.inbox import dedupe, inbox_worker
from tufline_signer.bins import bins_log, bins_worker
from tufline_testing.log import freeze
from tufline_testing.simulation.announcer import SOURCES, Announcer
from tufline_testing.simulation.bootstrapping import SCHEME, Bootstrapping
from tufline_testing.simulation.delegating import Delegating
from tufline_testing.simulation.governing import Governing
from tufline_testing.simulation.machine import FAULT_SECONDS, STUBBORN, Machine
from tufline_testing.simulation.seeded import drawn_from
from tufline_testing.simulation.settled import check_settled, check_trust, is_settled

PARTITIONS = {True: (1, 2, 2, 4, 8), False: (1, 2, 2, 3, 5)}
"""Numbers of partitions of logs that spread bins by hash (some have more partitions than bins), and by the first rule."""

ROTATIONS = (0, 0, 1, 2)
"""How many times the online key is changed; half of the schedules never change it, and are faster."""

HOLDING = 1 / 2
"""The share of schedules in which changes are held, published and frozen."""

DELEGATING = 2 / 3
"""The share of the schedules with online targets in which custom roles are added, updated and deleted."""

GOVERNING = 1 / 3
"""The share of schedules in which people sign one by one, and change their keys and all lifetimes."""

BY_AND_BY = 1 / 3
"""The share of these in which the bootstrap, too, is signed one by one."""

ABSENT = 0.3
"""How often the key of a custom role is not where the signer looks for it, until somebody brings it."""

APART = 0.15
"""How often something is done that only some schedules have, in these."""


class Schedule:
    """A schedule: what its seed determines, and the people and the machine that outlive its lives."""

    def __init__(self, seed: int, path: Path) -> None:
        """Choose what the schedule has.

        Args:
            seed: determines all choices.
            path: an empty directory.
        """
        self.seed = seed
        self.chance = random.Random(seed)
        numbers = itertools.count(1)
        partitions = random.Random(f"partitions {seed}").choice(PARTITIONS[self.by_hash])
        self.machine = Machine(path, self.chance, numbers, partitions)
        self.announcer = Announcer(self.chance, numbers)
        # What only some schedules have has its own source of randomness, so that the other schedules stay as they were.
        self.of_governing = random.Random(f"{seed} key holders")
        self.governs = self.of_governing.random() < GOVERNING
        signing = self.of_governing if self.governs and self.of_governing.random() < BY_AND_BY else None
        self.bootstrapping = Bootstrapping(seed, self.chance, path / "keys", self.mode, partitions, by_hash=self.by_hash, signing=signing)
        self.governing = Governing(self.of_governing, self.bootstrapping, self.chance.choice(ROTATIONS))
        self.holding = random.Random(f"{seed} holding")
        self.holds = self.holding.random() < HOLDING
        self.delegating = random.Random(f"{seed} delegating")
        if self.mode == "rstuf" and self.delegating.random() < DELEGATING:
            self.announcer.delegating = Delegating(self.delegating, self._new_key)
        self.custom_keys = itertools.count(1)
        self.losing = random.Random(f"{seed} losing")
        self.absent: dict[str, bytes] = {}

    def _new_key(self) -> tuple[str, dict[str, Any]]:
        name = f"custom-{next(self.custom_keys)}"
        key = ceremony.make_key(SCHEME, f"fn:{name}")
        if self.losing.random() < ABSENT:
            self.absent[name] = key.pem
        else:
            ceremony.write_private(self.machine.path / "keys" / name, key.pem)
        return key.signer.public_key.keyid, key.signer.public_key.to_dict()

    def _bring_absent_keys(self) -> None:
        for name, pem in self.absent.items():
            ceremony.write_private(self.machine.path / "keys" / name, pem)
        self.absent.clear()

    @property
    def mode(self) -> str:
        return "pep458" if self.seed % 2 else "rstuf"

    @property
    def by_hash(self) -> bool:
        """Whether the partition of a path follows from its hash, or from the first rule."""
        return self.seed // 2 % 2 == 0

    def run(self) -> None:
        """Play the schedule; a failure raises an AssertionError, or any error of a client."""
        # With the usual limits, these few bins would always fit into one transaction, and there would never be a backlog.
        piece_bins, backlog_bytes = self.chance.choice([1, 2, 400]), self.chance.choice([1, 2_000_000])
        batch_events = self.chance.choice([1, 2, 500])
        machine = self.machine
        with (
            patch.object(bins_log, "PIECE_BINS", piece_bins),
            patch.object(bins_worker, "BACKLOG_BYTES", backlog_bytes),
            patch.object(inbox_worker, "BATCH_EVENTS", batch_events),
            patch.object(dedupe, "FIRST_STEP", self.chance.choice([1, 256])),
        ):
            for _ in range(self.chance.randrange(1, 5)):
                if self.losing.random() < ABSENT:
                    self._bring_absent_keys()
                machine.live(self._restless, self.chance.randrange(1, 400))
                machine.check_audit()
                machine.lose_power()
                machine.jumps += self.chance.choice([0, 0, 0, 30, 3600, 86_400])
            machine.live(self._settle, float("inf"))
            machine.check_audit()

    async def _restless(self, bus: EmbeddedBus) -> None:
        await self.bootstrapping.begin(bus)
        if self.announcer.delegating is not None:
            await self.announcer.delegating.read(bus)  # what a process that died has appended
        if self.governs:
            await self.governing.read(bus)
        failures = self.chance.choice([0.0, 0.02, 0.2])
        running = self._start_services(bus, failures)
        while True:
            match self.chance.randrange(10):
                case _ if await self._act_apart(bus):
                    pass
                case 0 | 1 | 2 if await self.bootstrapping.has_begun(bus):
                    await self.announcer.announce(bus, self.bootstrapping.bootstrap.settings)
                case 8 | 9:
                    await self.announcer.send_event(bus, self.chance.randrange(SOURCES))
                case 3 if len(running) < 6:
                    running += self._start_services(bus, failures)
                case 4:
                    self.machine.reader.refresh()
                case 5 if self.governing.may_rotate and await self.bootstrapping.has_begun(bus):
                    await self.governing.rotate(bus, self.machine.clock())
                case 5:
                    await asyncio.sleep(self.chance.choice([0.3, 5, 3600]))
                case 6 if self.chance.random() < 0.5:
                    await self.machine.be_wrong()
                case _:
                    await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.01]))

    def _start_services(self, bus: EmbeddedBus, failures: float) -> list[asyncio.Task[None]]:
        return self.machine.start_services(bus, failures, stubborn=self.chance.random() < STUBBORN)

    async def _act_apart(self, bus: EmbeddedBus) -> bool:
        """Do something that only some schedules have, with a source of randomness of its own; return whether there was anything."""
        delegating = self.announcer.delegating
        if await self.bootstrapping.contest(bus):
            return True
        if self.holds and self.holding.random() < APART and await self.bootstrapping.has_begun(bus):
            await self._hold_or_publish(bus)
        elif delegating is not None and self.delegating.random() < APART and await self.bootstrapping.has_begun(bus):
            await self._delegate(bus, delegating)
        elif self.governs and self.of_governing.random() < APART:
            await self.governing.act(bus, self.machine.clock())
        else:
            return False
        return True

    async def _hold_or_publish(self, bus: EmbeddedBus) -> None:
        settings = self.bootstrapping.bootstrap.settings
        match self.holding.randrange(10):
            case 0:
                await freeze(bus, frozen=self.holding.random() < 0.5)
            case 1 | 2 | 3:
                await self.announcer.publish(bus, settings)
            case _:
                await self.announcer.hold(bus, settings, self.holding)

    async def _delegate(self, bus: EmbeddedBus, delegating: Delegating) -> None:
        settings = self.bootstrapping.bootstrap.settings

        async def meanwhile() -> None:
            match self.delegating.randrange(3):
                case 0:
                    await delegating.change(bus, settings, meanwhile)
                case 1 if self.holds:
                    await self.announcer.hold(bus, settings, self.delegating)
                case _:
                    await self.announcer.announce(bus, settings)

        await delegating.change(bus, settings, meanwhile)

    async def _settle(self, bus: EmbeddedBus) -> None:
        self._bring_absent_keys()
        await self.bootstrapping.finish(bus)
        await self.governing.read(bus)  # what a process that died has appended
        running = self.machine.start_services(bus, 0.0, stubborn=False)
        await self.machine.until(lambda: self.bootstrapping.has_begun(bus))
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.choice(FAULT_SECONDS))
            await self.machine.be_wrong()
            if self.governing.may_rotate:
                await self.governing.rotate(bus, self.machine.clock())
        if self.governs:
            await self.governing.act(bus, self.machine.clock())
            await self.governing.conclude(bus, self.machine.clock())
        await self._announce_the_last(bus)
        self._bring_absent_keys()
        await self.machine.until(lambda: is_settled(bus, self.announcer))
        await check_settled(bus, self.machine, self.announcer)
        await check_trust(bus, self.machine, self.governing)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _announce_the_last(self, bus: EmbeddedBus) -> None:
        settings = self.bootstrapping.bootstrap.settings
        if self.announcer.delegating is not None:
            # No process is behind for longer than a life.
            await self.announcer.delegating.read(bus)
            await self._delegate(bus, self.announcer.delegating)
        if self.holds:
            await freeze(bus, frozen=False)
            await self.announcer.hold(bus, settings, self.holding)
            await self.announcer.publish(bus, settings)
            await self.announcer.hold(bus, settings, self.holding)
        await self.announcer.announce(bus, settings)
        for source in range(SOURCES):
            await self.announcer.send_event(bus, source)


def play(seed: int, path: Path) -> str:
    """Play a schedule, and return the failure; empty if there was none.

    The seed determines dates, keys, tokens and all random choices, and every byte of the log, so a schedule that failed fails again.
    """
    try:
        with drawn_from(seed):
            Schedule(seed, path).run()
    except (AssertionError, TuflineError, TimeoutError, Exception) as error:  # noqa: BLE001 (any error of a client or service is a finding)
        return f"{type(error).__name__}: {error}"
    return ""
