"""People replace all keys of offline targets: no client fails at any moment, whatever root it has, and later only the new keys sign."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.records import topics
from tufline.trust import key_files
from tufline.trust.ceremony import make_key
from tufline_testing.clients.running import Job, PythonTuf
from tufline_testing.live_repository import served
from tufline_testing.log import DEFAULT_DAYS, eventually, read_all, running
from tufline_testing.offline import announce_updates
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import Rest, artifact, bootstrapped
from tufline_testing.rotation import DELAY_SECONDS, GRACE_SECONDS, PARTITIONS, WatchedRepository, in_a_watched_repository
from tufline_testing.server import run_tufline


def shown_targets(repository: WatchedRepository) -> int:
    """Return the version of targets that the published snapshot names."""
    timestamp = json.loads((repository.directory / "timestamp.json").read_bytes())
    version = timestamp["signed"]["meta"]["snapshot.json"]["version"]
    snapshot = json.loads((repository.directory / f"{version}.snapshot.json").read_bytes())
    found: int = snapshot["signed"]["meta"]["targets.json"]["version"]
    return found


async def shows(repository: WatchedRepository, root: int, targets: int) -> None:
    """Wait until clients have these versions, while they read without pause."""

    async def is_so() -> bool:
        repository.look("wait")
        return (repository.reader.root, shown_targets(repository)) == (root, targets)

    await eventually(is_so, seconds=2 * GRACE_SECONDS, step=1)


def test_no_client_fails_while_all_keys_of_targets_are_replaced(tmp_path: Path) -> None:
    """The new root follows targets that old and new keys signed; targets of the new keys alone follow when no cache hides that root."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            people, since = repository.offline, repository.clock()
            updates = people.replace_targets_keys(repository.clock())
            await announce_updates(repository.bus, [*updates, *people.renew_targets(repository.clock())])
            await shows(repository, 1, 2)
            await repository.announce(2)
            await shows(repository, 2, 2)
            assert repository.clock() >= since + timedelta(seconds=DELAY_SECONDS), "a cache may still have a snapshot with targets 1"
            assert set(repository.reader.refresh().values()) == {2}
            await repository.announce(3)
            await shows(repository, 2, 3)
            assert repository.clock() >= repository.root_since[2] + timedelta(seconds=GRACE_SECONDS / 2)
            await repository.announce(4)
            await asyncio.sleep(1)
            assert set(repository.reader.refresh().values()) == {4}
            assert repository.health.ready, repository.health.problems

    in_a_watched_repository(tmp_path, "pep458", story)


def test_the_wait_for_caches_ends_however_often_the_signer_starts(tmp_path: Path) -> None:
    """Targets of the new keys alone are not held back for longer because a signer starts again and again."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            await announce_updates(repository.bus, repository.offline.replace_targets_keys(repository.clock()))
            await shows(repository, 2, 2)
        await announce_updates(repository.bus, repository.offline.renew_targets(repository.clock()))
        for number in range(2, 16):
            async with repository.running():
                await repository.announce(number)
                await asyncio.sleep(GRACE_SECONDS / 5)
                repository.look("wait")
        assert shown_targets(repository) == 3

    in_a_watched_repository(tmp_path, "pep458", story)


def test_a_publisher_that_slept_shows_the_targets_before_their_root(tmp_path: Path) -> None:
    """A publisher that was down during the change, until the log had lost commits in between, never shows a root without its targets."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
        async with repository.running(publish=False):
            await announce_updates(repository.bus, repository.offline.replace_targets_keys(repository.clock()))
            await repository.announce(2)
            await asyncio.sleep(2 * DELAY_SECONDS)
            await repository.announce(3)
        await asyncio.sleep(2 * topics.COMPACTION_LAG_SECONDS)
        async with compacted(repository):
            on_log = [record.key for record in await read_all(repository.bus, topics.METADATA)]
            assert on_log.index("2.root") < on_log.index("timestamp")
            async with repository.running():
                await shows(repository, 2, 2)
                assert set(repository.reader.refresh().values()) == {3}

    in_a_watched_repository(tmp_path, "pep458", story)


