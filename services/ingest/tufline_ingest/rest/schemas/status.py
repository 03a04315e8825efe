"""The status of a repository."""

import msgspec


class StatusAnswer(msgspec.Struct, frozen=True):
    """200: what is live, and what is not yet.

    Attributes:
        version: of Tufline.
        log: id of the log.
        bootstrap: its state, as in GET /api/v1/bootstrap/.
        number_of_bins: None before the bootstrap.
        timestamp: version that the origin shows; 0 before the first.
        snapshot: version that the origin shows; 0 before the first.
        backlog: accepted records of artifacts that are not live yet; about, where there are many.
        waiting_seconds: for how long the oldest of them has waited; 0 if there is none.
        expires: role to when its newest version expires; of the bins the first one to expire.
        problems: part of this process to what is wrong with it; on Kafka signer and publisher have a /readyz of their own. And
            ``expiry.<role>`` for root and offline targets that expire soon.
        warnings: the parts of ``problems`` that do not keep this process from being ready.
    """

    version: str
    log: str
    bootstrap: str | None
    number_of_bins: int | None
    timestamp: int
    snapshot: int
    backlog: int
    waiting_seconds: int
    expires: dict[str, str]
    problems: dict[str, str]
    warnings: list[str]
