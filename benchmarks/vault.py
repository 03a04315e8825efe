"""Signing in a real OpenBao, with storage on disk and an audit device; and the services on Kafka with their online key in it."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import tufline_signer.service
from benchmarks.load import BINS, Load
from benchmarks.on_kafka import said, spending, stack_of, steady
from benchmarks.profiling import cpu_seconds
from benchmarks.report import Row
from benchmarks.server import MILLION, import_lines, versions
from benchmarks.settle import settled_directory
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.config.settings import DEFAULT_PARTITIONS, LogConfig, SignerConfig
from tufline.keys.vault.key import open_vault_key
from tufline.records import Bootstrap, topics
from tufline.runtime import memory
from tufline.runtime.health import Health
from tufline.runtime.telemetry import configure_logging
from tufline_testing.log import announce_bootstrap, eventually, settings_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.servers.stack import Stack
from tufline_testing.servers.vault_server import VaultServer, vault_server
from tufline_testing.vaults import make_key, session, signer_config

SIGNATURES = 16_384
ONE_BY_ONE = 500
FULL_BIN_BYTES = 364_000
FULL_BINS = 200

RENEW_ALL = {"TUFLINE_SIGNER__RENEW_FRACTION": "0.9999"}
"""With this setting, bins with a lifetime of a week are due after a minute. A renewed bin is not due for at least half a minute."""


async def rate(server: VaultServer, kind: str, payloads: Sequence[bytes], together: int) -> float:
    """Sign payloads, several per call to the provider, and return the signatures per second, including verification."""
    name, public = await make_key(server, kind)
    async with session(signer_config(server, name)) as of_signer:
        key = await open_vault_key(name.uri, public, of_signer)
        began = time.perf_counter()
        for start in range(0, len(payloads), together):
            await key.sign_many(payloads[start : start + together])
        return len(payloads) / (time.perf_counter() - began)


def signatures(server: VaultServer) -> Iterator[Row]:
    """Measure signatures per second."""
    digests = "the network and Vault's audit log; hashes are all that is sent"
    whole = "encoding and sending each payload whole"
    for kind, label, size, count, limits in (
        ("ecdsa-p256", "P-256", 500, SIGNATURES, digests),
        ("ecdsa-p256", "P-256", FULL_BIN_BYTES, FULL_BINS, digests),
        ("ed25519", "Ed25519", 500, SIGNATURES, whole),
        ("ed25519", "Ed25519", FULL_BIN_BYTES, FULL_BINS, whole),
    ):
        payloads = [os.urandom(size) for _ in range(count)]
        one_by_one = asyncio.run(rate(server, kind, payloads[:ONE_BY_ONE], 1))
        together = asyncio.run(rate(server, kind, payloads, count))
        yield Row(f"Vault: {label}, payloads of {size:,} bytes, one after the other", one_by_one, "signatures/s")
        name = f"Vault: {label}, payloads of {size:,} bytes, {count:,} at once"
        yield Row(name, together, "signatures/s", limits=f"{together / one_by_one:.1f} times as many; {limits}")


async def bootstrap_seconds(server: VaultServer, directory: Path) -> float:
    """Bootstrap a repository, and return the seconds until all its bins are on the log."""
    name, public = await make_key(server)
    days = {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "bins": 7}
    online = dict.fromkeys(("timestamp", "snapshot", "bins"), public)
    metadata = make_bootstrap(directory / "keys", bins=BINS, mode="pep458", online=online).payload["metadata"]
    settings = settings_of(BINS, DEFAULT_PARTITIONS, days)
    bus = await open_embedded(directory / "log.db", topics.topics(DEFAULT_PARTITIONS))
    signer = tufline_signer.service.run(bus, SignerConfig(), vault=signer_config(server, name), health=Health())
    running = asyncio.create_task(signer)
    try:
        began = time.perf_counter()
        await announce_bootstrap(bus, Bootstrap(v=settings.schema, settings=settings, root=metadata["root"], targets=metadata["targets"]))
        await eventually(lambda: has_all_bins(bus), 60, step=0.01)
        return time.perf_counter() - began
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()


async def has_all_bins(bus: EmbeddedBus) -> bool:
    """Return whether all bins are on the log."""
    return await bus.end(topics.METADATA, 0) >= BINS


def renewal(stack: Stack) -> Iterator[Row]:
    """Measure how long it takes to renew all bins, and how long new artifacts wait meanwhile."""
    import_lines(stack.api.url, stack.directory, 0, MILLION)
    time.sleep(65)
    signer = next(service for service in stack.services if service.name == "signer")
    signer.stop()
    stack.services.remove(signer)
    stack.settings = {**stack.settings, **RENEW_ALL}
    load, before, latencies = Load(stack.api.url, 3 * MILLION), versions(stack.metadata), list[float]()
    stack.start("signer")
    began = time.perf_counter()
    with spending(stack) as spent:
        while any(version == before[role] for role, version in versions(stack.metadata).items() if role.startswith("bins-")):
            latencies += asyncio.run(load.run(1, 1, 1))[1]
    seconds = time.perf_counter() - began
    label = f"Kafka and Vault: renewal of all {BINS:,} bins, {MILLION:,} artifacts in place"
    yield Row(label, seconds, "s", goal="< 120 s", met=seconds < 120, limits=said(spent))
    yield Row("longest wait of a new artifact meanwhile, accept to visible", 1000 * max(latencies), "ms")


def bench_vault() -> Iterator[Row]:
    """Measure signatures, a bootstrap, latency and a renewal with the online key in Vault."""
    memory.tune()
    configure_logging(LogConfig(level="warning"))  # of the signer that runs in this process
    with settled_directory() as directory, vault_server(directory / "vault") as server:
        yield from signatures(server)
        assert server.process is not None
        before = time.process_time(), cpu_seconds(server.process.pid)
        seconds = asyncio.run(bootstrap_seconds(server, directory))
        spent = {"signer": time.process_time() - before[0], "OpenBao": cpu_seconds(server.process.pid) - before[1]}
        name = f"Vault: bootstrap of {BINS:,} bins, until all are in the log"
        yield Row(name, seconds, "s", goal="< 5 s", met=seconds < 5, limits=said(spent))
    with settled_directory() as directory, vault_server(directory / "vault") as server, stack_of(directory, vault=server) as stack:
        load = Load(stack.api.url, 2 * MILLION)
        asyncio.run(load.run(5, 1))
        yield steady(stack, load, "Kafka and Vault: 100 artifacts/s for a minute, accept to visible, p99")
        yield from renewal(stack)
