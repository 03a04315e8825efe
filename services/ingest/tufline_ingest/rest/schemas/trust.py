"""Trust: the bootstrap, new versions of root and targets, and what clients trust."""

from typing import Annotated, Any, Final, Literal

import msgspec

from tufline.metadata.bins import MAX_BINS, MIN_BINS
from tufline.metadata.profiles import Profile
from tufline.trust.rules import MAX_EXPIRATION_DAYS
from tufline_ingest.rest.schemas.delegations import NewDelegations
from tufline_ingest.rest.schemas.numbers import WholeNumber, whole_number

NUMBERS_OF_BINS: Final = [2**bits for bits in range(MIN_BINS.bit_length() - 1, MAX_BINS.bit_length())]

MAX_ROLES: Final = 1000
"""The most roles that a request to renew roles may name."""

_OBJECT: Final = msgspec.Meta(extra_json_schema={"type": "object"})
_OBJECT_OR_NULL: Final = msgspec.Meta(extra_json_schema={"type": ["object", "null"]})


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class RoleSettings(msgspec.Struct, frozen=True):
    """Settings of a role.

    Attributes:
        expiration: the lifetime of each version of the role, in days.
    """

    expiration: Annotated[WholeNumber, whole_number(minimum=1, maximum=MAX_EXPIRATION_DAYS)]


class BinsSettings(RoleSettings, frozen=True):
    """Settings of the bins.

    Attributes:
        number_of_delegated_bins: how many bins there are: a power of two, 2 to 16,384.
    """

    number_of_delegated_bins: Annotated[WholeNumber, whole_number(enum=NUMBERS_OF_BINS)]


class RolesSettings(msgspec.Struct, frozen=True):
    """Settings of all roles.

    Attributes:
        root: how long a version of root is valid.
        targets: how long a version of top-level targets is valid.
        snapshot: how long a snapshot is valid.
        timestamp: how long a timestamp is valid.
        bins: how many bins there are, and how long each version is valid.
        delegations: custom roles, in addition to bins or in place of them. Without bins, artifacts that no custom role is trusted for are
            refused.
    """

    root: RoleSettings
    targets: RoleSettings
    snapshot: RoleSettings
    timestamp: RoleSettings
    bins: BinsSettings | None = None
    delegations: NewDelegations | None = None


class BootstrapSettings(msgspec.Struct, frozen=True):
    """The settings of a bootstrap.

    Attributes:
        roles: the settings of each role.
        client_profile: the clients that must be able to read the repository; without it, ``rstuf`` if a key has a field of RSTUF's,
            otherwise ``standard``.
    """

    roles: RolesSettings
    client_profile: Profile | None = None


class BootstrapMetadata(msgspec.Struct, frozen=True):
    """The metadata of a bootstrap.

    Attributes:
        root: the first root, signed by its threshold.
        targets: the first targets, signed by their threshold, when targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT]
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class BootstrapRequest(msgspec.Struct, frozen=True):
    """A request to start a repository.

    Attributes:
        settings: how many bins there are, and how long each role's metadata is valid.
        metadata: the first root, and the first targets when they are offline.
        timeout: RSTUF's clients send it; it is accepted and ignored.
        replace: whether it replaces an earlier bootstrap of which nothing is published yet.
    """

    settings: BootstrapSettings
    metadata: BootstrapMetadata
    timeout: Annotated[WholeNumber | None, whole_number(type=["integer", "null"])] = 300
    replace: bool = False


class NewMetadata(msgspec.Struct, frozen=True):
    """New versions of roles that people sign.

    Attributes:
        root: the next root, signed by its own threshold and by that of the previous root.
        targets: the next targets, signed by their threshold, if targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class MetadataRequest(msgspec.Struct, frozen=True):
    """A request that submits new versions of root and targets.

    Attributes:
        metadata: the new versions: root, or targets, or both.
        skip_overlap: whether the previous online keys are lost, so that nothing waits for signatures by both old and new keys. Clients may
            fail for a moment.
    """

    metadata: NewMetadata
    skip_overlap: bool = False


class RenewalRequest(msgspec.Struct, frozen=True):
    """A request for new versions of roles that the signer signs.

    Attributes:
        roles: the roles to renew, of ``targets`` (unless people sign it), ``snapshot``, ``timestamp`` and ``bins``; empty for all of them.
    """

    roles: Annotated[list[str], msgspec.Meta(max_length=MAX_ROLES)]


class BootstrapState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of the bootstrap.

    Attributes:
        bootstrap: whether there is a repository.
        state: ``signing`` while more keys must sign it, ``pre`` until its first metadata is published, then ``finished``; left out before.
        id: the task id of the bootstrap; left out before.
    """

    bootstrap: bool
    state: Literal["pre", "signing", "finished"] | None = None
    id: str | None = None


class BootstrapAnswer(msgspec.Struct, frozen=True):
    """Whether there is a repository.

    Attributes:
        data: the state of the bootstrap.
        message: one sentence for people.
    """

    data: BootstrapState
    message: str


class TrustedRole(msgspec.Struct, frozen=True):
    """A role that people sign.

    Attributes:
        current: the version that the newest commit has.
        pending: the newest version that was submitted, or the current one if none is newer; null if the signer makes the role.
        metadata: the signed metadata of the pending version; null if the signer makes the role.
    """

    current: int
    pending: int | None
    metadata: dict[str, Any] | None


class TrustAnswer(msgspec.Struct, frozen=True):
    """The current and pending root and targets, and the keys that sign.

    Attributes:
        root: the current root, and the pending one.
        targets: the current top-level targets, and the pending ones.
        keyids: name of each role to the keys that signed its newest version.
        bins: keyid to the number of bins whose newest version it signed.
        number_of_bins: how many bins the repository has.
        custom_roles: name of each custom role to the keys that signed its newest version; none before it has one.
        waiting_root: the version of the root that is published only once people sign the next targets with its keys too; null if no root
            waits for that.
    """

    root: TrustedRole
    targets: TrustedRole
    keyids: dict[str, list[str]]
    bins: dict[str, int]
    number_of_bins: int
    custom_roles: dict[str, list[str]]
    waiting_root: int | None
