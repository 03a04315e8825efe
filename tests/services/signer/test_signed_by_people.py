"""Custom roles whose keys only people have: their changes wait until enough of them have signed the next version."""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from tufline import records
from tufline.bus import Message
from tufline.errors import BusError
from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.metadata.delegations import Delegation
from tufline.records import (
    CURRENT_RULES,
    OFFLINE_ROLES_SCHEMA,
    Changes,
    Head,
    Pending,
    Proposed,
    Remove,
    RoleSignature,
    proposed_key,
    topics,
)
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.trust.offline_roles import PendingChange, kept_since, next_content
from tufline_testing.log import Change, Published, eventually, read_all
from tufline_testing.seen_bus import SeenBus
from tufline_testing.signing import BootstrappedLog, add, check_consecutive_versions, on_a_bootstrapped_log

PARTITION = 0


def people(count: int = 2) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def role(signers: Sequence[CryptoSigner], *paths: str, threshold: int = 2, days: int = 90) -> tuple[Delegation, dict[str, Any]]:
    """Make a role that people sign, and its keys."""
    keys = {signer.public_key.keyid: signer.public_key.to_dict() for signer in signers}
    return Delegation(name="ours", paths=paths or ("ours/*",), keyids=tuple(keys), threshold=threshold, days=days), keys


async def newest(log: BootstrappedLog) -> dict[str, Any]:
    """Return the newest record of each key of the only partition of ``heads``."""
    return {one.key: records.decode(records.heads_decoder, one.value) for one in await read_all(log.bus, topics.HEADS, PARTITION)}


async def proposed(log: BootstrappedLog) -> tuple[Proposed, bytes]:
    """Return the version that waits, and the bytes to sign, as ingest makes them."""
    found, state = await newest(log), await log.state()
    waiting = found[proposed_key("ours")]
    changes = [
        PendingChange(one.offset, one.index, one.role, one.path, None if one.entry is None else one.entry.encode())
        for one in found.values()
        if isinstance(one, Pending) and one.role == "ours" and one.offset < waiting.end
    ]
    base = Bin()
    if waiting.base:
        head = found["ours"]
        assert head.version == waiting.base
        base = Bin.decode(envelope.disassemble(await log.bus.read(topics.METADATA, 0, head.offset, key="ours", sha256=head.sha256)).signed)
    assert state.routing is not None
    kept = kept_since(state.routing.versions, "ours", waiting.since, waiting.admin)
    signed = next_content(base, kept, changes).encode(waiting.version, waiting.expires)
    assert envelope.sha256(signed) == waiting.sha256
    return waiting, signed


async def append(log: BootstrappedLog, signature: RoleSignature) -> int:
    record = Changes(
        v=OFFLINE_ROLES_SCHEMA, request="s", admin=(await log.state()).next_offset, changes=[], rules=CURRENT_RULES, sign=signature
    )
    (position,) = await log.bus.append([Message(topics.ARTIFACTS, "s", records.encode(record), PARTITION)])
    return position.offset


async def sign(log: BootstrappedLog, signer: CryptoSigner, **other: Any) -> int:
    """Sign the version that waits; return the offset of the record."""
    waiting, signed = await proposed(log)
    signature = signer.sign(signed)
    made = RoleSignature("ours", waiting.version, waiting.sha256, signature.keyid, signature.signature)
    return await append(log, msgspec.structs.replace(made, **other))


async def waits(log: BootstrappedLog, version: int, signatures: int = 0) -> None:
    """Wait until a version waits for signatures, with some already."""

    async def is_there() -> bool:
        found = (await newest(log)).get(proposed_key("ours"))
        return found is not None and (found.version, len(found.signatures)) == (version, signatures)

    await eventually(is_there, 600.0)


async def sign_by_all(log: BootstrappedLog, signers: Sequence[CryptoSigner], version: int) -> None:
    """Sign the version that waits one by one, each once the signature before is there."""
    for number, signer in enumerate(signers):
        await waits(log, version, number)
        await sign(log, signer)


async def reasons(log: BootstrappedLog) -> list[str]:
    found = [records.decode(receipt_decoder, one.value) for one in await read_all(log.bus, topics.RECEIPTS, PARTITION)]
    return [one.reason for one in found if isinstance(one, ChangeReceipt) and one.outcome == "refused"]


async def lengths(log: BootstrappedLog) -> dict[str, int]:
    """Wait until all is published, and return what clients find."""
    found: Published = await log.settled()
    return {path: target["length"] for path, target in found.verify(log.clock()).items()}


async def begin(log: BootstrappedLog, signers: Sequence[CryptoSigner], **of_role: Any) -> None:
    """Add the role, and let its people sign its first version."""
    delegation, keys = role(signers, **of_role)
    offset = await log.delegate("add", delegation, keys=keys)
    assert offset not in (await log.state()).refused, (await log.state()).refused
    await waits(log, 1)
    await sign_by_all(log, signers[:2], 1)
    await waits(log, 0)


