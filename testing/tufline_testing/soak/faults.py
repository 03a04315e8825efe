"""The faults of a soak: how to draw them, and how to inject them into services, brokers and the server with the online key."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tufline_testing.servers.kafka_cluster import Broker, Cluster
from tufline_testing.servers.stack import Service, Stack
from tufline_testing.servers.vault_server import VaultServer
from tufline_testing.soak.report import Report

KILL_SIGNER: Final = "kill signer"
FREEZE_SIGNER: Final = "freeze signer"
OTHERS: Final = (
    FREEZE_SIGNER,
    "kill publisher",
    "kill ingest",
    "kill broker",
    "kill each broker",
    "come and go",
    "roll services",
    "roll brokers",
    "seal vault",
    "kill vault",
)

OWNED: Final = "signer.bins."
FENCED: Final = b"partition.fenced"

IN_SYNC_SECONDS: Final = 60.0
"""How long a restarted broker may take to catch up, in seconds."""

VAULT_SECONDS: Final = 10.0
"""The longest time without signatures, in seconds."""

NOTICE_SECONDS: Final = 5.0
"""How long to wait for the log line of a fenced zombie, in seconds. Usually it first learns that it has left its group, and stops."""


def plan(count: int, chance: random.Random) -> list[str]:
    """Draw faults: half of them kill a signer, and all other kinds are equally frequent.

    Args:
        count: number of faults.
        chance: the source of randomness.

    Returns:
        The kinds of the faults, in order.
    """
    others: list[str] = []
    while len(others) < count // 2:
        others += chance.sample(OTHERS, len(OTHERS))
    every = [KILL_SIGNER] * (count - count // 2) + others[: count // 2]
    chance.shuffle(every)
    return every


class Faults:
    """Injects faults into the running processes."""

    def __init__(
        self, cluster: Cluster, vault: VaultServer, stack: Stack, chance: random.Random, report: Report, session_seconds: float
    ) -> None:
        """Prepare to inject faults.

        Args:
            cluster: the brokers.
            vault: the server with the online key.
            stack: the services.
            chance: the source of randomness, for targets and times.
            report: records faults and problems.
            session_seconds: how long a signer may miss heartbeats before it counts as dead.
        """
        self._cluster = cluster
        self._vault = vault
        self._stack = stack
        self._chance = chance
        self._report = report
        self._session_seconds = session_seconds

    def do(self, kind: str) -> None:
        """Inject a fault, and recover from it.

        Args:
            kind: ``KILL_SIGNER`` or one of ``OTHERS``.
        """
        does: dict[str, Callable[[], None]] = {
            FREEZE_SIGNER: self._freeze,
            "kill broker": lambda: self._restart(self._chance.choice(self._cluster.brokers), signal.SIGKILL),
            "kill each broker": lambda: self._restart_brokers(signal.SIGKILL),
            "roll brokers": lambda: self._restart_brokers(signal.SIGTERM),
            "roll services": self._roll,
            "come and go": self._come_and_go,
            "seal vault": self._seal_vault,
            "kill vault": self._kill_vault,
        }
        does.get(kind, lambda: self._kill(kind.removeprefix("kill ")))()
        self._report.faults[kind] += 1

    def _alive(self, name: str) -> list[Service]:
        return [service for service in self._stack.services if service.name == name and service.process.poll() is None]

    def _kill(self, name: str) -> None:
        self._chance.choice(self._alive(name)).stop(signal.SIGKILL)
        self._stack.start(name)

    def _end(self, service: Service) -> None:
        if (code := service.stop()) != 0:
            self._report.problem(f"{service.name} ended with {code} when it was told to end: {service.log}")

    def _roll(self) -> None:
        for service in [service for service in self._stack.services if service.process.poll() is None]:
            self._end(service)
            self._stack.start(service.name)

    def _come_and_go(self) -> None:
        self._stack.start("signer")
        time.sleep(self._chance.uniform(0, 4))
        self._end(self._chance.choice(self._alive("signer")))

    def _freeze(self) -> None:
        owning = [service for service in self._alive("signer") if any(part.startswith(OWNED) for part in service.parts())]
        zombie = self._chance.choice(owning or self._alive("signer"))
        before = zombie.log.stat().st_size
        zombie.process.send_signal(signal.SIGSTOP)
        time.sleep(2 * self._session_seconds)
        zombie.process.send_signal(signal.SIGCONT)
        self._report.zombies += 1
        deadline = time.monotonic() + NOTICE_SECONDS
        while time.monotonic() < deadline:
            # Instead, it may have left its group before it wrote anything; the epochs on the log show what it wrote.
            if FENCED in zombie.log.read_bytes()[before:]:
                self._report.fenced += 1
                return
            time.sleep(0.2)

    def _seal_vault(self) -> None:
        self._vault.seal()
        time.sleep(self._chance.uniform(0, VAULT_SECONDS))
        self._vault.unseal()

    def _kill_vault(self) -> None:
        self._vault.kill()
        time.sleep(self._chance.uniform(0, VAULT_SECONDS))
        self._vault.start()

    def _restart_brokers(self, number: int) -> None:
        for broker in self._cluster.brokers:
            self._restart(broker, number)

    def _restart(self, broker: Broker, number: int) -> None:
        broker.kill(number)
        time.sleep(self._chance.uniform(0, 4))
        broker.start()
        # An operator would wait too: if the next broker died before that, all writes would stop.
        if not asyncio.run(_all_in_sync(self._cluster)):
            self._report.problem(f"broker {broker.number} has not caught up {IN_SYNC_SECONDS:g} s after its restart")


async def _all_in_sync(cluster: Cluster) -> bool:
    deadline = time.monotonic() + IN_SYNC_SECONDS
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout(IN_SYNC_SECONDS):
                admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
                try:
                    await admin.start()
                    if _is_in_sync(await admin.describe_topics()):
                        return True
                finally:
                    await admin.close()
        except (KafkaError, TimeoutError):
            pass  # it has just been started
        await asyncio.sleep(0.5)
    return False


def _is_in_sync(topics: Sequence[dict[str, Any]]) -> bool:
    return all(len(partition["isr"]) == len(partition["replicas"]) for topic in topics for partition in topic["partitions"])
