"""The settings of the repository: lifetimes, thresholds, and the number of bins."""

from typing import Annotated, Final

import msgspec

from tufline.metadata.profiles import Profile
from tufline.trust.rules import MAX_EXPIRATION_DAYS
from tufline_ingest.rest.schemas.numbers import WholeNumber, whole_number

MAX_ROLES: Final = 1000
MAX_ROLE_LENGTH: Final = 256

_DAYS: Final = whole_number(minimum=1, maximum=MAX_EXPIRATION_DAYS)
_ROLE: Final = msgspec.Meta(min_length=1, max_length=MAX_ROLE_LENGTH)
_ROLES: Final = msgspec.Meta(min_length=1, max_length=MAX_ROLES)


class NewSettings(msgspec.Struct, frozen=True):
    """New settings.

    Attributes:
        expiration: role to the lifetime of each version that is signed from now on, in days.
    """

    expiration: Annotated[dict[Annotated[str, _ROLE], Annotated[WholeNumber, _DAYS]], _ROLES]


class SettingsRequest(msgspec.Struct, frozen=True):
    """A request that changes settings.

    Attributes:
        settings: the new settings; others stay as they are.
    """

    settings: NewSettings


class CustomRoleSettings(msgspec.Struct, frozen=True):
    """The settings of a custom role, which PUT /api/v1/delegations changes.

    Attributes:
        expiration: the lifetime of each version of it, in days.
        threshold: how many keys must sign it.
        num_keys: how many keys can sign it.
    """

    expiration: int
    threshold: int
    num_keys: int


class CurrentSettings(msgspec.Struct, frozen=True):
    """The settings, with RSTUF's names. Thresholds and numbers of keys are those of the newest root that enough keys signed.

    Attributes:
        bootstrap: the task id of the bootstrap.
        client_profile: the clients that must be able to read the repository.
        root_expiration: the lifetime of root, in days.
        root_threshold: how many keys must sign root.
        root_num_keys: how many keys can sign root.
        targets_expiration: the lifetime of top-level targets, in days.
        targets_threshold: how many keys must sign targets.
        targets_num_keys: how many keys can sign targets.
        targets_online_key: whether the signer signs targets.
        snapshot_expiration: the lifetime of a snapshot, in days.
        snapshot_threshold: how many keys must sign a snapshot.
        snapshot_num_keys: how many keys can sign a snapshot.
        timestamp_expiration: the lifetime of a timestamp, in days.
        timestamp_threshold: how many keys must sign a timestamp.
        timestamp_num_keys: how many keys can sign a timestamp.
        bins_expiration: the lifetime of a bin, in days.
        bins_threshold: how many keys must sign a bin.
        bins_num_keys: how many keys can sign a bin.
        number_of_delegated_bins: how many bins there are.
        custom_roles: name of each custom role to its settings.
    """

    bootstrap: str
    client_profile: Profile
    root_expiration: int
    root_threshold: int
    root_num_keys: int
    targets_expiration: int
    targets_threshold: int
    targets_num_keys: int
    targets_online_key: bool
    snapshot_expiration: int
    snapshot_threshold: int
    snapshot_num_keys: int
    timestamp_expiration: int
    timestamp_threshold: int
    timestamp_num_keys: int
    bins_expiration: int
    bins_threshold: int
    bins_num_keys: int
    number_of_delegated_bins: int
    custom_roles: dict[str, CustomRoleSettings]


class SettingsAnswer(msgspec.Struct, frozen=True):
    """The settings of the repository.

    Attributes:
        data: the settings that apply now.
        message: one sentence for people.
    """

    data: CurrentSettings
    message: str = "Current Settings"
