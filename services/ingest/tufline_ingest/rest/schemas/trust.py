"""Trust: the bootstrap, new versions of root and targets, and what clients trust."""

from typing import Annotated, Any, Final, Literal

import msgspec

from tufline.metadata.bins import MAX_BINS, MIN_BINS
from tufline.metadata.profiles import Profile
from tufline.trust.rules import MAX_EXPIRATION_DAYS

NUMBERS_OF_BINS: Final = [2**bits for bits in range(MIN_BINS.bit_length() - 1, MAX_BINS.bit_length())]

_OBJECT: Final = msgspec.Meta(extra_json_schema={"type": "object"})
_OBJECT_OR_NULL: Final = msgspec.Meta(extra_json_schema={"type": ["object", "null"]})


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class RoleSettings(msgspec.Struct, frozen=True):
    """Settings of a role.

    Attributes:
        expiration: days.
    """

    expiration: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_EXPIRATION_DAYS})]


class BinsSettings(RoleSettings, frozen=True):
    """Settings of the bins.

    Attributes:
        number_of_delegated_bins: a power of two, 2 to 16,384.
    """

    number_of_delegated_bins: Annotated[int, msgspec.Meta(extra_json_schema={"enum": NUMBERS_OF_BINS})]


class RolesSettings(msgspec.Struct, frozen=True):
    """Settings of all roles.

    Attributes:
        root: of root.
        targets: of targets.
        snapshot: of snapshot.
        timestamp: of timestamp.
        bins: of the bins.
        delegations: custom delegations in place of bins: not supported yet.
    """

    root: RoleSettings
    targets: RoleSettings
    snapshot: RoleSettings
    timestamp: RoleSettings
    bins: BinsSettings | None = None
    delegations: Annotated[dict[str, Any] | None, msgspec.Meta(extra_json_schema={"type": "null"})] = None


class BootstrapSettings(msgspec.Struct, frozen=True):
    """The settings of a bootstrap.

    Attributes:
        roles: of each role.
        client_profile: the clients that must be able to read the repository; without, ``rstuf`` if a key carries a field of RSTUF's, else
            ``standard``.
    """

    roles: RolesSettings
    client_profile: Profile | None = None


class BootstrapMetadata(msgspec.Struct, frozen=True):
    """The metadata of a bootstrap.

    Attributes:
        root: signed by its threshold.
        targets: signed by its threshold, when targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT]
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class BootstrapRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/bootstrap/.

    Attributes:
        settings: of each role.
        metadata: root, and targets when they are offline.
        timeout: RSTUF's; no meaning here.
        replace: it comes in place of an earlier one, of which nothing is published yet.
    """

    settings: BootstrapSettings
    metadata: BootstrapMetadata
    timeout: int | None = 300
    replace: bool = False


class NewMetadata(msgspec.Struct, frozen=True):
    """New versions of roles that people sign.

    Attributes:
        root: signed by its threshold, and by that of the root before.
        targets: signed by its threshold, where targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class MetadataRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/metadata/.

    Attributes:
        metadata: what is given.
        skip_overlap: the online keys before these are lost: nothing waits until it is signed by both. Clients may fail for a moment.
    """

    metadata: NewMetadata
    skip_overlap: bool = False


class BootstrapState(msgspec.Struct, frozen=True):
    """The state of the bootstrap.

    Attributes:
        bootstrap: whether there is a repository.
        state: None before, ``pre`` until its first metadata are published, then ``finished``.
        id: task id of the bootstrap.
    """

    bootstrap: bool
    state: Literal["pre", "signing", "finished"] | None
    id: str | None


class BootstrapAnswer(msgspec.Struct, frozen=True):
    """200: whether there is a repository.

    Attributes:
        data: the state.
        message: for people.
    """

    data: BootstrapState
    message: str


class TrustedRole(msgspec.Struct, frozen=True):
    """A role that people sign.

    Attributes:
        current: the version that the newest commit has.
        pending: the newest version that was submitted, the current one if none is newer; None where the signer makes the role.
        metadata: of that version.
    """

    current: int
    pending: int | None
    metadata: dict[str, Any] | None


class TrustAnswer(msgspec.Struct, frozen=True):
    """200: whom clients trust now and soon, and who signs.

    Attributes:
        root: the root.
        targets: the top-level targets.
        keyids: role to the keys that signed its newest version.
        bins: keyid to how many bins' newest version it signed.
        number_of_bins: how many there are.
    """

    root: TrustedRole
    targets: TrustedRole
    keyids: dict[str, list[str]]
    bins: dict[str, int]
    number_of_bins: int
