"""The files of an origin: damaged and lost ones are uploaded again, superseded ones stay for a while, and foreign ones do no harm."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tufline_signer.service
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.checks import fsck
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.metadata.envelope import SignatureEntry, assemble, disassemble
from tufline.origin.directory import LocalStore
from tufline.origin.store import OWNER, TIMESTAMP
from tufline.runtime.health import Health
from tufline_testing.log import (
    DEFAULT_DAYS,
    bootstrap_record,
    eventually,
    on_a_log,
    settled,
)
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader
from tufline_testing.publishing import PARTITIONS, SignedRepository, in_a_signed_repository

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a byte that is not UTF-8": lambda content: content.replace(b'"keyid":"', b'"keyid":"\xff', 1),
    "deep nesting": lambda _: b'{"signatures":' + b"[" * 100_000,
    "nothing": lambda _: b"",
    "a signature by an unknown key": lambda content: assemble(bytes(disassemble(content).signed), [SignatureEntry("0" * 64, "00" * 64)]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_timestamp_is_put_again(tmp_path: Path, name: str) -> None:
    """Whatever bytes the origin's timestamp.json has: fsck reports it, and a publisher replaces it, at its start and while it runs."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            expected = await repository.published()
        path = repository.directory / TIMESTAMP
        good = path.read_bytes()
        bad = DAMAGES[name](good)
        path.write_bytes(bad)
        report = await fsck.compare(repository.bus, LocalStore(repository.directory), "origin")
        assert any(TIMESTAMP in finding for finding in report.findings)
        for is_claimed in (True, False):
            path.write_bytes(bad)
            if not is_claimed:
                (repository.directory / OWNER).unlink()
            async with repository.publisher():
                await eventually(lambda: asyncio.sleep(0, path.read_bytes() == good), seconds=300)
                assert await repository.published() == expected
                path.write_bytes(bad)
                await eventually(lambda: asyncio.sleep(0, path.read_bytes() == good), seconds=300)
                await eventually(lambda: asyncio.sleep(0, repository.problem == ""), seconds=300)

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("pattern", ["1.root.json", "*.targets.json", "*.bins-*.json", "*.snapshot.json", TIMESTAMP, "*"])
def test_vanished_files_are_noticed(tmp_path: Path, pattern: str) -> None:
    """Files that vanish from the origin while the publisher runs are noticed within minutes and uploaded again, without a new commit."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a", "b", "c")
            expected = await repository.published()
            lost = [path for path in repository.directory.glob(pattern) if path.name in repository.names()]
            before = {path.name: path.read_bytes() for path in lost if is_needed(path.name, repository)}
            for path in lost:
                path.unlink()
            await eventually(lambda: repository.has(set(before)), seconds=600)
            assert {name: (repository.directory / name).read_bytes() for name in before} == before
            await eventually(lambda: asyncio.sleep(0, repository.problem == ""), seconds=300)
            assert Reader(repository.directory, repository.clock).refresh() == expected

    def is_needed(name: str, repository: SignedRepository) -> bool:
        snapshot = max(repository.directory.glob("*.snapshot.json"), key=lambda path: int(path.name.split(".")[0]))
        named = {f"{entry['version']}.{role}" for role, entry in json.loads(snapshot.read_bytes())["signed"]["meta"].items()}
        return name in named | {"1.root.json", TIMESTAMP, snapshot.name}

    in_a_signed_repository(tmp_path, story)


def test_versions_that_no_snapshot_named_are_deleted(tmp_path: Path) -> None:
    """Superseded versions are deleted in time while the publisher runs, even those signed and superseded between two snapshots."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4)

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", commit_interval=10.0)
        signer = asyncio.create_task(tufline_signer.service.run(bus, config, clock=clock, health=Health()))
        repository = SignedRepository(bus, clock, tmp_path, bootstrap)
        async with repository.publisher(superseded_retention=3600.0):
            for number in range(60):
                await repository.announce(f"p{number}")
                await asyncio.sleep(0.5)
            await repository.published()
            assert len(repository.names()) > 40
            await asyncio.sleep(3700)
            expected = {"1.root.json", "1.targets.json", TIMESTAMP}
            assert {name for name in repository.names() if "bins" not in name and "snapshot" not in name} == expected
            assert len(repository.names()) == len(expected) + 4 + 1
            assert len(Reader(repository.directory, repository.clock).refresh()) == 60
        signer.cancel()
        await asyncio.gather(signer, return_exceptions=True)

    on_a_log(tmp_path / "log.db", bootstrap, story)


def test_superseded_files_stay_for_their_time(tmp_path: Path) -> None:
    """Files that a client may be reading stay: after a new commit, every file of the last one stays for the retention time."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher(superseded_retention=1000.0):
            await repository.announce("a")
            await repository.published()
            for number in range(3):
                before = repository.names()
                await repository.announce("a", length=number + 2)
                await repository.published()
                assert repository.names() >= before
                await asyncio.sleep(900)
                assert repository.names() >= before
                await asyncio.sleep(200)
                assert not repository.names() >= before

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("name", ["old.root.json", "\u0661.root.json", "0.root.json", "01.root.json", "x.y.json", "1.json"])
def test_stray_files_do_not_stop_a_rotation(tmp_path: Path, name: str) -> None:
    """A stray file at the origin, such as one ending in .root.json without a number at the start, stops nothing."""
    offline = Offline(tmp_path / "keys", bins=4, mode="pep458", days=DEFAULT_DAYS)
    bootstrap = offline.bootstrap(PARTITIONS)

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", release_delay=5.0, release_grace=600.0)
        signer = asyncio.create_task(tufline_signer.service.run(bus, config, clock=clock, health=Health()))
        repository = SignedRepository(bus, clock, tmp_path, bootstrap)
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        (repository.directory / name).write_text("{}")
        await announce_updates(bus, offline.rotate(now=clock()))
        await asyncio.sleep(2000)  # the grace time is over: a root is held until the commit that needs it
        await repository.announce("b")
        await settled(bus)
        async with repository.publisher():
            assert set(await repository.published()) == {"a", "b"}
            assert repository.problem == ""
        assert (repository.directory / name).read_text() == "{}"
        signer.cancel()
        await asyncio.gather(signer, return_exceptions=True)

    on_a_log(tmp_path / "log.db", bootstrap, story)
