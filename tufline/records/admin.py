"""The records of ``admin``: bootstrap, root and targets with signatures, delegations, lifetimes, renewals, publishes, freezes, losses."""

from typing import Any, Final, Literal

import msgspec

from tufline.metadata.bins import BinLayout
from tufline.metadata.delegations import Delegation, Delegations
from tufline.metadata.profiles import Profile
from tufline.records.codec import (
    DELEGATIONS_SCHEMA,
    FIRST_RULES,
    HOLD_SCHEMA,
    ONLINE_SCHEMA,
    PARTITION_BITS_SCHEMA,
    SCHEMA_VERSION,
    SIGNING_SCHEMA,
    Versioned,
    decoder,
)
from tufline.records.partitioning import Partitioning

ACCEPTED_LOSS_KEY: Final = "accepted-loss"
"""The key of ``AcceptedLoss`` in ``admin``."""

SIGNATURE_KEY: Final = "signature"
"""The key of ``Signature`` in ``admin``."""

WITHDRAWAL_KEY: Final = "withdrawal"
"""The key of ``Withdrawal`` in ``admin``."""

LIFETIMES_KEY: Final = "lifetimes"
"""The key of ``NewLifetimes`` in ``admin``."""

PUBLISH_KEY: Final = "publish"
"""The key of ``Publish`` in ``admin``, and of its receipts."""

FREEZE_KEY: Final = "freeze"
"""The key of ``Freeze`` in ``admin``."""

RENEWAL_KEY: Final = "renewal"
"""The key of ``Renewal`` in ``admin``."""

DELEGATIONS_KEY: Final = "delegations"
"""The key of ``ChangedDelegations`` in ``admin``."""


class Settings(msgspec.Struct, frozen=True):
    """The settings from the bootstrap.

    Attributes:
        number_of_bins: a power of two, 2 to 16,384.
        name_prefix: the prefix of the bins' names.
        partitions: how many partitions ``artifacts`` has.
        expiration_days: role (root, targets, snapshot, timestamp, bins) to the lifetime of its metadata, in days.
        client_profile: the clients that must be able to read the repository (``tufline.metadata.profiles``); None if the bootstrap was
            accepted before there were profiles.
        partition_bits: how many leading bits of SHA-256(path) choose the partition (``tufline.records.partitioning``), at most as many as
            choose the bin; None for the first rule. It never changes, and the number of bins never falls below the partitions in use.
        only_custom: whether only custom roles take artifacts, so that the bins stay empty (RSTUF's bootstrap without bins).
    """

    number_of_bins: int
    name_prefix: str
    partitions: int
    expiration_days: dict[str, int]
    client_profile: Profile | None = None
    partition_bits: int | None = None
    only_custom: bool = False

    @property
    def layout(self) -> BinLayout:
        """How paths are spread over bins."""
        return BinLayout.of(self.number_of_bins, self.name_prefix)

    @property
    def partitioning(self) -> Partitioning:
        """How bins are spread over partitions."""
        return Partitioning(self.layout, self.partitions, self.partition_bits)

    @property
    def schema(self) -> int:
        """The lowest schema version that a record with these settings may have."""
        if self.only_custom:
            return DELEGATIONS_SCHEMA
        return SCHEMA_VERSION if self.partition_bits is None else PARTITION_BITS_SCHEMA


class Bootstrap(Versioned, frozen=True, kw_only=True, tag="bootstrap", tag_field="kind"):
    """Topic ``admin``, key ``bootstrap``. The start of a repository. The first acceptable bootstrap is valid until another one replaces it.

    Attributes:
        settings: the settings, which never change, except for lifetimes (``NewLifetimes``).
        root: the signed root metadata.
        targets: the signed targets metadata; None if targets is online, and the signer makes it.
        replace: whether it replaces an earlier one whose root is not published yet (``BootstrapStarted``).
        rules: the version of the rules that apply to this record.
        signing: whether more keys must sign it before it is valid (``Signature``).
        delegations: the custom delegations that it begins with; None for none. Such a record has schema version ``DELEGATIONS_SCHEMA``.
    """

    settings: Settings
    root: dict[str, Any]
    targets: dict[str, Any] | None = None
    replace: bool = False
    rules: int = FIRST_RULES
    signing: bool = False
    delegations: Delegations | None = None


