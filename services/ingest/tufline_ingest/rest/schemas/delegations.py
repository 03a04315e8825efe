"""Custom delegations: requests to add, replace and delete roles, and the roles that there are."""

from typing import Annotated, Any, Final

import msgspec

from tufline.metadata.delegations import EXPIRE_POLICY, MAX_NAME, NAME_PATTERN
from tufline.trust.rules import MAX_EXPIRATION_DAYS
from tufline_ingest.rest.schemas.numbers import WholeNumber, whole_number

MAX_NAMED: Final = 1000
"""The most roles that one request may name."""

MAX_PATTERNS: Final = 1000
"""The most paths of one role."""

_NAME: Final = msgspec.Meta(extra_json_schema={"type": "string", "pattern": NAME_PATTERN, "maxLength": MAX_NAME})
_DAYS: Final = whole_number(type=["integer", "null"], minimum=1, maximum=MAX_EXPIRATION_DAYS)
_NONE: Final = msgspec.Meta(extra_json_schema={"type": "null"})
_NAMED: Final = msgspec.Meta(min_length=1, max_length=MAX_NAMED)
_PATHS: Final = msgspec.Meta(min_length=1, max_length=MAX_PATTERNS)


class NewRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A custom role to add, or to put in place of the one of the same name.

    Attributes:
        name: the role's name, which is also that of its file.
        paths: patterns of the paths that it is trusted for; ``*`` stands for any characters of one directory or file name.
        terminating: whether clients look in no further role for a path that it matches.
        keyids: the keys that sign it; empty for the online keys of the bins.
        threshold: how many of these keys must sign.
        path_hash_prefixes: always null: a custom role is trusted for paths.
        expire_policy: the lifetime of each version, in days; without it, the lifetime of the bins.
    """

    name: Annotated[str, _NAME]
    paths: Annotated[list[str], _PATHS]
    terminating: bool = False
    keyids: list[str] = []
    threshold: Annotated[WholeNumber, whole_number(minimum=1)] = 1
    path_hash_prefixes: Annotated[list[str] | None, _NONE] = None
    expire_policy: Annotated[WholeNumber | None, _DAYS] = msgspec.field(default=None, name=EXPIRE_POLICY)


class NewDelegations(msgspec.Struct, frozen=True):
    """Roles to add or to replace, and their keys.

    Attributes:
        roles: the custom roles; new ones come after those that exist, in this order.
        keys: keyid to key object, for the keys that these roles name and that are not known yet. ``x-rstuf-online-key-uri`` says where the
            signer finds the private key.
    """

    roles: Annotated[list[NewRole], _NAMED]
    keys: dict[str, dict[str, Any]] = {}


class DelegationsRequest(msgspec.Struct, frozen=True):
    """A request that adds or replaces custom roles: all of them or none.

    Attributes:
        delegations: the custom roles and their keys.
    """

    delegations: NewDelegations


class NamedRole(msgspec.Struct, frozen=True):
    """A custom role to delete.

    Attributes:
        name: which role it is.
    """

    name: Annotated[str, _NAME]


class NamedRoles(msgspec.Struct, frozen=True):
    """Custom roles to delete.

    Attributes:
        roles: the roles, each by its name.
    """

    roles: Annotated[list[NamedRole], _NAMED]


class DeleteDelegationsRequest(msgspec.Struct, frozen=True):
    """A request that deletes custom roles: all of them or none.

    Attributes:
        delegations: the roles to delete.
    """

    delegations: NamedRoles


class CurrentRole(msgspec.Struct, frozen=True):
    """A custom role.

    Attributes:
        name: the role's name.
        paths: patterns of the paths that it is trusted for.
        terminating: whether clients look in no further role for a path that it matches.
        keyids: the keys that sign it; empty for the online keys of the bins.
        threshold: how many of these keys must sign.
        expire_policy: the lifetime of each version, in days; null for the lifetime of the bins.
        version: which version of it is published; 0 before the first.
        expires: when its newest version expires; null before the first.
        signed_by: the keys that signed its newest version.
    """

    name: str
    paths: list[str]
    terminating: bool
    keyids: list[str]
    threshold: int
    expire_policy: int | None = msgspec.field(name=EXPIRE_POLICY)
    version: int
    expires: str | None
    signed_by: list[str]


class CurrentDelegations(msgspec.Struct, frozen=True):
    """The custom delegations that were accepted last; they may not be published yet.

    Attributes:
        roles: the custom roles, in the order in which clients look in them.
        keys: keyid to key object, for the keys of these roles.
    """

    roles: list[CurrentRole]
    keys: dict[str, dict[str, Any]]


class DelegationsAnswer(msgspec.Struct, frozen=True):
    """The custom delegations of the repository.

    Attributes:
        data: the custom roles and their keys.
        message: one sentence for people.
    """

    data: CurrentDelegations
    message: str = "Custom delegations"
