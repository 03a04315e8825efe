"""Makes and signs the files of a commit that the signer creates: snapshot, timestamp, and targets if they are online."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline.metadata import envelope
from tufline.metadata.delegations import NO_DELEGATIONS, Delegations
from tufline.metadata.envelope import parse_expires
from tufline.metadata.snapshot import Snapshot as SnapshotContent
from tufline.metadata.snapshot import encode_timestamp
from tufline.records import Bootstrap, Head, topics
from tufline.trust import roles, rules
from tufline.trust.delegated import Delegated, delegated_by, read_delegated
from tufline.trust.roles import RoleKeys
from tufline_signer import renewal
from tufline_signer.context import SignerContext
from tufline_signer.signing.key_selection import keys_of_bins, keys_of_role
from tufline_signer.signing.keyring import Sign, SignedFile, ToSign


async def delegated_of(targets: bytes) -> Delegated:
    """Return the roles to which top-level targets delegates, and their keys.

    Args:
        targets: bytes of the file.

    Raises:
        MetadataError: if it does not delegate to hash bins.
    """
    # In a thread: thousands of custom roles take tens of milliseconds.
    return await asyncio.to_thread(lambda: read_delegated(roles.parse(Targets, targets).signed))


class CommitFiles:
    """Makes the files of the commits of one takeover."""

    def __init__(self, context: SignerContext, bootstrap: Bootstrap, heads: Mapping[str, Head], part: str) -> None:
        """Prepare for the commits of one takeover.

        Args:
            context: shared by the workers of the process.
            bootstrap: the repository's bootstrap.
            heads: role to head, from the last partition of ``heads``; the commit worker keeps it up to date.
            part: the name of the commit worker, in health.
        """
        self._context = context
        self._bootstrap = bootstrap
        self._heads = heads
        self._part = part

    async def read_back(self, role: str, head: Head) -> bytes:
        """Read the newest file of a role from the log.

        Args:
            role: name of the role; not root.
            head: the role's newest head.

        Returns:
            The file.

        Raises:
            BusError: if the log can't be read now.
        """
        return await self._context.bus.read(topics.METADATA, 0, head.offset, key=role, sha256=head.sha256)

    async def make_targets(
        self, sign: Sign, version: int, root: Root, custom: Delegations = NO_DELEGATIONS
    ) -> tuple[SignedFile, Delegated]:
        """Make the top-level targets, if they are online.

        Args:
            sign: signs payloads; see ``Keyring.together``.
            version: version of the new targets.
            root: the root that names the bins' keys.
            custom: the custom delegations.

        Returns:
            The signed file, and the roles to which it delegates.
        """
        expires = envelope.expiry(self._context.clock.latest(), self._lifetime(Targets.type))
        settings = self._bootstrap.settings

        def make() -> tuple[tuple[bytes, bytes], Delegated]:
            return rules.make_targets(root, settings, custom, version, parse_expires(expires)), delegated_by(root, settings, custom)

        # In a thread: 10,000 custom roles take 0.1 s.
        content, delegated = await asyncio.to_thread(make)
        return await self._sign(sign, ToSign(Targets.type, version, expires, *content)), delegated

    async def make_catch_all(self, sign: Sign, keys: RoleKeys) -> SignedFile:
        """Make the next version of the catch-all role.

        Args:
            sign: signs payloads; see ``Keyring.together``.
            keys: the keys of the bins.

        Returns:
            The signed file.
        """
        role = self._catch_all
        version = self._next_version(role)
        expires = envelope.expiry(self._context.clock.latest(), self._lifetime(role))
        signed, in_file = rules.make_catch_all(keys, self._bootstrap.settings, version, parse_expires(expires))
        return await self._sign(sign, ToSign(role, version, expires, signed, in_file))

    async def make_snapshot(self, sign: Sign, content: SnapshotContent, now: datetime) -> SignedFile:
        """Make the next snapshot.

        Args:
            sign: signs payloads; see ``Keyring.together``.
            content: the versions that it names, encoded before any other task can run.
            now: current time, with a time zone.

        Returns:
            The signed file.
        """
        version = self._next_version(Snapshot.type)
        expires = envelope.expiry(now, self._lifetime(Snapshot.type))
        return await self._sign(sign, ToSign(Snapshot.type, version, expires, content.encode(version, expires)))

    async def make_timestamp(self, sign: Sign, snapshot_version: int, snapshot: bytes, now: datetime) -> SignedFile:
        """Make the next timestamp.

        Args:
            sign: signs payloads; see ``Keyring.together``.
            snapshot_version: version of the snapshot that it names.
            snapshot: bytes of that snapshot's file.
            now: current time, with a time zone.

        Returns:
            The signed file.
        """
        version = self._next_version(Timestamp.type)
        expires = envelope.expiry(now, self._lifetime(Timestamp.type))
        return await self._sign(
            sign, ToSign(Timestamp.type, version, expires, encode_timestamp(version, expires, snapshot_version, snapshot))
        )

    async def is_due(self, role: str, now: datetime) -> bool:
        """Return whether the newest file of a role must be replaced, even without any changes.

        Args:
            role: a role that the signer signs.
            now: current time, with a time zone.

        Returns:
            Whether its expiry nears, it was made by a wrong clock or for a longer lifetime, somebody asked for a new one, or it is not
            signed by the keys that it must be signed by now.
        """
        head = self._heads.get(role)
        if head is None or renewal.latest(head, self._lifetime(role), self._context.config.renew_fraction) <= now:
            return True
        since = self._context.admin.repository.renew_since.get(self._name(role), 0)
        if renewal.is_too_long(head, self._lifetime(role), now) or head.offset < since:
            return True
        under = self._under(role)
        is_dropped = not {keyid for keys in under for keyid in keys.keys} >= set(head.keyids)
        unmet = [keys for keys in under if not keys.are_met_by(head.keyids)]
        return is_dropped or any([await self._context.keyring.can_meet(keys, self._part) for keys in unmet])

    async def _sign(self, sign: Sign, payload: ToSign) -> SignedFile:
        (file,) = await sign(self._under(payload.role), [payload])
        return file

    @property
    def _catch_all(self) -> str:
        return self._bootstrap.settings.name_prefix

    def _under(self, role: str) -> list[RoleKeys]:
        if role == self._catch_all:
            return keys_of_bins(self._context.admin.repository, self._context.released)
        return keys_of_role(self._context.admin.repository, self._context.released, role, self._context.clock.earliest())

    def _name(self, role: str) -> str:
        """Return the name of a role in settings: those of the bins also apply to the catch-all role."""
        return roles.BINS if role == self._catch_all else role

    def _lifetime(self, role: str) -> timedelta:
        return timedelta(days=self._context.admin.repository.settings.expiration_days[self._name(role)])

    def _next_version(self, role: str) -> int:
        head = self._heads.get(role)
        return head.version + 1 if head else 1
