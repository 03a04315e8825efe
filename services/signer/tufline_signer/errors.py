"""Errors of the signer.

    TuflineError
    └── SignerError
        ├── InconsistentLogError     the log contradicts itself
        ├── DamagedHeadsError        a record is damaged that says which versions there are
        └── AuditError               the use of a key can't be recorded

Each is met by trying again, and shown by the signer's health meanwhile.
"""

from typing import ClassVar

from tufline.errors import RecordUnreadableError, TuflineError


class SignerError(TuflineError):
    """Base of the signer's own errors."""


class InconsistentLogError(SignerError):
    """The log contradicts itself; a human has to look. The worker tries again, in case it was read half."""

    retriable: ClassVar[bool] = True


class DamagedHeadsError(SignerError):
    """A damaged record may be the one that names the newest version of a role. The worker tries again, in case it has been restored.

    Args:
        partition: of ``heads``, which can't be taken over.
        damaged: the record, of ``heads`` or of ``metadata``.
    """

    retriable: ClassVar[bool] = True

    def __init__(self, partition: int, damaged: RecordUnreadableError) -> None:
        super().__init__(
            f"partition {partition} of heads can't be taken over, and nothing of it is signed, as a damaged record may name the newest "
            f"version of a role: {damaged}; do not delete it, which would let versions be used twice "
            "(docs/how-to/lost-input.md, damaged heads)"
        )


class AuditError(SignerError):
    """The use of a key can't be recorded, so its signatures are not used. It goes on by itself when it can."""

    retriable: ClassVar[bool] = True