def test_changes_wait_for_people(tmp_path: Path) -> None:
    """The first version is signed before clients know the role. What is sent once somebody has signed is in the version after it."""

    async def story(log: BootstrappedLog) -> None:
        one, two = signers = people()
        async with log.signer() as health:
            await log.announce(add("ours/old"), add("other"))
            delegation, keys = role(signers)
            await log.delegate("add", delegation, keys=keys)
            await log.delegate("add", Delegation(name="dev", paths=("dev/*",)))
            await waits(log, 1)
            await log.announce(add("ours/a"), add("dev/a"))
            assert await lengths(log) == {"ours/old": 1, "other": 1, "dev/a": 1}
            await sign(log, one)
            await waits(log, 1, 1)
            await log.announce(add("ours/a", 2), add("ours/b", 2))
            await log.settled()
            await sign(log, two)
            await waits(log, 2)
            assert await lengths(log) == {"ours/old": 1, "ours/a": 1, "other": 1, "dev/a": 1}
            assert not health.problems
        async with log.signer() as health:
            await log.announce(Remove("ours/a"), Remove("ours/old"), Remove("ours/never"))
            await log.settled()
            await waits(log, 2)
            await sign_by_all(log, signers, 2)
            await waits(log, 0)
            assert await lengths(log) == {"ours/b": 2, "other": 1, "dev/a": 1}
            assert not [one for one in (await newest(log)).values() if isinstance(one, Pending) and one.role]
            assert await reasons(log) == []
            await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_each_wrong_signature_has_its_reason(tmp_path: Path) -> None:
    """Nothing changes by it, and the right ones are accepted after it."""

    async def story(log: BootstrappedLog) -> None:
        one, two = signers = people()
        stranger = people(1)[0]
        async with log.signer():
            delegation, keys = role(signers)
            await log.delegate("add", delegation, keys=keys)
            await waits(log, 1)
            await sign(log, one)
            await waits(log, 1, 1)
            wrong = [
                ("has signed ours version 1 already", await sign(log, one)),
                ("is not one of the keys", await sign(log, stranger)),
                ("is not valid for ours version 1", await sign(log, two, sig="00" * 64)),
                ("is not valid for ours version 1", await sign(log, two, sig="no hex")),
                ("is not the one that waits now", await sign(log, two, version=2)),
                ("is not the one that waits now", await sign(log, two, sha256="0" * 64)),
                ("there is no custom role 'theirs'", await sign(log, two, role="theirs")),
            ]
            await log.settled()
            assert [reason in text for (reason, _), text in zip(wrong, await reasons(log), strict=True)] == [True] * len(wrong)
            await sign(log, two)
            await waits(log, 0)
            assert len(await reasons(log)) == len(wrong)
            waiting = RoleSignature("ours", 1, "0" * 64, one.public_key.keyid, "00")
            await append(log, waiting)
            await log.settled()
            assert "no version of 'ours' waits" in (await reasons(log))[-1]

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_a_withdrawal_drops_signatures_and_no_changes(tmp_path: Path) -> None:
    """What was sent after the first signature is in the version that is made again."""

    async def story(log: BootstrappedLog) -> None:
        one, two = signers = people()
        async with log.signer():
            await begin(log, signers)
            await log.announce(add("ours/a"))
            await waits(log, 2)
            await sign(log, one)
            await waits(log, 2, 1)
            await log.announce(add("ours/a", 2), add("ours/b", 2))
            await log.settled()
            waiting, _ = await proposed(log)
            await append(log, RoleSignature("ours", 2, waiting.sha256))
            await waits(log, 2)
            await log.announce(add("ours/c", 3))
            await log.settled()
            await sign_by_all(log, signers, 2)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 2, "ours/b": 2, "ours/c": 3}
            assert two.public_key.keyid in (await newest(log))["ours"].keyids

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_no_more_changes_wait_than_may(tmp_path: Path) -> None:
    """Further ones are refused with the setting's name. A path that waits already needs no more room."""

    async def story(log: BootstrappedLog) -> None:
        signers = people()
        async with log.signer(max_pending_changes=2):
            await begin(log, signers)
            await log.announce(add("ours/a"), add("ours/b"), add("ours/c"), add("ours/a", 2))
            await log.settled()
            (reason,) = await reasons(log)
            assert "signer.max_pending_changes" in reason
            await sign_by_all(log, signers, 2)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 2, "ours/b": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_other_people_sign_the_next_version(tmp_path: Path) -> None:
    """Until they have, clients trust the previous ones, and find what those signed."""

    async def story(log: BootstrappedLog) -> None:
        old, new = people(), people()
        async with log.signer():
            await begin(log, old)
            await log.announce(add("ours/a"))
            await waits(log, 2)
            await sign(log, old[0])
            await waits(log, 2, 1)
            delegation, keys = role(new)
            await log.delegate("update", delegation, keys=keys)
            await waits(log, 2)
            assert await lengths(log) == {}
            await sign_by_all(log, new, 2)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_a_deleted_role_leaves_nothing_that_waits(tmp_path: Path) -> None:
    """Added again, it begins empty; so does a role that loses paths, as far as these go."""

    async def story(log: BootstrappedLog) -> None:
        signers = people()
        async with log.signer():
            await begin(log, signers)
            await log.announce(add("ours/a"))
            await waits(log, 2)
            await log.covered(await log.delegate("delete", deleted=["ours"]))
            await log.settled()
            assert not [one for one in (await newest(log)).values() if isinstance(one, Pending) and one.role]
            await log.announce(add("ours/a", 2))
            await log.settled()
            delegation, keys = role(signers, "ours/*", "more/*")
            await log.delegate("add", delegation, keys=keys)
            await waits(log, 2)
            await log.announce(add("ours/b", 3), add("more/b", 3))
            await log.settled()
            await sign_by_all(log, signers, 2)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 2, "ours/b": 3, "more/b": 3}
            await log.covered(await log.delegate("update", role(signers)[0], keys=keys))
            await waits(log, 3)
            await sign_by_all(log, signers, 3)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 2, "ours/b": 3}
            await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_published_changes_wait_for_people(tmp_path: Path) -> None:
    """What was held first waits from the publish on; a version that somebody has signed already does not have it."""

    async def story(log: BootstrappedLog) -> None:
        one, two = signers = people()
        async with log.signer():
            await begin(log, signers)
            await log.announce(add("ours/held"), hold=True)
            await log.announce(add("ours/a"))
            await waits(log, 2)
            await sign(log, one)
            await waits(log, 2, 1)
            await log.published(await log.publish())
            await sign(log, two)
            await waits(log, 3)
            assert await lengths(log) == {"ours/a": 1}
            await sign_by_all(log, signers, 3)
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 1, "ours/held": 1}

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


