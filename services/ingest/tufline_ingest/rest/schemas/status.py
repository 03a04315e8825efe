"""The status of a repository."""

from datetime import datetime

import msgspec

from tufline.metadata.profiles import Profile


class StatusAnswer(msgspec.Struct, frozen=True):
    """The published versions, the backlog, expiries and problems.

    Attributes:
        version: which Tufline answers.
        log: the id of the log that this process works on.
        bootstrap: the state of the bootstrap, as in GET /api/v1/bootstrap/.
        client_profile: the clients that must be able to read the repository; null before the bootstrap.
        unreadable_hashes: hash algorithm to the clients that can't read a target that has it, of the algorithms that this repository
            accepts; null before the bootstrap.
        number_of_bins: how many bins there are; null before the bootstrap.
        number_of_custom_roles: how many custom roles there are; null before the bootstrap.
        timestamp: the version of the published timestamp; 0 before the first.
        snapshot: the version of the published snapshot; 0 before the first.
        backlog: how many accepted records of artifacts are not live yet; an estimate if there are many.
        waiting_seconds: how long the oldest record of the backlog has waited; 0 if there is none.
        held: how many changes are held until they are published.
        frozen_since: since when changes of artifacts wait until they are thawed; null if they are applied.
        expires: name of each top-level role to when its newest version expires. ``bins`` is the first bin to expire, and ``custom`` the
            first custom role; ``catch_all`` is the role that delegates to the bins if there are custom roles.
        problems: part of this process to its problem; on Kafka, signer and publisher have their own /readyz. And
            ``expiry.<role>`` for root, offline targets and custom roles that expire soon, ``held`` if few more changes can be held, and
            ``freeze`` while changes of artifacts wait.
        warnings: the parts of ``problems`` that do not keep this process from being ready.
    """

    version: str
    log: str
    bootstrap: str | None
    client_profile: Profile | None
    unreadable_hashes: dict[str, list[str]] | None
    number_of_bins: int | None
    number_of_custom_roles: int | None
    timestamp: int
    snapshot: int
    backlog: int
    waiting_seconds: int
    held: int
    frozen_since: datetime | None
    expires: dict[str, str]
    problems: dict[str, str]
    warnings: list[str]
