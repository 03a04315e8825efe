"""The signer's online keys: one for each role or for several, and a signer that has to wait for one."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tufline.metadata import key_uris
from tufline.runtime.health import Health
from tufline.trust import ceremony
from tufline.trust.ceremony import NewKey
from tufline_testing.log import eventually
from tufline_testing.signing import BootstrappedLog, add, on_a_bootstrapped_log


def test_a_signer_that_cannot_sign_holds_up_nobody(tmp_path: Path) -> None:
    """A misconfigured signer next to a good one takes over no partition, reports why, and joins by itself once it is fixed."""

    async def story(log: BootstrappedLog) -> None:
        moved = tmp_path / "moved"
        async with log.signer() as good:
            await log.announce(*(add(f"first/{number}") for number in range(20)))
            await log.settled()
            bad = [("key_dir", moved, "online.pem"), ("audit_file", tmp_path / "none" / "audit.log", "signer.audit_file")]
            for name, value, reason in bad:
                setting: dict[str, Any] = {name: value}
                async with log.signer(**setting) as health:
                    await log.announce(*(add(f"{name}/{number}") for number in range(20)))
                    await log.settled()
                    assert reason in health.problems["signer"]
                    assert not health.ready
                    assert not [part for part in health.parts if part.startswith("signer.bins")]
                    value.parent.mkdir(exist_ok=True)
                    if name == "key_dir":
                        shutil.copytree(tmp_path / "keys", moved)
                    await eventually(partial(has_joined, health))
            assert good.ready

    async def has_joined(health: Health) -> bool:
        return health.ready and "signer.bins.group" in health.parts

    on_a_bootstrapped_log(tmp_path, story)


def test_a_missing_key_is_reported_and_awaited(tmp_path: Path) -> None:
    """Without its online key the signer names the missing file, and continues once the file is there."""
    hidden = tmp_path / "hidden"

    async def story(log: BootstrappedLog) -> None:
        (log.path / "keys").rename(hidden)
        async with log.signer() as health:
            await eventually(lambda: asyncio.sleep(0, "can't be read" in health.problems.get("signer", "")))
            await log.announce(add("a"))
            assert not health.ready
            hidden.rename(log.path / "keys")
            published = await log.settled()
            assert list(published.verify(log.clock())) == ["a"]
            await eventually(lambda: asyncio.sleep(0, health.ready))

    on_a_bootstrapped_log(tmp_path, story)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
@pytest.mark.parametrize("shared", [(), ("snapshot", "bins"), ("timestamp", "snapshot")])
def test_each_role_may_have_a_key_of_its_own(tmp_path: Path, mode: str, shared: tuple[str, ...]) -> None:
    """Online roles with separate keys are signed only by their own keys, in both modes; roles may also share a key."""
    made: dict[str, NewKey] = {}
    for role in ceremony.ONLINE_ROLES[mode]:
        made[role] = made[shared[0]] if role in shared[1:] else ceremony.make_key("ed25519" if role == "bins" else "ecdsa")
        made[role].signer.public_key.unrecognized_fields.setdefault(key_uris.ONLINE_KEY_URI, f"fn:{role}.pem")
        ceremony.write_private(tmp_path / "keys" / f"{role}.pem", made[role].pem)
    publics = {role: key.signer.public_key for role, key in made.items()}

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a"))
            published = await log.settled()
        assert list(published.verify(log.clock())) == ["a"]
        for name, content in [*published.files.items(), ("1.timestamp.json", published.timestamp)]:
            role = name.split(".")[1].partition("-")[0]
            if role in publics:
                assert list(Metadata.from_bytes(content).signatures) == [publics[role].keyid], name
        assert not (log.path / "keys" / ceremony.ONLINE_KEY_FILE).exists()

    on_a_bootstrapped_log(tmp_path, story, mode=mode, online=publics)
