"""Signs the bins and custom roles of one partition: by which keys, for how long, and when again.

In: the content of bins and custom roles. Out: their next versions, signed by the keys under which they must verify, for the lifetime that
applies now. A custom role may have its own keys and lifetime; without them it has those of the bins.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tufline.metadata import envelope
from tufline.metadata.bins import Bin
from tufline.records import Head
from tufline.records.routing import Routing
from tufline.trust.roles import BINS, RoleKeys
from tufline_signer import renewal
from tufline_signer.bins.bins_log import BinsLog, SignedBin
from tufline_signer.bins.context import part
from tufline_signer.context import SignerContext
from tufline_signer.signing.key_selection import keys_of_bins, keys_of_custom
from tufline_signer.signing.keyring import ToSign


class BinsSigning:
    """Signs the bins and custom roles of one partition."""

    def __init__(self, context: SignerContext, bins: BinsLog) -> None:
        """Sign for a partition.

        Args:
            context: shared by the workers of the process.
            bins: the bins of the partition.
        """
        self._context = context
        self._bins = bins

    @property
    def _routing(self) -> Routing:
        return self._context.admin.repository.routing

    def lifetime(self, role: str = "") -> timedelta:
        """Return the lifetime of a new version.

        Args:
            role: the name of a custom role; empty for the bins.
        """
        delegation = self._routing.delegations.find(role)
        days = None if delegation is None else delegation.days
        return timedelta(days=days or self._context.admin.repository.settings.expiration_days[BINS])

    async def _under(self, role: str = "") -> list[RoleKeys]:
        """Return the keys of a custom role, or of the bins; the first ones are mandatory."""
        repository, released = self._context.admin.repository, self._context.released
        if role not in self._routing.custom_names:
            return keys_of_bins(repository, released)
        under = keys_of_custom(repository, released, role)
        can = [await self._context.keyring.can_meet(keys, part(self._bins.partition)) for keys in under]
        # A custom role's keys are changed by one call. If the previous keys are lost, the next targets wait only for the new ones.
        first = can.index(True) if True in can else 0
        return [*under[first : first + 1], *under[:first], *under[first + 1 :]]

    async def usable(self, role: str = "") -> list[RoleKeys]:
        """Return the keys under which a new version can be signed.

        Args:
            role: the name of a custom role; empty for the bins.
        """
        return [keys for keys in await self._under(role) if await self._context.keyring.can_meet(keys, part(self._bins.partition))]

    async def sign(self, contents: dict[str, Bin]) -> list[SignedBin]:
        """Sign the next versions of bins and custom roles.

        Args:
            contents: role name to content.

        Returns:
            The signed files: first the bins, then the custom roles.

        Raises:
            KeyUnavailableError: if the keys of one of them can't be used.
        """
        custom = [role for role in contents if role in self._routing.custom_names]
        bins = {role: content for role, content in contents.items() if role not in custom}
        signed = await self._sign_alike("", bins) if bins else []
        for role in custom:
            signed += await self._sign_alike(role, {role: contents[role]})
        return signed

    async def _sign_alike(self, custom: str, contents: dict[str, Bin]) -> list[SignedBin]:
        """Sign one custom role, or bins."""
        expires = envelope.expiry(self._context.clock.latest(), self.lifetime(custom))
        versions = {role: self._bins.heads[role].version + 1 if role in self._bins.heads else 1 for role in contents}
        to_sign = [ToSign(role, versions[role], expires, content.encode(versions[role], expires)) for role, content in contents.items()]
        files = await self._context.keyring.sign(await self._under(custom), to_sign, part(self._bins.partition))
        return [SignedBin(file, content) for file, content in zip(files, contents.values(), strict=True)]

    def renewal(self, role: str, head: Head, now: datetime, under: Iterable[RoleKeys], lifetime: timedelta) -> datetime:
        """Return when a bin or custom role is due for renewal.

        Args:
            role: its name.
            head: its newest head.
            now: current time, with a time zone.
            under: the keys that can sign it.
            lifetime: the lifetime of a new version.
        """
        is_signed = all(keys.are_met_by(head.keyids) for keys in under)
        if not is_signed or renewal.is_too_long(head, lifetime, now):
            return now
        return renewal.spread(role, head, lifetime, self._context.config.renew_fraction)
