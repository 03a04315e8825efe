"""Compares the pure core with python-tuf's Metadata API, in the same run."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets

from benchmarks.load import BINS, target
from benchmarks.report import Row
from tufline.keys.file import open_file_key
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.metadata.snapshot import Snapshot as SnapshotContent
from tufline.metadata.target import Target, encode_entry
from tufline.runtime import memory
from tufline.trust.ceremony import make_key

FULL_BIN = 1220
EXPIRES = datetime(2040, 1, 1, tzinfo=UTC)


def timed(work: Callable[[], object], least_seconds: float = 1.0) -> float:
    """Return the median duration of some work, in seconds."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < least_seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def bench_bin(scheme: str, goal: float) -> Row:
    """Measure one bin of an index of 20 million files: replace one target, encode, sign and verify."""
    made = make_key(scheme)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "k.pem").write_bytes(made.pem)
        key = open_file_key("fn:k.pem", made.signer.public_key, Path(directory))
    mine, oracle = Bin(), Targets(version=1, expires=EXPIRES)
    for number in range(FULL_BIN):
        one = target(number)
        mine.add(encode_entry(one))
        oracle.targets[one.path] = TargetFile(one.length, dict(one.hashes), one.path)
    content = Metadata(oracle).to_bytes()
    version = 0

    def ours() -> None:
        nonlocal version
        version += 1
        mine.add(encode_entry(Target(target(7).path, version, {"sha256": "0" * 64})))
        signed = mine.encode(version, envelope.format_expires(EXPIRES))
        envelope.assemble(signed, runner.run(key.sign_many([signed])))

    def theirs() -> None:
        loaded = Metadata[Targets].from_bytes(content)
        path = target(7).path
        loaded.signed.targets[path] = TargetFile(1, {"sha256": "0" * 64}, path)
        loaded.signed.version += 1
        signature = loaded.sign(CryptoSigner(made.signer._private_key, made.signer.public_key))
        made.signer.public_key.verify_signature(signature, loaded.signed_bytes)
        loaded.to_bytes()

    encoded = mine.encode(1, envelope.format_expires(EXPIRES))
    with asyncio.Runner() as runner:
        mine_seconds = timed(ours)
        sign_seconds = timed(lambda: runner.run(key.sign_many([encoded])))
    encode_seconds = timed(lambda: mine.encode(1, envelope.format_expires(EXPIRES)))
    their_seconds = timed(theirs)
    ratio = their_seconds / mine_seconds
    name = f"one bin of {FULL_BIN:,} targets updated and signed, {scheme}"
    share, of_encoding = sign_seconds / mine_seconds, encode_seconds / mine_seconds
    limits = f"hashing, signing and verifying {len(encoded):,} bytes {share:.0%}, encoding {of_encoding:.0%}"
    return Row(name, 1000 * mine_seconds, "ms", 1000 * their_seconds, ratio, f"≥ {goal:g}x python-tuf", ratio >= goal, limits)


def bench_snapshot() -> Row:
    """Measure a snapshot of all bins, a hundred of which changed."""
    roles = [f"bins-{number:04x}" for number in range(BINS)]
    mine = SnapshotContent(dict.fromkeys(roles, 1))
    oracle = Snapshot(version=1, expires=EXPIRES, meta={f"{role}.json": MetaFile(1) for role in roles})
    version = 1

    def ours() -> None:
        nonlocal version
        version += 1
        for role in roles[:: BINS // 100]:
            mine.set(role, version)
        envelope.assemble(mine.encode(version, envelope.format_expires(EXPIRES)), [])

    def theirs() -> None:
        oracle.version += 1
        for role in roles[:: BINS // 100]:
            oracle.meta[f"{role}.json"].version += 1
        signed = Metadata(oracle)
        signed.signed_bytes  # noqa: B018 (the bytes that a signature covers)
        signed.to_bytes()

    mine_seconds, their_seconds = timed(ours), timed(theirs)
    ratio = their_seconds / mine_seconds
    name = f"snapshot of {BINS:,} bins, 100 changed"
    limits = "joining and copying half a megabyte"
    return Row(name, 1000 * mine_seconds, "ms", 1000 * their_seconds, ratio, "≥ 40x python-tuf", ratio >= 40, limits)


def bench_core() -> list[Row]:
    """Compare the pure core with python-tuf in the same run, both with a server's memory settings."""
    memory.tune()
    return [bench_bin("ecdsa", 20), bench_bin("ed25519", 10), bench_snapshot()]