def test_people_renew_a_role_before_it_expires(tmp_path: Path) -> None:
    """The next version waits when the expiry is in sight, and health says who has to act."""

    async def story(log: BootstrappedLog) -> None:
        signers = people()
        async with log.signer(renewal_check=3600.0) as health:
            await begin(log, signers, days=20)
            version = (await newest(log))["ours"]
            assert isinstance(version, Head)

            async def is_in_sight() -> bool:
                return bool((await newest(log))[proposed_key("ours")].version == 2)

            await eventually(is_in_sight, seconds=20 * 86_400.0, step=7200.0)
            assert any("ours expires on" in text for text in health.warnings.values())
            await sign_by_all(log, signers, 2)
            await waits(log, 0)
            assert (await newest(log))["ours"].expires > version.expires
            assert not any("ours" in text for text in health.warnings.values())

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


@pytest.mark.parametrize("change", ["people to signer", "signer to people"])
def test_a_role_does_not_change_hands_between_signer_and_people(tmp_path: Path, change: str) -> None:
    """Both could sign the same version; it is deleted and added again instead."""

    async def story(log: BootstrappedLog) -> None:
        delegation, keys = role(people())
        by_signer = Delegation(name="ours", paths=("ours/*",))
        first, second = (delegation, by_signer) if change == "people to signer" else (by_signer, delegation)
        await log.delegate("add", first, keys=keys if first is delegation else None)
        offset = await log.delegate("update", second, keys=keys if second is delegation else None)
        assert "delete it, and add it again" in (await log.state()).refused[offset]

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_when_the_worker_dies_between_signatures(tmp_path: Path, seed: int) -> None:
    """Each step is done by another worker, and each worker's transactions fail at first; the version has what it had when it was signed."""
    chance = random.Random(seed)

    async def story(log: BootstrappedLog) -> None:
        signers = people()

        async def fail_sometimes(_: Sequence[Message]) -> None:
            if chance.random() < 0.4:
                raise BusError("the broker is gone")

        async def with_another_worker(act: Callable[[], Awaitable[Any]], version: int, signatures: int) -> None:
            async with log.signer(SeenBus(log.bus, on_commit=fail_sometimes)):
                await act()
                await log.settled()
                await waits(log, version, signatures)

        delegation, keys = role(signers)
        await with_another_worker(partial(log.delegate, "add", delegation, keys=keys), 1, 0)
        for version in (1, 2, 3):
            first = [add("ours/a", version), add(f"ours/{version}")]
            late: list[Change] = [add("ours/a", 10 + version), Remove("ours/1")]
            await with_another_worker(partial(log.announce, *first), version, 0)
            await with_another_worker(partial(sign, log, signers[0]), version, 1)
            await with_another_worker(partial(log.announce, *late), version, 1)
            await with_another_worker(partial(sign, log, signers[1]), version + 1, 0)
        async with log.signer():
            assert await lengths(log) == {"ours/a": 3, "ours/2": 1, "ours/3": 1}
            await sign(log, signers[0])
            await waits(log, 4, 1)
            await sign(log, signers[1])
            await waits(log, 0)
            assert await lengths(log) == {"ours/a": 13, "ours/2": 1, "ours/3": 1}
            await check_consecutive_versions(log.bus)

    on_a_bootstrapped_log(tmp_path, story, mode="rstuf", partitions=1)
