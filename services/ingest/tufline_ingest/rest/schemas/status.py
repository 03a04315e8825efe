"""The status of a repository."""

import msgspec


class StatusAnswer(msgspec.Struct, frozen=True):
    """What is live, and what is not yet.

    Attributes:
        version: which Tufline answers.
        log: the id of the log that this process works on.
        bootstrap: where the bootstrap stands, as in GET /api/v1/bootstrap/.
        number_of_bins: how many bins there are; null before the bootstrap.
        timestamp: the version of timestamp that the origin shows; 0 before the first.
        snapshot: the version of snapshot that the origin shows; 0 before the first.
        backlog: how many accepted records of artifacts are not live yet; where there are many, an estimate.
        waiting_seconds: how long the oldest record of the backlog has waited; 0 if there is none.
        expires: name of each role to when its newest version expires; ``bins`` stands for the first bin to expire.
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