@asynccontextmanager
async def compacted(repository: WatchedRepository) -> AsyncIterator[None]:
    """Make compaction happen, and open the log again, so that no deleted record is in memory."""
    assert isinstance(repository.bus, EmbeddedBus)
    await repository.bus.maintain()
    await repository.bus.close()
    repository.bus = await open_embedded(repository.path / "log.db", topics.topics(PARTITIONS), clock=repository.clock, threads=False)
    try:
        yield
    finally:
        await repository.bus.close()


def test_lost_keys_of_targets_are_left_behind_at_once(tmp_path: Path) -> None:
    """If the old keys are lost, artifacts go live until new keys signed targets; then these are live at once, with their root."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            root, targets = repository.offline.replace_targets_keys(repository.clock(), skip_overlap=True)
            await announce_updates(repository.bus, [root])
            await repository.announce(2)
            await asyncio.sleep(1.2 * DEFAULT_DAYS["timestamp"] * 86_400)
            assert set(repository.reader.refresh().values()) == {2}
            since = repository.clock()
            await announce_updates(repository.bus, [targets])
            await repository.announce(3)
            await shows(repository, 2, 2)
            await announce_updates(repository.bus, repository.offline.renew_targets(repository.clock()))
            await shows(repository, 2, 3)
            assert repository.clock() < since + timedelta(seconds=DELAY_SECONDS)
            assert set(repository.reader.refresh().values()) == {3}

    # A client that does not see the new root yet must fail then: no available key can sign for it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedRepository, "look", lambda repository, operation: repository.refresh() if operation == "wait" else None)
        in_a_watched_repository(tmp_path, "pep458", story)


def test_keys_of_targets_that_a_later_root_restores_are_released(tmp_path: Path) -> None:
    """Health names the root in between that waits for targets; with these, every root is released in its turn, and no client fails."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            people, now = repository.offline, repository.clock()
            old = people.targets_keys
            forth, targets = people.replace_targets_keys(now)
            await announce_updates(repository.bus, [forth, people.delegate_targets(old, now)])
            await eventually(lambda: asyncio.sleep(0, "signatures.targets" in repository.health.warnings), seconds=GRACE_SECONDS, step=1)
            assert "root 2 and later ones are not published until targets is signed" in repository.health.warnings["signatures.targets"]
            await announce_updates(repository.bus, [targets])
            await shows(repository, 3, 2)
            assert repository.health.warnings == {}

    in_a_watched_repository(tmp_path, "pep458", story)


QUICK = {"release_delay": 0.5, "release_grace": 3.0, "renewal_check": 0.2}


def _changes(add: str, remove: str) -> list[str]:
    return [part for number in range(3) for part in ("--add", f"targets={add}{number}.json", "--remove", f"targets={remove}{number}.json")]


