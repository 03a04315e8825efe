"""Errors of ingest: what a client gets when its request is not accepted.

    TuflineError
    └── IngestError                  carries the status and the body of the answer
        ├── BrokenRequestError       400: the request broke off, or its body can't be read
        ├── BadRequestError          422: the request can't be accepted
        ├── TooLargeError            413: the body is too large
        ├── UnsupportedEncodingError 415: the body's encoding is not supported
        ├── NotBootstrappedError     404: there is no repository yet (RSTUF's answer)
        ├── BootstrappedError        404: there is one already (RSTUF's answer)
        ├── NothingToSignError       404: nothing waits for signatures
        ├── TooManyPendingError      429: too many changes wait for people to sign
        ├── NotLiveError             404: no such artifact, or no such task
        └── NotNowError              503: the log or the published state is temporarily unavailable

``tufline_ingest.rest.responses`` makes an answer of each error, and logs the request.
"""

from typing import Any, ClassVar

from tufline.errors import TuflineError


class IngestError(TuflineError):
    """Base of ingest's own errors."""

    status: ClassVar[int] = 500

    @property
    def detail(self) -> Any:
        """The ``detail`` of the answer."""
        return str(self)


class BrokenRequestError(IngestError):
    """The request broke off, or its body can't be read."""

    status = 400


class BadRequestError(IngestError):
    """The request can't be accepted; the message says what to change."""

    status = 422


class TooLargeError(IngestError):
    """The body is too large.

    Args:
        most_bytes: the largest body that is accepted, in bytes.
    """

    status = 413

    def __init__(self, most_bytes: int) -> None:
        limit = f"the request is too large: at most {most_bytes} bytes are accepted, decoded (ingest.max_request_bytes)"
        super().__init__(f"{limit}; send it in parts, or as lines to /api/v1/artifacts/bulk")


class UnsupportedEncodingError(IngestError):
    """The body has a content encoding that is not supported."""

    status = 415


class NotBootstrappedError(IngestError):
    """There is no repository yet.

    Args:
        state: of the bootstrap.
        message: RSTUF's first sentence of the answer.
    """

    status = 404

    def __init__(self, state: str | None, message: str = "Task not accepted.") -> None:
        super().__init__(f"It requires bootstrap finished. State: {state}")
        self.message = message

    @property
    def detail(self) -> dict[str, str]:
        """The ``detail`` of the answer, in RSTUF's form."""
        return {"message": self.message, "error": str(self)}


class BootstrappedError(IngestError):
    """There is a repository already.

    Args:
        state: of the bootstrap.
        is_replacement: whether the request was to replace the bootstrap.
    """

    status = 404

    def __init__(self, state: str | None, *, is_replacement: bool = False) -> None:
        reason = (
            "; it can't be replaced, because its first root is on the log, or about to be: once the state is finished, "
            "change root and targets through /api/v1/metadata"
        )
        super().__init__(f"System already has a Metadata. State: {state}{reason if is_replacement else ''}")

    @property
    def detail(self) -> dict[str, str]:
        """The ``detail`` of the answer, in RSTUF's form."""
        return {"error": str(self)}


class NothingToSignError(IngestError):
    """Nothing waits for signatures."""

    status = 404

    @property
    def detail(self) -> dict[str, str]:
        """The ``detail`` of the answer, in RSTUF's form."""
        return {"message": "No metadata pending signing available", "error": str(self)}


class TooManyPendingError(IngestError):
    """Too many changes wait for people to sign their custom roles.

    Args:
        role: the role of the change.
        most: how many may wait in its partition.
    """

    status = 429

    def __init__(self, role: str, most: int) -> None:
        super().__init__(
            f"{most} changes wait already for people to sign custom roles, as many as may in the partition of {role!r} "
            "(signer.max_pending_changes): have the versions signed that GET /api/v1/metadata/sign lists, then send it again"
        )


class NotLiveError(IngestError):
    """There is no such artifact, or no such task."""

    status = 404


class NotNowError(IngestError):
    """The log or the published state is temporarily unavailable; the same request succeeds later.

    Args:
        message: what is unavailable.
        retry_after: when to try again, in seconds.
    """

    status = 503
    retriable = True

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