class BootstrapStarted(Versioned, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """Topic ``admin``, key ``begun``. The commit worker is about to publish a bootstrap's root; from here on none can replace it.

    Attributes:
        bootstrap: the offset in ``admin`` of that bootstrap; if another one has replaced it by now, this record has no effect.
    """

    bootstrap: int


class NewMetadata(Versioned, frozen=True, kw_only=True, tag="metadata", tag_field="kind"):
    """Topic ``admin``, key: role. The next version of a role that people sign; it is published once the roles below it verify under it.

    Attributes:
        role: the role of this version.
        metadata: the signed metadata of that version.
        skip_overlap: whether the keys of the previous version are lost, so that the release does not wait for signatures by them too.
        rules: the version of the rules that apply to this record.
        signing: whether more keys must sign it before it is valid (``Signature``).
        ends: the ends as in ``ChangedDelegations``, of targets with other custom delegations than before, whose record has schema version
            ``DELEGATIONS_SCHEMA``; None if the targets wait for signatures, the last of which has the ends.
    """

    role: Literal["root", "targets"]
    metadata: dict[str, Any]
    # The field's name on the log is older than its name here.
    skip_overlap: bool = msgspec.field(default=False, name="at_once")
    rules: int = FIRST_RULES
    signing: bool = False
    ends: list[int] | None = None


class Signature(Versioned, frozen=True, kw_only=True, tag="signature", tag_field="kind"):
    """Topic ``admin``, key ``SIGNATURE_KEY``. A signature for a version that waits for signatures.

    Attributes:
        role: the role of that version.
        proposal: the offset in ``admin`` of the record with that version, or with the bootstrap that it is part of.
        keyid: the id of the key that signed.
        sig: the signature in lower-case hexadecimal.
        ends: the ends as in ``NewMetadata``, if this signature makes targets with other custom delegations valid.
    """

    v: int = SIGNING_SCHEMA
    role: Literal["root", "targets"]
    proposal: int
    keyid: str
    sig: str
    ends: list[int] | None = None


class Withdrawal(Versioned, frozen=True, kw_only=True, tag="withdrawal", tag_field="kind"):
    """Topic ``admin``, key ``WITHDRAWAL_KEY``. The withdrawal of a version that waits for signatures.

    Attributes:
        proposal: the offset in ``admin`` of the record with that version, or with the bootstrap that it is part of.
    """

    v: int = SIGNING_SCHEMA
    proposal: int


class NewLifetimes(Versioned, frozen=True, kw_only=True, tag="lifetimes", tag_field="kind"):
    """Topic ``admin``, key ``LIFETIMES_KEY``. New lifetimes of roles that the signer signs, for all versions that it signs from here on.

    Attributes:
        days: role to the lifetime of its metadata, in days. A role whose lifetime can't be changed has no effect.
    """

    v: int = ONLINE_SCHEMA
    days: dict[str, int]


class Renewal(Versioned, frozen=True, kw_only=True, tag="renewal", tag_field="kind"):
    """Topic ``admin``, key ``RENEWAL_KEY``. The signer signs new versions of some of its roles, although none is due.

    Attributes:
        roles: the roles to renew; all bins count as one role.
        since: the end of ``metadata`` when the renewal was requested; each role must have a version at or above this offset.
    """

    v: int = ONLINE_SCHEMA
    roles: list[str]
    since: int


class AcceptedLoss(Versioned, frozen=True, kw_only=True, tag="accepted_loss", tag_field="kind"):
    """Topic ``admin``, key ``ACCEPTED_LOSS_KEY``. An operator accepts that records were lost before they were applied.

    Attributes:
        topic: the topic that has lost records, without the prefix.
        partition: the partition that has lost them.
        below: the offset below which every record may be lost.
    """

    topic: Literal["artifacts", "inbox"]
    partition: int
    below: int


class Publish(Versioned, frozen=True, kw_only=True, tag="publish", tag_field="kind"):
    """Topic ``admin``, key ``PUBLISH_KEY``. The changes that are held when it is requested are released.

    Attributes:
        ends: for each partition of ``artifacts``, the offset below which held changes are released. The record right below it is a mark
            that ingest appended for this publish: a ``Changes`` without changes. Whatever was on the log before the mark has a lower
            offset.
    """

    v: int = HOLD_SCHEMA
    ends: list[int]


class Freeze(Versioned, frozen=True, kw_only=True, tag="freeze", tag_field="kind"):
    """Topic ``admin``, key ``FREEZE_KEY``. From here on changes of artifacts wait on the log, or are applied again.

    Attributes:
        frozen: whether they wait.
    """

    v: int = HOLD_SCHEMA
    frozen: bool


class ChangedDelegations(Versioned, frozen=True, kw_only=True, tag="delegations", tag_field="kind"):
    """Topic ``admin``, key ``DELEGATIONS_KEY``. Custom delegations are added, replaced or deleted, all of them or none.

    Attributes:
        action: ``add``, ``update`` or ``delete``.
        keys: keyid to key object, for the keys of the roles that are not known yet.
        roles: the roles to add, after those that exist; or to put in place of those of the same name. None for ``delete``.
        deleted: the names of the roles to delete.
        ends: for each partition of ``artifacts``, the offset from which on this version routes changes. The record right below it is a
            mark, as for ``Publish``.
        rules: the version of the rules that apply to this record.
    """

    v: int = DELEGATIONS_SCHEMA
    action: Literal["add", "update", "delete"]
    keys: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    roles: list[Delegation] = msgspec.field(default_factory=list)
    deleted: list[str] = msgspec.field(default_factory=list)
    ends: list[int]
    rules: int = FIRST_RULES


AdminRecord = (
    Bootstrap
    | BootstrapStarted
    | NewMetadata
    | Signature
    | Withdrawal
    | NewLifetimes
    | Renewal
    | AcceptedLoss
    | Publish
    | Freeze
    | ChangedDelegations
)
"""Any record of ``admin``."""

admin_decoder: Final[msgspec.json.Decoder[AdminRecord]] = decoder(AdminRecord)
