"""Custom delegations: roles below top-level targets that are not bins, each with its own paths. Pure.

A repository with custom delegations has, under targets, the custom roles in their order and then one catch-all role, which delegates to
the bins (a role's delegations are either roles or succinct roles, never both). A client looks for a path in the custom roles that match it,
in their order, up to the first that is terminating, and then in the path's bin.

In: role objects, as in RSTUF's API and in targets metadata. Out: the roles in which clients look for a path, in their order.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.path_patterns import PatternTree, check_pattern, is_ambiguous, matches

EXPIRE_POLICY: Final = "x-rstuf-expire-policy"
"""RSTUF's field of a role object: the lifetime of the role's metadata, in days."""

ALL_PATHS: Final = (*"0123456789abcdef", "")
"""The ``path_hash_prefixes`` of the catch-all role. The empty one is for go-tuf up to 2.4.2: it looks for the prefixes in the base64 of the
hash instead of its hexadecimal form (its pull request 783), which starts with none of the others for three paths of four."""

MAX_NAME: Final = 100
"""The longest name of a custom role: a file's name has at most 255 bytes."""

MAX_VISITED: Final = 32
"""How many roles a client visits for a path, at most: python-tuf's and go-tuf's ``max_delegations``, tuf-js's ``maxDelegations``."""

MAX_MATCHING: Final = MAX_VISITED - 3
"""How many custom roles may match one path: a client also visits targets, the catch-all role and the bin."""

RESERVED_NAMES: Final = frozenset({"root", "targets", "snapshot", "timestamp", "mirrors", "bins"})
"""Names that other roles have, in metadata or in the REST API."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")

NAME_PATTERN: Final = f"^{_NAME.pattern}$"
"""The names that a custom role may have, for JSON Schema."""


class Delegation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A custom role, as its parent names it (TUF specification, 4.5).

    Attributes:
        name: the role's name.
        paths: the patterns of the paths that it is trusted for.
        terminating: whether clients look no further for a path that it matches.
        keyids: the keys that may sign it; empty if the current keys of the bins sign it.
        threshold: how many of the keys must sign.
        days: the lifetime of its metadata, in days; None for the lifetime of the bins.
    """

    name: str
    paths: tuple[str, ...]
    terminating: bool = False
    keyids: tuple[str, ...] = ()
    threshold: int = 1
    days: int | None = msgspec.field(default=None, name=EXPIRE_POLICY)

    def matches(self, path: str) -> bool:
        """Return whether the role is trusted for a path.

        Args:
            path: a target path.
        """
        return any(matches(pattern, path) for pattern in self.paths)


def index_paths(roles: Sequence[Delegation]) -> PatternTree:
    """Index the paths of roles.

    Args:
        roles: the custom roles.

    Returns:
        The paths, each with the index of its role.
    """
    return PatternTree((path, number) for number, role in enumerate(roles) for path in role.paths)


class Delegations(msgspec.Struct, frozen=True, dict=True):
    """The custom delegations of a repository.

    Attributes:
        keys: keyid to key object, for the keys that the roles name.
        roles: the custom roles, in the order in which clients visit them.
    """

    keys: dict[str, dict[str, Any]]
    roles: tuple[Delegation, ...]

    @cached_property
    def offline(self) -> frozenset[str]:
        """The names of the custom roles whose keys only people have: none of their keys says where the signer finds it."""
        online = {keyid for keyid, key in self.keys.items() if key.get(ONLINE_KEY_URI)}
        return frozenset(role.name for role in self.roles if role.keyids and online.isdisjoint(role.keyids))

    def find(self, name: str) -> Delegation | None:
        """Return a custom role.

        Args:
            name: its name.

        Returns:
            The role; None if there is none of that name.
        """
        return self._by_name.get(name)

    def index(self) -> None:
        """Prepare the look-ups, which the first one would have to wait for."""
        _ = self._by_name, self._paths, self.offline

    @cached_property
    def _by_name(self) -> dict[str, Delegation]:
        return {role.name: role for role in self.roles}

    def visited(self, path: str) -> Iterator[Delegation]:
        """Return the custom roles in which a client looks for a path, in their order.

        Args:
            path: a target path.

        Yields:
            Each custom role that matches it, up to the first that is terminating.
        """
        for number in self._paths.matching(path):
            role = self.roles[number]
            yield role
            if role.terminating:
                return

    @cached_property
    def _paths(self) -> PatternTree:
        return index_paths(self.roles)


NO_DELEGATIONS: Final = Delegations({}, ())
"""The delegations of a repository without custom roles."""


def check_name(name: str, bins_prefix: str) -> None:
    """Refuse a name for a custom role that another role has, or whose file would have the name of another role's file.

    Args:
        name: the submitted name.
        bins_prefix: the prefix of the bins' names, which is also the name of the catch-all role.

    Raises:
        InvalidInputError: with the reason and what to do.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"the role name {name[:MAX_NAME]!r} can't be the name of a file: use lower-case letters, digits, '-' and '_', starting with a "
            f"letter, and at most {MAX_NAME} characters"
        )
    if name in RESERVED_NAMES or name == bins_prefix or name.startswith(f"{bins_prefix}-"):
        raise InvalidInputError(f"the role name {name!r} is, or may become, the name of another role: choose another one")


def check_roles(roles: tuple[Delegation, ...], changed: frozenset[str], bins_prefix: str) -> None:
    """Refuse custom roles that some client would read differently from the others, or for which a client would visit too many roles.

    Args:
        roles: all custom roles.
        changed: the names of those that were added or changed; the others were checked before.
        bins_prefix: the prefix of the bins' names.

    Raises:
        InvalidInputError: with the reason and what to do.
    """
    for role in roles:
        if role.name not in changed:
            continue
        check_name(role.name, bins_prefix)
        if not role.paths:
            raise InvalidInputError(f"the role {role.name!r} has no paths: name at least one pattern")
        for pattern in role.paths:
            check_pattern(pattern)
    paths = index_paths(roles)

    def around(number: int) -> set[int]:
        return {other for path in roles[number].paths for other in paths.overlapping(path)}

    for number, role in enumerate(roles):
        if role.name in changed:
            # The role itself is checked first, as it usually is the one with too many overlapping roles.
            for one in (number, *sorted(around(number) - {number})):
                if (count := len(around(one))) > MAX_MATCHING:
                    raise InvalidInputError(
                        f"{count} custom roles may match the paths of {roles[one].name!r}, but clients visit at most {MAX_VISITED} roles "
                        f"for a path (targets, {MAX_MATCHING} custom roles, {bins_prefix!r} and a bin): give fewer roles the same paths"
                    )


def check_path_under(roles: Iterator[Delegation], path: str) -> None:
    """Refuse a path if clients disagree about whether a custom role matches it.

    Args:
        roles: the custom roles that match the path.
        path: the path of a new artifact.

    Raises:
        InvalidTargetError: with the reason and what to do.
    """
    for role in roles:
        if not any(matches(pattern, path) and not is_ambiguous(pattern, path) for pattern in role.paths):
            raise InvalidTargetError(
                f"a name in the path starts with '.', which the '*' of the role {role.name!r} does not match in tuf-js: rename the file, "
                "or name the path in the role without '*'"
            )
