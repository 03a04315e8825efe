"""What tests of custom roles look at on a signer's log: artifacts, delegations, receipts and keys."""

import json
from typing import Any

from tufline import records
from tufline.metadata.delegations import Delegation
from tufline.records import Head, topics
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.trust import ceremony
from tufline_testing.log import Published, read_all
from tufline_testing.signing import BootstrappedLog

DEV = Delegation(name="dev", paths=("dev/*",))


def lengths(found: Published, log: BootstrappedLog) -> dict[str, int]:
    """Return what clients find: path to length."""
    return {path: target["length"] for path, target in found.verify(log.clock()).items()}


def delegating(found: Published) -> dict[str, Any]:
    """Return what the newest targets delegates to."""
    version = max(int(name.split(".")[0]) for name in found.files if name.endswith(".targets.json"))
    delegations: dict[str, Any] = json.loads(found.files[f"{version}.targets.json"])["signed"]["delegations"]
    return delegations


def content_of(found: Published, role: str) -> dict[str, int]:
    """Return what the newest version of a role has: path to length."""
    version = max(int(name.split(".")[0]) for name in found.files if name.endswith(f".{role}.json"))
    targets = json.loads(found.files[f"{version}.{role}.json"])["signed"]["targets"]
    return {path: target["length"] for path, target in targets.items()}


async def outcomes(log: BootstrappedLog) -> list[tuple[str, str, str]]:
    """Return the receipts of changes: path, outcome and reason."""
    partitions = range(log.bus.partitions(topics.ARTIFACTS))
    found = [
        records.decode(receipt_decoder, one.value) for number in partitions for one in await read_all(log.bus, topics.RECEIPTS, number)
    ]
    return [(one.path, one.outcome, one.reason) for one in found if isinstance(one, ChangeReceipt)]


def make_key(log: BootstrappedLog, name: str, kind: str = "ed25519") -> tuple[str, dict[str, Any]]:
    """Make a key in the signer's key directory, and return its keyid and its object."""
    key = ceremony.make_key(kind, f"fn:{name}")
    ceremony.write_private(log.path / "keys" / name, key.pem)
    return key.signer.public_key.keyid, key.signer.public_key.to_dict()


async def head_of(log: BootstrappedLog, role: str) -> Head:
    """Return the newest head of a custom role."""
    partition = log.routing([DEV]).partition_of(role)
    found = [
        records.decode(records.heads_decoder, one.value) for one in await read_all(log.bus, topics.HEADS, partition) if one.key == role
    ]
    newest = found[-1]
    assert isinstance(newest, Head)
    return newest


async def keyids_of(log: BootstrappedLog, role: str) -> list[str]:
    """Return the keys that signed the newest version of a custom role."""
    return (await head_of(log, role)).keyids
