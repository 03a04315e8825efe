"""Errors of the signer.

    TuflineError
    └── SignerError
        ├── InconsistentLogError     the log contradicts itself
        ├── DamagedHeadsError        a damaged record may name the newest version of a role
        └── AuditError               the use of a key can't be recorded

The signer retries after each of them, and its health reports the error meanwhile.
"""

from typing import ClassVar

from tufline.errors import RecordUnreadableError, TuflineError


class SignerError(TuflineError):
    """Base of the signer's own errors."""


class InconsistentLogError(SignerError):
    """The log contradicts itself, which a human has to investigate. The worker tries again, in case the log was read incompletely."""

    retriable: ClassVar[bool] = True


class DamagedHeadsError(SignerError):
    """A damaged record may be the one that names the newest version of a role. The worker tries again, in case it has been restored.

    Args:
        partition: the partition of ``heads`` that can't be taken over.
        damaged: the damaged record, in ``heads`` or ``metadata``.
    """

    retriable: ClassVar[bool] = True

    def __init__(self, partition: int, damaged: RecordUnreadableError) -> None:
        super().__init__(
            f"partition {partition} of heads can't be taken over, and none of its roles are signed, because a damaged record may name the "
            f"newest version of a role: {damaged}; do not delete it, or versions may be used twice "
            "(docs/how-to/lost-input.md, damaged heads)"
        )


class AuditError(SignerError):
    """The use of a key can't be recorded, so its signatures are not used. Signing resumes once recording works again."""

    retriable: ClassVar[bool] = True
