"""People who hold the offline keys of a schedule: they make the next versions of root and targets, and sign them together or one by one.

A version that arrives with too few signatures waits for the others, which come one by one at random moments: good ones, bad ones, and ones
for a version that was withdrawn or superseded. Everything goes through processes of ingest that may not have read the newest records of
``admin`` yet, so the log also has records that ingest would refuse; what counts is decided when they are read (``expected_trust``).
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from tufline import records
from tufline.bus import Bus, Message
from tufline.errors import InvalidUpdateError
from tufline.records import (
    CURRENT_RULES,
    LIFETIMES_KEY,
    RENEWAL_KEY,
    SIGNATURE_KEY,
    SIGNING_SCHEMA,
    WITHDRAWAL_KEY,
    NewLifetimes,
    NewMetadata,
    Renewal,
    Signature,
    Withdrawal,
    topics,
)
from tufline.trust import acceptance, ceremony, online, renewal, roles, rotation
from tufline.trust.admin_state import AdminState
from tufline.trust.renewal import KeyChanges
from tufline.trust.signing import Proposal, Signable
from tufline_testing.log import admin_state
from tufline_testing.offline import announce_updates
from tufline_testing.resign import signature
from tufline_testing.simulation.bootstrapping import DAYS, SCHEME, Bootstrapping

BEHIND = 0.2
"""How often a process has not read what is new in ``admin``."""

OFFLINE_DAYS = (60, 365, 3650)
"""Lifetimes of root and targets, in days; longer than a schedule lasts."""

ONLINE_DAYS = {Targets.type: 100, **DAYS}

LONGER = (1, 1, 4)
"""By which factors the lifetimes of online roles change."""

MOST_KEYS = 4
MOST_SIGNATURES = 3

Signed = Root | Targets


@dataclass
class Governing:
    """The holders of the offline keys, and what they know.

    Attributes:
        chance: decides what they do.
        bootstrapping: has the keys of the bootstraps, and makes online keys.
        rotations: how many times the online key is changed.
        state: the state of ``admin`` as it was last read.
    """

    chance: random.Random
    bootstrapping: Bootstrapping
    rotations: int
    state: AdminState = field(default_factory=AdminState)
    _new: dict[str, CryptoSigner] = field(default_factory=dict)
    _late: list[Signature] = field(default_factory=list)

    async def read(self, bus: Bus) -> None:
        """Read what is new in ``admin``."""
        self.state = await admin_state(bus, self.state)

    @property
    def may_rotate(self) -> bool:
        """Whether the online key is changed once more."""
        return self.bootstrapping.offline.keys <= self.rotations

    async def rotate(self, bus: Bus, now: datetime) -> None:
        """Replace the online key in all roles that people sign, with all signatures at once."""
        await self.read(bus)
        expires = now.replace(microsecond=0) + timedelta(days=max(OFFLINE_DAYS))
        root = self._with_online_key(expires)
        versions: list[Signed] = [root]
        if self.state.targets and (targets := self._following(root, expires)) is not None:
            versions.append(targets)
        await self._submit(bus, versions, now)

    async def act(self, bus: Bus, now: datetime) -> None:
        """Do one of the things that the holders of the keys do."""
        if self.state.bootstrap is None or self.chance.random() >= BEHIND:
            await self.read(bus)
        waiting = [one for one in self.state.proposals.values() if one.record is not None]
        if waiting and self.chance.random() < 0.7:
            await self._go_on(bus, self.chance.choice(waiting), now)
        elif self.state.bootstrap is None:
            await self.bootstrapping.announce(bus)
        elif self._late and self.chance.random() < 0.5:
            await self._append(bus, SIGNATURE_KEY, self._late.pop())
        else:
            await self._start(bus, now)

    async def conclude(self, bus: Bus, now: datetime) -> None:
        """Sign targets again, if without that a root could not be released."""
        await self.read(bus)
        if self.state.waiting_root is not None:
            await self._submit(bus, [renewal.renewed(self.state.targets[-1].signed, self._expires(now))], now)

    # What they start.

    async def _start(self, bus: Bus, now: datetime) -> None:
        of_signer = online.online_roles(self.state)
        match self.chance.randrange(10):
            case 0 | 1:
                role = self.chance.choice(of_signer)
                days = {role: ONLINE_DAYS[role] * self.chance.choice(LONGER), Root.type: 30}
                await self._append(bus, LIFETIMES_KEY, NewLifetimes(days=days))
            case 2:
                some = self.chance.sample(of_signer, self.chance.randrange(1, len(of_signer) + 1))
                await self._append(bus, RENEWAL_KEY, Renewal(roles=some, since=await bus.end(topics.METADATA, 0)))
            case _:
                role = self.chance.choice([Root.type, Targets.type] if self.state.targets else [Root.type])
                await self._submit(bus, [self._next(role, now)], now, completely=self.chance.random() < 0.3)

    def _expires(self, now: datetime) -> datetime:
        return now.replace(microsecond=0) + timedelta(days=self.chance.choice(OFFLINE_DAYS))

    def _next(self, role: str, now: datetime) -> Signed:
        """Make the next version of a role: with another lifetime, other key holders, another threshold, or another online key."""
        root, expires = self.state.roots[-1].signed, self._expires(now)
        if role == Targets.type:
            following = self._following(root, expires) if self.chance.random() < 0.5 else None
            return following or renewal.renewed(self.state.targets[-1].signed, expires)
        match self.chance.randrange(5):
            case 0 if self.may_rotate:
                return self._with_online_key(expires)
            case 0 | 1:
                return renewal.renewed(root, expires)
            case _:
                return self._with_other_keys(root, expires)

    def _with_online_key(self, expires: datetime) -> Root:
        root = self.state.roots[-1].signed
        made = rotation.next_root(root, _online_key(root), self.bootstrapping.offline.new_key().public_key, expires)
        assert made is not None
        return made

    def _following(self, root: Root, expires: datetime) -> Targets | None:
        """Make targets whose bins have the online key of a root; None if they have it already."""
        newest, key = self.state.targets[-1].signed, _online_key(root)
        (old,) = roles.bin_keys(newest).keys
        return None if old == key else rotation.next_targets(newest, old, root.keys[key], expires)

    def _with_other_keys(self, root: Root, expires: datetime) -> Root:
        role = self.chance.choice([Root.type, Targets.type] if self.state.targets else [Root.type])
        of_role, chance = root.roles[role], self.chance
        add = [self._new_key()] if len(of_role.keyids) < MOST_KEYS and chance.random() < 0.6 else []
        remove = chance.sample(of_role.keyids, 1) if len(of_role.keyids) > 1 and chance.random() < 0.6 else []
        most = min(len(of_role.keyids) + len(add) - len(remove), MOST_SIGNATURES)
        threshold = chance.randrange(1, most + 1) if of_role.threshold > most or chance.random() < 0.4 else None
        with suppress(InvalidUpdateError):  # nothing would change
            changes = KeyChanges([one.public_key for one in add], remove, threshold)
            return renewal.with_keys(root, {role: changes}, expires)
        return renewal.renewed(root, expires)

    def _new_key(self) -> CryptoSigner:
        signer = ceremony.make_key(SCHEME).signer
        self._new[signer.public_key.keyid] = signer
        return signer

    async def _submit(self, bus: Bus, versions: Sequence[Signed], now: datetime, *, completely: bool = True) -> None:
        state, updates = self.state, list[NewMetadata]()
        for signed in versions:
            unsigned = NewMetadata(role=_role(signed), metadata=_unsigned(signed), rules=CURRENT_RULES)
            (version,) = acceptance.signable(state, unsigned, now)
            keyids = self._missing(version) if completely else [self.chance.choice(version.trusted)]
            metadata = {**unsigned.metadata, "signatures": [self._sign(version, keyid) for keyid in keyids]}
            update = msgspec.structs.replace(unsigned, metadata=metadata)
            if completely:
                state = acceptance.update(state, update, state.next_offset, now)
            else:
                update = msgspec.structs.replace(update, signing=True, v=SIGNING_SCHEMA)
            updates.append(update)
            if completely and (ended := self.state.open_proposal(_role(signed))) is not None:
                self._remember(ended, now)
        await announce_updates(bus, updates)

    # What happens to versions that wait for signatures.

    async def _go_on(self, bus: Bus, proposal: Proposal, now: datetime) -> None:
        assert proposal.record is not None
        versions = acceptance.signable(self.state, proposal.record, now)
        draw = self.chance.random()
        if draw < 0.12:
            self._remember(proposal, now)
            await self._append(bus, WITHDRAWAL_KEY, Withdrawal(proposal=proposal.offset))
        elif draw < 0.25:
            await self._append(bus, SIGNATURE_KEY, self._wrong(proposal, self.chance.choice(versions)))
        elif draw < 0.33 and proposal.kind != "bootstrap":
            await self._submit(bus, [self._next(proposal.kind, now)], now)
        else:
            version = self.chance.choice([one for one in versions if self._missing(one)])
            await self._append(bus, SIGNATURE_KEY, self._signature(proposal, version, self._missing(version)[0]))

    def _missing(self, version: Signable) -> list[str]:
        """Return the keys that may still sign a version, in a random order, until enough have signed."""
        signed = {entry["keyid"] for entry in version.metadata["signatures"]}
        every = sorted({keyid for keys in version.signers for keyid in keys.keys} - signed)
        missing: list[str] = []
        for keyid in self.chance.sample(every, len(every)):
            unmet = [keys for keys in version.signers if not keys.are_met_by([*signed, *missing])]
            if any(keyid in keys.keys for keys in unmet):
                missing.append(keyid)
        return missing

    def _sign(self, version: Signable, keyid: str) -> dict[str, str]:
        return signature(version.metadata, (self._new | self.bootstrapping.signers)[keyid])

    def _signature(self, proposal: Proposal, version: Signable, keyid: str) -> Signature:
        return Signature(role=_role(version.signed), proposal=proposal.offset, keyid=keyid, sig=self._sign(version, keyid)["sig"])

    def _wrong(self, proposal: Proposal, version: Signable) -> Signature:
        """Make a signature that does not count: by a stranger, of other content, a second one by the same key, or for another proposal."""
        good = self._signature(proposal, version, self.chance.choice([keyid for keys in version.signers for keyid in keys.keys]))
        match self.chance.randrange(4):
            case 0:
                entry = signature(version.metadata, ceremony.make_key(SCHEME).signer)
            case 1:
                entry = {"keyid": good.keyid, "sig": good.sig[::-1]}
            case 2 if version.metadata["signatures"]:
                entry = self.chance.choice(version.metadata["signatures"])
            case _:
                return msgspec.structs.replace(good, proposal=proposal.offset + 1)
        return msgspec.structs.replace(good, keyid=entry["keyid"], sig=entry["sig"])

    def _remember(self, proposal: Proposal, now: datetime) -> None:
        """Let some sign a version that ends now, because they do not know that."""
        assert proposal.record is not None
        for version in acceptance.signable(self.state, proposal.record, now):
            self._late += [self._signature(proposal, version, keyid) for keyid in self._missing(version)]

    async def _append(self, bus: Bus, key: str, record: Signature | Withdrawal | NewLifetimes | Renewal) -> None:
        await bus.append([Message(topics.ADMIN, key, records.encode(record))])


def _role(signed: Signed) -> Literal["root", "targets"]:
    return "root" if isinstance(signed, Root) else "targets"


def _unsigned(signed: Signed) -> dict[str, Any]:
    metadata: Metadata[Any] = Metadata(signed)
    return metadata.to_dict()


def _online_key(root: Root) -> str:
    (keyid,) = root.roles[Timestamp.type].keyids
    return keyid