class Holders:
    """The files of people who hold old and new keys of targets, and the options that replace all of them, and restore them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        held = make_bootstrap(path / "keys", bins=4, mode="pep458")
        self.payload = held.payload
        for name, keys in (("old", held.targets), ("new", [make_key("ed25519") for _ in range(3)]), ("root", held.root)):
            for number, key in enumerate(keys):
                (path / f"{name}{number}.pem").write_bytes(key.signer.private_bytes)
                (path / f"{name}{number}.json").write_text(key_files.to_json([key.signer.public_key]))
        self.replace, self.restore = _changes("new", "old"), _changes("old", "new")

    async def tufline(self, server: Rest, *arguments: str) -> str:
        """Run a command, and return what it prints."""
        done = await asyncio.to_thread(partial(run_tufline, *arguments, "--url", server.url, "--yes", cwd=self._path))
        assert done.returncode == 0, done.stderr
        return done.stdout


async def test_all_keys_of_targets_are_replaced_with_the_command_line(tmp_path: Path) -> None:
    """Holders of old and new keys sign one by one, a new one first; a client refreshes and downloads all the time."""
    people, content = Holders(tmp_path), b"hello"
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(content)
    with served(tmp_path) as url:
        async with bootstrapped(tmp_path, payload=people.payload, signer=QUICK) as server:
            _, added = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("a", len(content), hashes)]})
            await server.task(added["data"]["task_id"])
            async with reading(tmp_path, url) as seen:
                said = await people.tufline(server, "root", "keys", *people.replace, "--key", "root0.pem")
                assert "run tufline targets renew, which a key of targets in root version 2 must sign first" in said
                await people.tufline(server, "sign", "--key", "root1.pem")
                said = await people.tufline(server, "targets", "renew", "--key", "new0.pem")
                assert "targets version 2 waits for signatures" in said
                for name in ("new1", "old0", "old1"):
                    said = await people.tufline(server, "sign", "--key", f"{name}.pem")
                assert "targets version 2: complete" in said
                await is_current(server, root=2, targets=2)
                said = await people.tufline(server, "targets", "renew", "--key", "new0.pem", "--key", "new2.pem")
                assert "targets version 3 is accepted" in said
                await is_current(server, root=2, targets=3)
    assert len(seen) > 5
    assert set(seen) == {hashes["sha256"]}


async def test_lost_keys_of_targets_are_replaced_with_the_command_line(tmp_path: Path) -> None:
    """With ``--skip-overlap`` no signature of the keys that go is needed, whether the root is submitted at once or from a file."""
    people = Holders(tmp_path)
    async with bootstrapped(tmp_path, payload=people.payload, signer=QUICK) as server:
        said = await people.tufline(server, "root", "keys", *people.replace, "--skip-overlap", "--key", "root0.pem", "--key", "root1.pem")
        assert "root version 2 is accepted" in said
        said = await people.tufline(server, "targets", "renew", "--key", "new0.pem", "--key", "new1.pem")
        assert "targets version 2 is accepted" in said
        await is_current(server, root=2, targets=2)
        said = await people.tufline(server, "root", "keys", *people.restore, "--skip-overlap", "--out", "versions")
        assert "then tufline submit versions/root.json --skip-overlap" in said


async def test_the_command_line_names_the_root_that_waits(tmp_path: Path) -> None:
    """If a root restores the keys that the one before it took away, both wait for targets that old and new keys sign."""
    people = Holders(tmp_path)
    roots = ("--key", "root0.pem", "--key", "root1.pem")
    async with bootstrapped(tmp_path, payload=people.payload, signer=QUICK) as server:
        await people.tufline(server, "root", "keys", *people.replace, *roots)
        said = await people.tufline(server, "root", "keys", *people.restore, *roots)
        assert "root version 2 is published only once targets is signed with its keys, and so is root version 3" in said
        said = await people.tufline(server, "root", "renew", *roots)
        assert "root version 2 is published only once targets is signed with its keys, and so is root version 4" in said
        said = await people.tufline(server, "targets", "renew", "--key", "old0.pem", "--key", "old1.pem")
        assert "targets version 2 waits for signatures: 2 more of" in said
        await people.tufline(server, "sign", "--key", "new0.pem")
        await people.tufline(server, "sign", "--key", "new1.pem")
        await is_current(server, root=4, targets=2)
        said = await people.tufline(server, "root", "renew", *roots)
        assert "root version 5 is accepted" in said
        assert "waits" not in said
        assert "tufline targets renew" not in said


async def is_current(server: Rest, **versions: int) -> None:
    """Wait until versions of root and targets are current."""

    async def is_so() -> bool:
        _, answer = await server.ask("GET", "/api/v1/trust")
        return {role: answer[role]["current"] for role in versions} == versions

    await eventually(is_so)


@asynccontextmanager
async def reading(path: Path, url: str) -> AsyncIterator[list[str]]:
    """Refresh and download with python-tuf again and again; provide the digests, or errors."""
    trusted = path / "trusted.json"
    trusted.write_bytes((path / "origin" / "1.root.json").read_bytes())
    seen: list[str] = []

    async def read() -> None:
        while True:
            result = await asyncio.to_thread(PythonTuf().run, Job(f"{url}/origin/", f"{url}/files/", trusted, path / "client", ["a"]))
            seen.extend([result.error] if result.error else [file.sha256 or file.error for file in result.files])

    async with running(read()):
        yield seen
